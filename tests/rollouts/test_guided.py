from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.rollouts import Aids, CachedSampler, LockstepSampler, Prompt, RolloutWriter, Text
from tutelage.rollouts.guided import Guidance, Guide, GuidedSampler
from tutelage.rollouts.guides import AgreementStop
from tutelage.rollouts.sources import AnyRollouts, BlendedRollouts, Sampling, StudentRollouts, WatchedRollouts
from tutelage.types import Author, Example, Rollout
from tutelage.types.schedules import Linear

STOP, VOCAB = 0, 12
TEXT = Text(decode=lambda ids: " ".join(map(str, ids)), encode_response=lambda text: [STOP])
PROMPTS = [
    Prompt(example=Example(id=str(place), prompt=""), token_ids=torch.tensor(ids))
    for place, ids in enumerate(([1, 2], [3], [4, 5, 6]))
]
WATCH: Mapping[str, Any] = {"window": 3, "grace": 1, "min_fill": 6, "buffer": 40, "warmup_steps": 0, "count": 2, "entries": 4}


class Pair:
    """A student, a teacher that reads one token more, and the writers that both make."""

    def __init__(self, make_model: Callable[..., Any], *, std: float = 0.3) -> None:
        self.student, self.teacher = make_model(seed=1, std=std), make_model(seed=2, std=std)

    def together(self, *, batch_tokens: int = 65536) -> LockstepSampler:
        return LockstepSampler(
            self.student, self.teacher, vocab=VOCAB, stop_token_ids=frozenset({STOP}), batch_tokens=batch_tokens
        )

    def writer(self, source: AnyRollouts, *, alone: bool = False) -> RolloutWriter:
        return RolloutWriter(
            source,
            student=CachedSampler(self.student, vocab=VOCAB, stop_token_ids=frozenset({STOP})),
            text=TEXT,
            seed=0,
            teacher_reads=reads,
            aids=Aids(together=None if alone else self.together()),
        )

    def log_probs(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Of every entry at every token, from one forward of each model over the whole text."""
        found = []
        for model, prompt in ((self.student, rollout.prompt_ids.tolist()), (self.teacher, reads(prompt_of(rollout)))):
            ids = torch.cat([torch.tensor(prompt), rollout.response_ids]).unsqueeze(0)
            with torch.no_grad():
                logits = model.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1, :VOCAB]
            found.append(logits.double().log_softmax(-1))
        return found[0], found[1]


def reads(prompt: Prompt) -> list[int]:
    return [7, *prompt.token_ids.tolist()]


def prompt_of(rollout: Rollout) -> Prompt:
    return Prompt(example=rollout.example, token_ids=rollout.prompt_ids)


def same(one: list[Rollout], other: list[Rollout]) -> bool:
    return all(
        torch.equal(a.response_ids, b.response_ids)
        and torch.equal(a.behaviour_log_probs, b.behaviour_log_probs)
        and a.finish == b.finish
        for a, b in zip(one, other, strict=True)
    )


class Onlooker:
    """Changes nothing and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, student: Tensor, teacher: Tensor, places: Tensor) -> Guidance:
        for row, place in enumerate(places.tolist()):
            self.seen.setdefault(place, []).append((student[row], teacher[row]))
        return Guidance(logits=student)


@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=9), Sampling(max_new_tokens=9, temperature=0.7, top_p=0.9)])
@pytest.mark.parametrize("batch_tokens", [1, 65536])
def test_a_guide_that_changes_nothing_gives_the_students_own_tokens_to_the_bit(make_model, sampling, batch_tokens):
    pair = Pair(make_model, std=0.1)
    prompts = [prompt.token_ids.tolist() for prompt in PROMPTS] * 4
    alone = CachedSampler(pair.student, vocab=VOCAB, stop_token_ids=frozenset({STOP})).sample(prompts, sampling, seed=3)
    guided = pair.together(batch_tokens=batch_tokens).sample(
        prompts, [[7, *ids] for ids in prompts], sampling, Onlooker(), seed=3
    )
    for one, other in zip(alone, guided, strict=True):
        assert torch.equal(one.token_ids, other.token_ids)
        assert one.finish == other.finish
        torch.testing.assert_close(one.log_probs, other.log_probs, atol=1e-5, rtol=0)


