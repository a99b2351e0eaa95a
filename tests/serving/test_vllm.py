"""Against real servers: vLLM on this machine, started by `make serve-test`, whose truth is transformers in this process."""

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tutelage import recipes
from tutelage.data import DataSource
from tutelage.errors import ServerError
from tutelage.evaluation import EvaluationSettings
from tutelage.models import LanguageModel, ModelSource, load, load_without_weights
from tutelage.objectives import ForwardKL, TopK
from tutelage.rollouts.drawing import distribution
from tutelage.rollouts.sampler_parts import ServedStudent
from tutelage.rollouts.served import ServedSampler
from tutelage.rollouts.served_copy import ServedCopy
from tutelage.rollouts.sources import Sampling
from tutelage.rollouts.synced import SyncedSampler
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.serving import VLLM, Transport
from tutelage.serving.control import Control
from tutelage.teachers import build
from tutelage.teachers.parts import ModelTeacher, NoContext, ReferenceSolution, ServedTeacher
from tutelage.tracking import events
from tutelage.tracking.rollout_table import read_table
from tutelage.training import checkpoint
from tutelage.training.settings import (
    AsynchronousSettings,
    CheckpointSettings,
    LoggingSettings,
    OptimiserSettings,
    TrainingSettings,
)
from tutelage.types import Author, Example, Rollout, StepBatch

pytestmark = [pytest.mark.served, pytest.mark.timeout(600)]

PROMPTS = [[1, 10, 1, 11], [2, 10, 2, 11], [3, 11], [9, 10, 9, 10, 9, 11]]


@dataclass(frozen=True)
class Place:
    """A server and the folder that it serves."""

    url: str
    folder: str


def place(role: str) -> Place:
    return Place(**json.loads(os.environ["TUTELAGE_SERVERS"])[role])


@pytest.fixture(scope="module")
def teacher() -> LanguageModel:
    return load(ModelSource(path=place("teacher").folder), role="teacher")


@pytest.fixture
def student() -> LanguageModel:
    return load(ModelSource(path=place("student").folder), role="student")


def synced(student: LanguageModel) -> SyncedSampler:
    part = ServedStudent(url=place("student").url)
    return SyncedSampler(ServedCopy(part, student, vocab=student.tokenizer_size, stop_token_ids=frozenset({17})), student)


def client_of(role: str) -> VLLM:
    return VLLM(Transport(place(role).url))


def step(model: LanguageModel, count: int = 24) -> StepBatch:
    draws = torch.Generator().manual_seed(0)
    found = list[Rollout]()
    for group in range(count):
        ids = torch.randint(0, 18, (int(torch.randint(1, 60, (), generator=draws)),), generator=draws)
        prompt = f"{group}+{group}="
        found.append(
            Rollout(
                example=Example(id=str(group), prompt=prompt, solution=f"{2 * group};"),
                group=group,
                prompt_ids=torch.tensor(model.tokenizer(prompt)["input_ids"]),
                response_ids=ids,
                authors=torch.full_like(ids, int(Author.STUDENT)),
                behaviour_log_probs=torch.zeros(len(ids)),
                finish="length",
                text="",
            )
        )
    return StepBatch.of(found)


@pytest.mark.parametrize(
    "context", [NoContext(), ReferenceSolution(plain_template="{context}\n{prompt}")], ids=["plain", "context"]
)
@pytest.mark.parametrize("k", [0, 8, 20])
def test_a_served_teacher_is_the_local_teacher_on_the_same_ids(teacher, k, context):
    batch, vocab = step(teacher), teacher.tokenizer_size
    shell = load_without_weights(ModelSource(path=place("teacher").folder), max_context=255)
    served = build(
        ServedTeacher(url=place("teacher").url, model=place("teacher").folder, k=k, context=context),
        student=teacher,
        load=lambda part: shell,
        vocab=vocab,
        microbatch_tokens=4096,
    )
    local = build(
        ModelTeacher(model="here", context=context),
        student=teacher,
        load=lambda part: teacher,
        vocab=vocab,
        microbatch_tokens=4096,
    )
    found, expected = served.score(batch), local.score(batch)
    truth = (expected.signal.hidden @ expected.signal.head.weight.T).log_softmax(-1)
    torch.testing.assert_close(found.signal.sampled, truth.gather(-1, batch.token.unsqueeze(-1)).squeeze(-1), rtol=0, atol=1e-5)
    if k:
        torch.testing.assert_close(found.signal.log_probs, truth.topk(k).values, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.signal.log_probs, truth.gather(-1, found.signal.ids), rtol=1e-5, atol=1e-5)
    assert served.figures()["serving/teacher_gap_nats"] < 1e-5


