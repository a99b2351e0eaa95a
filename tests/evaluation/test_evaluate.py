import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import pytest
import torch

from tutelage.errors import ConfigError, DataError
from tutelage.evaluation import EvaluationSettings, evaluate
from tutelage.rollouts.sampler import Sample
from tutelage.tracking.registry import METRICS
from tutelage.types import Author, StepBatch, Verdict
from tutelage.verifiers import ExactMatch, NoVerifier, build

STOP = 99


class Dice:
    """Greedy: the prompt's own id. Sampled: one of 0 to 3, by the seed and the place in the call."""

    def __init__(self) -> None:
        self.calls = []

    def sample(self, prompts: Sequence[Sequence[int]], sampling, *, seed, max_new_tokens=None):
        self.calls.append((len(prompts), sampling))
        drawn = [random.Random(f"{seed}/{place}").randrange(4) for place in range(len(prompts))]
        tokens = [ids[0] for ids in prompts] if sampling.temperature == 0.0 else drawn
        log_probs = torch.tensor([-0.5, 0.0])
        return [Sample(token_ids=torch.tensor([token, STOP]), log_probs=log_probs, finish="stop") for token in tokens]


@dataclass
class Measured:
    batch: StepBatch
    statistics: dict[str, torch.Tensor]


def by_token(rollouts):
    """A divergence that is the token's id, so that its mean can be read off the responses."""
    batch = StepBatch.of(rollouts)
    return Measured(batch=batch, statistics={"reverse_kl_nats": batch.token.double(), "forward_kl_nats": batch.token / 2})


def run(prompts, *, sampler=None, verifier=None, settings=None, seed=0, **more):
    return evaluate(
        prompts,
        sampler=sampler or Dice(),
        decode=lambda ids: str(ids[0]),
        verifier=verifier or build(ExactMatch()),
        settings=settings or EvaluationSettings(max_new_tokens=8, samples=4),
        seed=seed,
        **more,
    )


@pytest.fixture
def prompts(prompt):
    return [prompt(number, answer=str(number % 2)) for number in range(4)]


def test_greedy_and_sampled_responses_are_written_and_judged_apart(prompts):
    result = run(prompts)
    assert result.metrics["eval/greedy_accuracy_fraction"] == 0.5  # of 0, 1, 2, 3 the first two are their own remainder
    own = [rollout.text == rollout.example.answer for rollout in result.sampled.rollouts]
    assert len(own) == 16
    assert result.metrics["eval/avg_at_k_fraction"] == pytest.approx(sum(own) / 16)
    any_right = [any(own[4 * place : 4 * place + 4]) for place in range(4)]
    assert result.metrics["eval/pass_at_k_fraction"] == pytest.approx(sum(any_right) / 4)
    assert result.metrics["eval/mean_length_tokens"] == 2.0
    assert result.metrics["eval/truncated_fraction"] == result.metrics["eval/repetition_fraction"] == 0.0


def test_rollouts_say_who_wrote_what_to_which_prompt(prompts):
    result = run(prompts, step=70)
    assert [rollout.group for rollout in result.rollouts] == [place for place in range(4) for _ in range(4)]
    for rollout in result.rollouts:
        assert rollout.example is prompts[rollout.group].example
        assert (rollout.authors == Author.STUDENT).all()
        assert rollout.behaviour_log_probs.tolist() == [-0.5, 0.0]
        assert (rollout.policy_step, rollout.finish, rollout.text) == (70, "stop", str(int(rollout.response_ids[0])))


def test_every_number_has_an_interval_around_it(prompts):
    result = run(prompts, score=by_token)
    assert result.intervals.keys() == result.metrics.keys()
    for name, value in result.metrics.items():
        low, high = result.intervals[name]
        assert low <= value <= high


def test_every_number_is_declared_and_every_declared_number_is_given(prompts, rollout):
    def score(rollouts):
        batch = StepBatch.of(rollouts)
        names = ("reverse_kl_nats", "forward_kl_nats", "student_entropy_nats")
        return Measured(batch=batch, statistics={name: torch.ones(batch.num_rows) for name in names})

    result = run(prompts, score=score, teacher_texts=[rollout(0, [1])])
    assert set(result.metrics) == {name for name in METRICS if name.startswith("eval/")}


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(prompts):
    first, again, other = run(prompts, seed=1), run(prompts, seed=1), run(prompts, seed=2)
    assert (first.metrics, first.intervals) == (again.metrics, again.intervals)
    assert [r.text for r in first.rollouts] != [r.text for r in other.rollouts]


def test_divergences_are_measured_on_the_students_own_sampled_text(prompts):
    result = run(prompts, score=by_token)
    tokens = torch.cat([rollout.response_ids for rollout in result.sampled.rollouts]).double()
    assert result.metrics["eval/reverse_kl_nats"] == pytest.approx(float(tokens.mean()))
    assert result.metrics["eval/forward_kl_nats"] == pytest.approx(float(tokens.mean()) / 2)
    assert "eval/student_entropy_nats" not in result.metrics


def test_the_forward_divergence_is_also_measured_on_given_teacher_texts(prompts, rollout):
    result = run(prompts, score=by_token, teacher_texts=[rollout(0, [10, 20]), rollout(1, [60])])
    assert result.metrics["eval/teacher_text_forward_kl_nats"] == pytest.approx((5 + 10 + 30) / 3)