def test_the_guide_sees_what_both_models_say_each_under_its_own_prompt(make_model):
    pair, onlooker = Pair(make_model, std=0.1), Onlooker()
    assert isinstance(onlooker, Guide)
    assert isinstance(pair.together(), GuidedSampler)
    prompts = [prompt.token_ids.tolist() for prompt in PROMPTS] * 3
    samples = pair.together().sample(prompts, [[7, *ids] for ids in prompts], Sampling(max_new_tokens=8), onlooker, seed=5)
    assert len({len(sample.token_ids) for sample in samples}) > 1, "rows must leave the batch at different times"
    for place, sample in enumerate(samples):
        for side, model, prompt in ((0, pair.student, prompts[place]), (1, pair.teacher, [7, *prompts[place]])):
            ids = torch.cat([torch.tensor(prompt), sample.token_ids]).unsqueeze(0)
            with torch.no_grad():
                expected = model.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1, :VOCAB]
            seen = torch.stack([pair_of[side] for pair_of in onlooker.seen[place][: len(sample.token_ids)]])
            torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)


def test_blended_draws_carry_the_log_probability_of_the_blend_and_count_as_the_students(make_model):
    pair, radius = Pair(make_model), 0.2
    source = BlendedRollouts(sampling=Sampling(n=4, max_new_tokens=8), radius=radius)
    blended = 0
    for rollout in pair.writer(source).write(PROMPTS, step=0):
        assert set(rollout.authors.tolist()) == {int(Author.STUDENT)}
        student, teacher = pair.log_probs(rollout)
        for row, token in enumerate(rollout.response_ids.tolist()):
            own, theirs = student[row], teacher[row]
            low, high = 0.0, 1.0  # the same share by halving an interval with plain sums
            for _ in range(60):
                middle = 0.5 * (low + high)
                mu = ((1 - middle) * own + middle * theirs).log_softmax(-1)
                inside = float((mu.exp() * (mu - own)).sum()) <= radius
                low, high = (middle, high) if inside else (low, middle)
            expected = ((1 - low) * own + low * theirs).log_softmax(-1)[token]
            assert float(rollout.behaviour_log_probs[row]) == pytest.approx(float(expected), abs=1e-4)
            blended += 0.01 < low < 0.99
    assert blended > 10


def test_a_very_large_ball_lets_the_teacher_write_under_its_own_prompt(make_model):
    pair = Pair(make_model)
    source = BlendedRollouts(sampling=Sampling(n=4, max_new_tokens=8, temperature=0.8), radius=1000.0)
    places = [place for place in PROMPTS for _ in range(4)]
    seed_of = pair.writer(source)._writer._desk.stream(0, 0)  # the draws must be the same
    teacher = CachedSampler(pair.teacher, vocab=VOCAB, stop_token_ids=frozenset({STOP}))
    expected = teacher.sample([reads(place) for place in places], source.sampling, seed=seed_of)
    for rollout, sample in zip(pair.writer(source).write(PROMPTS, step=0), expected, strict=True):
        assert torch.equal(rollout.response_ids, sample.token_ids)


def test_a_ball_that_has_shrunk_to_nothing_asks_no_teacher_and_is_the_student(make_model):
    pair, sampling = Pair(make_model), Sampling(n=3, max_new_tokens=6)
    blended = BlendedRollouts(sampling=sampling, radius=Linear(start=0.3, end=0.0, steps=4))
    alone = pair.writer(StudentRollouts(sampling=sampling)).write(PROMPTS, step=4)
    assert same(pair.writer(blended, alone=True).write(PROMPTS, step=4), alone)
    assert not same(
        pair.writer(blended).write(PROMPTS, step=0), pair.writer(StudentRollouts(sampling=sampling)).write(PROMPTS, step=0)
    )


@pytest.mark.parametrize(
    "changes", [{"radius": -0.1}, {"sampling": Sampling(top_p=0.9)}, {"sampling": Sampling(temperature=0.0)}]
)
def test_a_blend_that_means_nothing_is_refused(changes):
    with pytest.raises(ConfigError, match="BlendedRollouts needs"):
        BlendedRollouts(**changes)


def watched(values: list[float], **knobs: Any) -> tuple[AgreementStop, int | None]:
    """What a watch makes of one response's divergences, and the token at which it ended it."""
    settings = {"window": 4, "entries": 4, "threshold": 0.5, "count": 3, "grace": 6, **knobs}
    watch = AgreementStop(1, longest=len(values), **settings)
    for time, value in enumerate(values):
        if bool(watch.note(torch.tensor([value]), torch.tensor([0]))[0]):
            return watch, time
    return watch, None


def test_a_response_is_cut_back_to_the_start_of_the_first_low_window():
    watch, trigger = watched([1.0] * 10 + [0.0] * 20)
    # a window of 4 has a mean below 0.5 from its third low value on: tokens 12, 13, 14
    assert trigger == 14
    assert watch.kept(0, length=15) == 14 - 4 - 3 + 2 == 9
    assert watch.least(0, length=15) == pytest.approx(0.0)


