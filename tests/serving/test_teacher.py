"""A teacher behind a server says what the same model says in this process, or nothing at all."""

from dataclasses import replace

import pytest
import torch
from tests.serving.conftest import ALPHABET, QUICK
from tests.serving.fake import FakeServer, answered_by, fails

from tutelage.errors import ConfigError, PreflightError, ServerError, TeacherError
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource, load, load_without_weights
from tutelage.objectives import measure
from tutelage.teachers import Scorer, build
from tutelage.teachers.parts import ModelTeacher, NoContext, ReferenceSolution, ServedTeacher
from tutelage.types import Author, Example, Rollout, SampledSignal, StepBatch, TopKSignal

VOCAB = 19
EXAMPLES = [
    Example(id="a", prompt="1+1=", solution="2;"),
    Example(id="b", prompt="12+30=", solution="42;"),
    Example(id="c", prompt="3=", solution=None),
]
CONTEXT = ReferenceSolution(plain_template="{context}\n{prompt}")


def rollouts_of(tokenizer, responses=("2;", "4a1b", "33")) -> list[Rollout]:
    found = list[Rollout]()
    for group, (example, text) in enumerate(zip(EXAMPLES, responses, strict=True)):
        ids = torch.tensor([*tokenizer(text)["input_ids"], 17])
        authors = torch.full_like(ids, int(Author.STUDENT))
        authors[1] = int(Author.NONE)  # read, and not scored
        found.append(
            Rollout(
                example=example,
                group=group,
                prompt_ids=torch.tensor(tokenizer(str(example.prompt))["input_ids"]),
                response_ids=ids,
                authors=authors,
                behaviour_log_probs=torch.zeros(len(ids)),
                finish="stop",
                text=text,
            )
        )
    return found


def part_of(server: FakeServer, **settings) -> ServedTeacher:
    return ServedTeacher(url=server.url, model=server.model.name, patience=QUICK, **settings)


def scorer(part: ServedTeacher, *, vocab: int = VOCAB) -> Scorer:
    shell = load_without_weights(ModelSource(path=part.model), max_context=127)
    return build(part, student=shell, load=lambda part: shell, vocab=vocab, microbatch_tokens=64)


def in_process(model, context) -> Scorer:
    return build(
        ModelTeacher(model="unused", context=context), student=model, load=lambda part: model, vocab=VOCAB, microbatch_tokens=64
    )


@pytest.mark.parametrize("context", [NoContext(), CONTEXT], ids=["plain", "context"])
@pytest.mark.parametrize("k", [0, 4])
def test_a_served_teacher_says_what_the_same_model_says_in_this_process(server, served_model, k, context):
    batch = StepBatch.of(rollouts_of(served_model.tokenizer))
    served, local = scorer(part_of(server, k=k, context=context)), in_process(served_model, context)
    found, expected = served.score(batch), local.score(batch)
    assert found.reasons == expected.reasons
    assert torch.equal(found.rows_taught, expected.rows_taught)
    head = expected.signal.head
    truth = (expected.signal.hidden @ head.weight.T).log_softmax(-1)[found.rows_taught]
    token = batch.token[found.rows_taught]
    torch.testing.assert_close(
        found.signal.sampled[found.rows_taught], truth.gather(-1, token.unsqueeze(-1)).squeeze(-1), rtol=0, atol=1e-5
    )
    assert served.provides == found.signal.provides
    if k:
        assert isinstance(found.signal, TopKSignal)
        torch.testing.assert_close(found.signal.log_probs[found.rows_taught], truth.topk(k).values, rtol=0, atol=1e-5)
        assert torch.equal(found.signal.ids[found.rows_taught], truth.topk(k).indices)
    else:
        assert isinstance(found.signal, SampledSignal)


def test_prompts_are_those_of_the_teacher_in_process(server, served_model):
    batch = StepBatch.of(rollouts_of(served_model.tokenizer))
    served, local = scorer(part_of(server, context=CONTEXT)), in_process(served_model, CONTEXT)
    for mine, theirs in zip(served.reading.prompts(batch), local.reading.prompts(batch), strict=True):
        assert mine.reason == theirs.reason
        assert (mine.token_ids is None) == (theirs.token_ids is None)
        if mine.token_ids is not None:
            assert torch.equal(mine.token_ids, theirs.token_ids)


def test_only_what_is_asked_about_is_sent(server, served_model):
    batch = StepBatch.of(rollouts_of(served_model.tokenizer))
    served = scorer(part_of(server))
    server.requests.clear()
    found = served.score(batch, only=[1])
    sent = [prompt for _, request in server.requests for prompt in request["prompt"][1:]]
    assert sent == [[*batch.rollouts[1].prompt_ids.tolist(), *batch.rollouts[1].response_ids.tolist()]]
    assert torch.equal(found.rows_taught, batch.rollout == 1)
    server.requests.clear()
    nobody = served.score(batch, only=[])
    assert not server.requests
    assert not nobody.rows_taught.any()