def test_every_interval_has_the_examples_that_its_mean_is_made_of(prompts, rollout):
    found = run(prompts, score=by_token, teacher_texts=[rollout(1, [5, 6])])
    assert found.prompts.keys() == found.intervals.keys()
    for name, by_example in found.prompts.items():
        values, weights = zip(*by_example.values(), strict=True)
        assert found.metrics[name] == pytest.approx(sum(map(prod, by_example.values())) / sum(weights)), (name, values)
    assert set(found.prompts["eval/greedy_accuracy_fraction"]) == {prompt.example.id for prompt in prompts}
    assert set(found.prompts["eval/teacher_text_forward_kl_nats"]) == {"row-1"}


@pytest.mark.parametrize("greedy", [True, False])
def test_one_response_to_each_of_the_first_prompts_is_kept_for_writing_down(prompts, greedy):
    settings = EvaluationSettings(greedy=greedy, samples=3, written=2, max_new_tokens=4)
    found = run(prompts, settings=settings, score=by_token)
    assert found.written is not None
    assert found.measured is not None
    source = found.greedy if greedy else found.sampled
    assert source is not None
    assert [rollout.group for rollout in found.written.rollouts] == [0, 1]
    assert all(any(rollout is other for other in source.rollouts) for rollout in found.written.rollouts)
    assert run(prompts, settings=replace(settings, written=0)).written is None


def test_without_samples_the_greedy_text_is_described(prompts):
    sampler = Dice()
    result = run(prompts, sampler=sampler, settings=EvaluationSettings(samples=0, max_new_tokens=8), score=by_token)
    assert [(count, sampling.temperature) for count, sampling in sampler.calls] == [(4, 0.0)]
    assert result.sampled is None
    assert result.rollouts == result.greedy.rollouts
    assert result.metrics["eval/reverse_kl_nats"] == pytest.approx((0 + 1 + 2 + 3 + 4 * STOP) / 8)
    assert "eval/avg_at_k_fraction" not in result.metrics


def test_without_greedy_only_samples_are_written(prompts):
    sampler = Dice()
    settings = EvaluationSettings(greedy=False, samples=3, k=2, temperature=0.7, top_p=0.9, max_new_tokens=8)
    result = run(prompts, sampler=sampler, settings=settings)
    ((count, sampling),) = sampler.calls
    assert (count, sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (12, 0.7, 0.9, 8)
    assert result.greedy is None
    assert "eval/greedy_accuracy_fraction" not in result.metrics


def test_without_a_verdict_no_accuracy_is_claimed(prompts):
    result = run(prompts, verifier=build(NoVerifier()))
    assert set(result.metrics) == {"eval/mean_length_tokens", "eval/truncated_fraction", "eval/repetition_fraction"}


def test_only_the_first_prompts_are_used_and_zero_uses_all(prompts):
    few = run(prompts, settings=EvaluationSettings(num_prompts=2, samples=0, max_new_tokens=8))
    assert [rollout.example.id for rollout in few.rollouts] == ["row-0", "row-1"]
    every = run(prompts, settings=EvaluationSettings(num_prompts=0, samples=0, max_new_tokens=8))
    assert len(every.rollouts) == 4


def test_an_evaluation_without_prompts_is_refused():
    with pytest.raises(DataError, match="no prompt to evaluate on"):
        run([])


def test_an_evaluation_without_a_length_is_refused(prompts):
    with pytest.raises(ConfigError, match=r"Set evaluation\.max_new_tokens"):
        run(prompts, settings=EvaluationSettings())


def test_a_real_model_is_always_right_about_its_own_greedy_text(data_folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tutelage.models import ModelSource, load
    from tutelage.rollouts.sample import Prompt
    from tutelage.rollouts.sampler import CachedSampler
    from tutelage.types import Example

    folder = str(data_folder / "models" / "stories260K")
    tokenizer, reference = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompts = []
    for number, start in enumerate(["Once upon a time", "The bear", "One day, a little girl named Lily"]):
        ids = tokenizer(start, return_tensors="pt").input_ids
        written = reference.generate(ids, do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
        example = Example(id=str(number), prompt=start, answer=tokenizer.decode(written))
        prompts.append(Prompt(example=example, token_ids=ids[0]))
    student = load(ModelSource(path=folder), role="student", device="cpu")
    sampler = CachedSampler(student, vocab=student.tokenizer_size, stop_token_ids=student.stop_token_ids)
    settings = EvaluationSettings(samples=2, max_new_tokens=12)
    verifier = build(ExactMatch())
    result = evaluate(prompts, sampler=sampler, decode=tokenizer.decode, verifier=verifier, settings=settings, seed=0)
    assert result.metrics["eval/greedy_accuracy_fraction"] == 1.0
    assert result.metrics["eval/mean_length_tokens"] == 12.0


def test_a_student_that_does_not_write_alone_is_evaluated_on_what_is_written_with_others(prompts, rollout):
    asked, sampler = [], Dice()

    def write(read, sampling):
        asked.append((sampling.temperature, sampling.n))
        return [rollout(group, [group % 2, STOP]) for group in range(len(read)) for _ in range(sampling.n)]

    class SameNumber:
        def judge(self, rollouts):
            return [Verdict(correct=each.text == f"{each.group} {STOP}") for each in rollouts]

    result = run(prompts, sampler=sampler, verifier=SameNumber(), write=write)
    assert sampler.calls == []
    assert asked == [(0.0, 1), (1.0, 4)]
    assert result.metrics["eval/greedy_accuracy_fraction"] == 0.5, "the ids 0 and 1 are answered by themselves, 2 and 3 are not"
    assert result.metrics["eval/avg_at_k_fraction"] == 0.5