def test_the_limits_of_the_server_are_explained():
    client = client_of("teacher")
    assert client.max_model_len == 256
    with pytest.raises(ServerError, match="--max-logprobs 65"):
        client.score([[1, 2, 3]], first=[1], k=65)
    with pytest.raises(ServerError, match="--max-model-len"):
        client.score([[1] * 256], first=[1], k=0)
    assert len(client.score([[1] * client.max_scored_tokens], first=[1], k=0)[0].sampled) == 254
    with pytest.raises(ServerError, match="another tokenizer"):
        client.score([[1, 4000]], first=[1], k=0)
    with pytest.raises(ServerError, match="should serve the model 'somebody'"):
        VLLM(Transport(place("teacher").url), name="somebody")


def test_which_log_probs_a_server_reports_is_found_out():
    assert not client_of("teacher").reports_processed([1, 2])
    assert client_of("student").reports_processed([1, 2])


SAMPLINGS = {
    "plain": Sampling(max_new_tokens=24),
    "filtered": Sampling(temperature=0.6, top_k=5, top_p=0.9, max_new_tokens=24),
    "greedy": Sampling(temperature=0.0, max_new_tokens=24),
}


@pytest.mark.parametrize("name", list(SAMPLINGS))
def test_log_probs_of_drawn_tokens_are_those_of_transformers(student, name):
    sampling = SAMPLINGS[name]
    sampler = synced(student)
    found = sampler.sample(PROMPTS * 4, sampling, seed=5)
    again = sampler.sample(PROMPTS * 4, sampling, seed=5)
    for prompt, sample, twin in zip(PROMPTS * 4, found, again, strict=True):
        assert torch.equal(sample.token_ids, twin.token_ids), "the same seed gives the same response"
        with torch.no_grad():
            logits = student.model(torch.tensor([[*prompt, *sample.token_ids.tolist()]])).logits[0, len(prompt) - 1 : -1]
        rows = distribution(logits, Sampling() if sampling.temperature == 0.0 else sampling)
        truth = rows.gather(-1, sample.token_ids.unsqueeze(-1)).squeeze(-1)
        torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5 if name == "plain" else 1e-4)
        assert (sample.finish == "stop") == (int(sample.token_ids[-1]) == 17)


def test_first_tokens_come_as_often_as_their_probabilities_say(student):
    sampler = synced(student)
    draws = 600
    found = sampler.sample([PROMPTS[0]] * draws, Sampling(max_new_tokens=1), seed=11)
    counts = Counter(int(sample.token_ids[0]) for sample in found)
    with torch.no_grad():
        chances = student.model(torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    expected = draws * chances
    seen = torch.tensor([float(counts[index]) for index in range(len(chances))])
    large = expected >= 5.0  # the usual condition of Pearson's test; the rest is one class
    classes = torch.stack([torch.cat([side[large], side[~large].sum().unsqueeze(0)]) for side in (seen, expected)])
    statistic = float(((classes[0] - classes[1]) ** 2 / classes[1].clamp(min=1e-9)).sum())
    freedom = int(large.sum())
    assert statistic < freedom + 5.0 * (2.0 * freedom) ** 0.5, "five standard deviations of chi-squared"


def moved(student: LanguageModel) -> None:
    with torch.no_grad():
        for parameter in student.trainable_parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))


def test_weights_of_a_tied_model_follow_with_the_worker_extension(student):
    assert student.config.tie_word_embeddings
    sampler = synced(student)
    for _ in range(3):
        moved(student)
        sampler.sample(PROMPTS, Sampling(max_new_tokens=4), seed=0)
        assert sampler.figures()["serving/sync_gap_nats"] < 1e-5


def test_without_the_extension_a_tied_head_stays_old_and_the_run_is_refused(student, monkeypatch):
    """The server says that the weights were reloaded; its log-probs are off by more than a nat's tenth."""
    begin = Control.__init__

    def without_extension(self: Control, transport: Transport) -> None:
        begin(self, transport)
        self.extended, self._method = False, "reload_weights"

    monkeypatch.setattr(Control, "__init__", without_extension)
    with pytest.raises(ServerError, match=r"--worker-extension-cls tutelage\.vllm_worker\.RebuildHead") as caught:
        synced(student)
    gap = float(str(caught.value).partition("trainer's by ")[2].partition(" nats")[0])
    assert gap > 0.1
    monkeypatch.undo()
    synced(student)  # mended: the extension packs the head again