def test_signals_of_rows_that_are_not_taught_are_harmless(server, served_model):
    batch = StepBatch.of(rollouts_of(served_model.tokenizer))
    signal = scorer(part_of(server, k=4, context=CONTEXT)).score(batch).signal
    assert bool((signal.log_probs.exp().sum(-1) < 1.0 + 1e-6).all())
    assert signal.sampled.isfinite().all()
    own = in_process(served_model, NoContext()).score(batch).signal
    found = measure(batch, hidden=own.hidden, head=own.head, teachers={"teacher": signal})
    torch.testing.assert_close(found["teacher_log_prob"], signal.sampled)


def test_a_rollout_that_the_server_has_no_room_for_is_skipped_with_the_reason(start, served_model):
    server = start(served_model, max_model_len=64)
    part = part_of(server)
    shell = load_without_weights(ModelSource(path=part.model), max_context=8)
    short = build(part, student=shell, load=lambda part: shell, vocab=VOCAB, microbatch_tokens=64)
    reasons = short.score(StepBatch.of(rollouts_of(served_model.tokenizer))).reasons
    assert [reason.startswith("skipped:prompt and response exceed") for reason in reasons] == [False, True, False]


def test_a_server_with_another_tokenizer_is_refused(start, served_model, tmp_path):
    other = make_model(tmp_path / "other", tokenizer=make_tokenizer(ALPHABET[::-1]), shape=Shape(hidden=16), seed=1)
    server = start(load(ModelSource(path=str(other)), role="teacher"))
    part = replace(part_of(server), model=served_model.name)
    with pytest.raises(PreflightError, match="serves another model than the one that was named"):
        scorer(part)


def test_a_server_that_gives_fewer_entries_than_asked_for_is_refused_before_the_first_step(start, served_model):
    with pytest.raises(ServerError, match="--max-logprobs 9"):
        scorer(part_of(start(served_model, max_logprobs=3), k=9))


def test_replicas_that_disagree_are_refused_before_the_first_step(server, other_model):
    part = part_of(server)
    server.faults.extend([None, answered_by(other_model)] * 8)
    with pytest.raises(ServerError, match="Replicas"):
        scorer(part)


def test_a_restart_with_other_weights_gives_no_supervision_and_the_first_model_goes_on(server, served_model, other_model):
    batch = StepBatch.of(rollouts_of(served_model.tokenizer))
    teacher = scorer(part_of(server))
    before = teacher.score(batch).signal.sampled
    server.model = other_model
    with pytest.raises(ServerError, match="not those that answered before"):
        teacher.score(batch)
    server.model = served_model
    torch.testing.assert_close(teacher.score(batch).signal.sampled, before)


def test_a_resumed_run_knows_its_teacher_again(server, served_model, other_model):
    state = scorer(part_of(server)).state_dict()
    scorer(part_of(server)).load_state_dict(state)
    server.model = other_model
    changed = scorer(replace(part_of(server), model=served_model.name))
    with pytest.raises(ServerError, match="not those that answered before"):
        changed.load_state_dict(state)


def test_entries_outside_of_the_shared_ids_are_refused(start, tmp_path):
    shape = Shape(hidden=16, initial_std=0.4, vocab_size=64)
    padded = make_model(tmp_path / "padded", tokenizer=make_tokenizer(ALPHABET), shape=shape, seed=2)
    model = load(ModelSource(path=str(padded)), role="teacher")
    teacher = scorer(part_of(start(model), k=8))
    with pytest.raises(TeacherError, match="outside of the 19 ids"):
        teacher.score(StepBatch.of(rollouts_of(model.tokenizer)))


def test_a_server_that_fails_in_the_middle_of_a_step_gives_no_part_of_it(server, served_model):
    teacher = scorer(part_of(server))
    server.faults.extend([None, *[fails(500)] * 50])
    with pytest.raises(ServerError, match="status 500"):
        teacher.score(StepBatch.of(rollouts_of(served_model.tokenizer)))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="k >= 0"):
        ServedTeacher(k=-1)
    with pytest.raises(ConfigError, match="tolerance_nats > 0"):
        ServedTeacher(tolerance_nats=0.0)


def test_a_model_without_weights_answers_what_a_preflight_asks(served_model):
    shell = load_without_weights(ModelSource(path=served_model.name), max_context=100)
    assert shell.device.type == "meta"
    assert (shell.vocab_size, shell.stop_token_ids) == (served_model.vocab_size, served_model.stop_token_ids)
    assert (shell.max_context, served_model.max_context) == (100, 512)