def test_high_windows_between_low_ones_start_the_count_anew():
    _, trigger = watched([1.0] * 8 + [0.0] * 4 + [3.0] + [0.0] * 30)
    assert trigger == 8 + 4 + 1 + 4 - 1 + 2, "only windows without the high value count, three in a row"


@pytest.mark.parametrize("knobs", [{"count": None}, {"threshold": None}, {"threshold": 0.0}])
def test_without_a_count_or_threshold_nothing_is_ended(knobs):
    watch, trigger = watched([0.0] * 40, **knobs)
    assert trigger is None
    assert watch.kept(0, length=40) == 40


def test_a_constant_divergence_above_the_threshold_never_ends_a_response():
    assert watched([0.5001] * 60)[1] is None
    assert watched([0.4999] * 60)[1] == 7 + 3 - 1, "the first token beyond the grace, and two more"


def test_what_is_noted_after_a_response_ended_by_itself_is_never_read():
    watch, _ = watched([1.0] * 7 + [0.0] * 20)
    assert watch.kept(0, length=8) == 8
    assert watch.least(0, length=8) == pytest.approx(0.75)
    assert watch.least(0, length=3) is None


def test_with_nothing_remembered_the_student_writes_as_if_nobody_looked(make_model):
    pair, sampling = Pair(make_model), Sampling(n=3, max_new_tokens=14)
    plain = pair.writer(StudentRollouts(sampling=sampling))
    for knobs in ({**WATCH, "min_fill": 40}, {**WATCH, "count": None}, {**WATCH, "warmup_steps": 9}):
        writer = pair.writer(WatchedRollouts(sampling=sampling, **knobs))
        for step in range(3):
            written = writer.write(PROMPTS, step=step)
            for one, other in zip(written, plain.write(PROMPTS, step=step), strict=True):
                assert torch.equal(one.response_ids, other.response_ids)


def test_the_threshold_is_a_quantile_of_remembered_minima_and_the_buffer_forgets_the_oldest(make_model):
    pair, sampling = Pair(make_model), Sampling(n=3, max_new_tokens=14)
    writer = pair.writer(WatchedRollouts(sampling=sampling, **{**WATCH, "count": None, "buffer": 10}))
    minima: list[float] = []
    for step in range(3):
        for rollout in writer.write(PROMPTS, step=step):
            student, teacher = pair.log_probs(rollout)
            top = student.topk(4).indices
            mass = [side.gather(-1, top).exp() for side in (student, teacher)]
            mine, theirs = (torch.cat([part, 1 - part.sum(-1, keepdim=True)], -1) for part in mass)
            divergence = (mine * (mine / theirs).log()).sum(-1).tolist()
            windows = [sum(divergence[end - 3 : end]) / 3 for end in range(3, len(divergence) + 1)]
            minima += [min(windows)] if windows else []
        assert writer.state_dict()["minima"] == pytest.approx(minima[-10:], abs=1e-4)
    assert len(minima) > 10


def test_low_agreement_windows_end_responses_and_a_resumed_run_goes_on_to_the_same_bits(make_model):
    pair, sampling = Pair(make_model), Sampling(n=8, max_new_tokens=30)
    source = WatchedRollouts(sampling=sampling, **{**WATCH, "share": 0.1})
    writer, whole = pair.writer(source), pair.writer(StudentRollouts(sampling=sampling))
    writer.write(PROMPTS, step=0)
    resumed = pair.writer(source)
    resumed.load_state_dict(writer.state_dict())
    written, plain = writer.write(PROMPTS, step=1), whole.write(PROMPTS, step=1)
    assert same(resumed.write(PROMPTS, step=1), written)
    assert resumed.state_dict() == writer.state_dict()
    shortened = [
        (cut, full) for cut, full in zip(written, plain, strict=True) if len(cut.response_ids) < len(full.response_ids)
    ]
    assert shortened
    for cut, full in shortened:
        assert cut.response_ids.tolist() == full.response_ids.tolist()[: len(cut.response_ids)]
        assert cut.finish == "length"
        assert len(cut.response_ids) >= WATCH["grace"] + 2


@pytest.mark.parametrize(
    "changes", [{"window": 0}, {"min_fill": 9, "buffer": 8}, {"share": 1.1}, {"count": 0}, {"grace": -1}, {"warmup_steps": -1}]
)
def test_watching_that_means_nothing_is_refused(changes):
    with pytest.raises(ConfigError, match="WatchedRollouts needs"):
        WatchedRollouts(**changes)