def config(tmp_path: Path, **changes) -> RunConfig:
    data = tmp_path / "sums.jsonl"
    rows = [{"id": str(i), "prompt": f"{i}+{i}=", "answer": str(2 * i)} for i in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = RunConfig(
        recipe=recipes.opd(place("teacher").folder, n=2, max_new_tokens=8),
        student=ModelSource(path=place("student").folder),
        data=DataSource(path=str(data)),
        optimiser=OptimiserSettings(learning_rate=1e-2),
        training=TrainingSettings(num_steps=3, prompts_per_step=4),
        checkpoints=CheckpointSettings(every=0),
        output=str(tmp_path / "run"),
    )
    return replace(base, **changes)


def served_teacher(k: int = 0) -> ServedTeacher:
    return ServedTeacher(url=place("teacher").url, model=place("teacher").folder, k=k)


@pytest.mark.parametrize("k", [0, 6])
def test_a_run_with_a_served_teacher_gives_the_student_of_the_run_with_the_local_one(tmp_path, k):
    local = config(tmp_path)
    if k:
        term = replace(local.recipe.terms[0], signal=ForwardKL(support=TopK(k=k)))
        local = replace(local, recipe=replace(local.recipe, terms=(term,)))
    first = api.train(local)
    recipe = replace(local.recipe, teacher=served_teacher(k))
    second = api.train(replace(local, recipe=recipe, output=str(tmp_path / "served")))
    one, other = load_file(first.student / "model.safetensors"), load_file(second.student / "model.safetensors")
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-4)


def test_a_run_in_which_both_are_served_logs_a_gap_near_nothing_at_every_step(tmp_path):
    base = config(tmp_path, sampler=ServedStudent(url=place("student").url))
    result = api.train(replace(base, recipe=replace(base.recipe, teacher=served_teacher())))
    found = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if "train/loss_nats" in event.metrics]
    assert len(found) == 3
    assert max(metrics["serving/sync_gap_nats"] for metrics in found) < 1e-5
    assert max(metrics["signal/sampler_gap_nats"] for metrics in found) < 1e-5
    assert max(metrics["serving/teacher_gap_nats"] for metrics in found) < 1e-5


def test_a_run_in_which_both_are_served_may_write_a_step_ahead(tmp_path):
    """Every step's responses are drawn with the weights of the step before, and the server is checked after each exchange."""
    base = config(
        tmp_path,
        sampler=ServedStudent(url=place("student").url),
        asynchronous=AsynchronousSettings(staleness=1),
        checkpoints=CheckpointSettings(every=1, keep=4),
        logging=LoggingSettings(rollouts_every=1),
    )
    base = replace(base, evaluation_data=base.data, evaluation=EvaluationSettings(every=1, max_new_tokens=4))
    result = api.train(replace(base, recipe=replace(base.recipe, teacher=served_teacher())))
    saved = [one.student for one in checkpoint.whole(result.folder / "checkpoints")]
    writers = [Path(place("student").folder), *saved]
    for step in range(3):
        writer = load(ModelSource(path=str(writers[max(step - 1, 0)])), role="student")
        for row in read_table(result.folder / "rollouts" / f"step-{step + 1:06d}.parquet"):
            with torch.no_grad():
                logits = writer.model(torch.tensor([[*row.prompt_ids, *row.token_ids]])).logits[0, len(row.prompt_ids) - 1 : -1]
            truth = logits.log_softmax(-1).gather(-1, torch.tensor(row.token_ids).unsqueeze(-1)).squeeze(-1)
            torch.testing.assert_close(torch.tensor(row.behaviour_log_probs), truth, rtol=0, atol=1e-4)
    found = [event.metrics for event in events.read(result.folder / "metrics.jsonl") if event.kind == "train"]
    assert [metrics["rollout/staleness_max_steps"] for metrics in found] == [0.0, 1.0, 1.0]
    gaps = [metrics["serving/sync_gap_nats"] for metrics in found if "serving/sync_gap_nats" in metrics]
    assert gaps
    assert max(gaps) < 1e-5
    assert found[-1]["signal/sampler_gap_nats"] > 1e-3, "the student that is trained is not the one that wrote"


def test_a_teacher_that_writes_can_be_served(teacher):
    sampler = ServedSampler(client_of("teacher"), vocab=22, rows=teacher.vocab_size, stop_token_ids=frozenset({17}))
    sample = sampler.sample(PROMPTS[:1], Sampling(max_new_tokens=12), seed=3)[0]
    with torch.no_grad():
        logits = teacher.model(torch.tensor([[*PROMPTS[0], *sample.token_ids.tolist()]])).logits[0, 3:-1]
    truth = logits.log_softmax(-1).gather(-1, sample.token_ids.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(sample.log_probs, truth, rtol=0, atol=1e-5)
