from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.errors import DataError
from tutelage.rollouts import CachedSampler, Prompt, RolloutWriter, Sample, Text, given_responses
from tutelage.rollouts.sources import (
    AnyRollouts,
    DatasetRollouts,
    MixedRollouts,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.types import Author, Example, Rollout
from tutelage.types.schedules import Cosine, Linear

STOP = 0
TEXT = Text(
    decode=lambda ids: "".join(str(token) for token in ids),
    encode_response=lambda text: [*(int(digit) for digit in text), STOP],
)


@dataclass
class Scripted:
    """Writes one token over and over, and remembers what it was asked."""

    token: int
    stops: bool = False
    calls: list[tuple[list[list[int]], int, list[int]]] = field(default_factory=list)

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        limits = list(max_new_tokens or [sampling.max_new_tokens] * len(prompts))
        self.calls.append(([list(prompt) for prompt in prompts], seed, limits))
        return [self._one(limit) for limit in limits]

    def _one(self, limit: int) -> Sample:
        count = min(limit, 2) if self.stops else limit
        ended = self.stops and count == 2
        ids = torch.full((count,), self.token)
        if ended:
            ids[-1] = STOP
        return Sample(token_ids=ids, log_probs=-torch.arange(1.0, count + 1), finish="stop" if ended else "length")


def _prompts(*ids: list[int], **columns: Any) -> list[Prompt]:
    return [
        Prompt(example=Example(id=f"row {place}", prompt="", **columns), token_ids=torch.tensor(one, dtype=torch.long))
        for place, one in enumerate(ids)
    ]


def _writer(source: AnyRollouts, *, seed: int = 0, **parts: Any) -> RolloutWriter:
    return RolloutWriter(source, **{"student": Scripted(5), "teacher": Scripted(7), "text": TEXT, "seed": seed, **parts})


def _authors(rollout: Rollout) -> list[int]:
    return rollout.authors.tolist()


def test_the_student_writes_n_responses_that_share_their_prompts_group():
    student = Scripted(5)
    prompts = _prompts([1, 2], [3])
    written = _writer(StudentRollouts(sampling=Sampling(n=3, max_new_tokens=4)), student=student).write(prompts, step=9)
    assert [rollout.group for rollout in written] == [0, 0, 0, 1, 1, 1]
    assert [rollout.example.id for rollout in written] == ["row 0"] * 3 + ["row 1"] * 3
    assert student.calls[0][0] == [[1, 2]] * 3 + [[3]] * 3
    for rollout in written:
        assert _authors(rollout) == [Author.STUDENT] * 4
        assert rollout.behaviour_log_probs.tolist() == [-1.0, -2.0, -3.0, -4.0]
        assert (rollout.text, rollout.finish, rollout.policy_step) == ("5555", "length", 9)


def test_every_step_and_seed_draws_anew_and_the_same_step_draws_the_same():
    seeds = {}
    for seed in (0, 1):
        student = Scripted(5)
        writer = _writer(StudentRollouts(), student=student, seed=seed)
        for step in (0, 1, 1):
            writer.write(_prompts([1]), step=step)
        assert student.calls[1][1] == student.calls[2][1]
        seeds.update({(seed, step): student.calls[step][1] for step in (0, 1)})
    assert len(set(seeds.values())) == 4


@pytest.mark.parametrize(("column", "text"), [("response", "123"), ("solution", "98")])
def test_given_responses_end_with_one_stop_and_have_no_behaviour(column, text):
    prompts = _prompts([1], response="123", solution="98")
    (rollout,) = _writer(DatasetRollouts(column=column)).write(prompts, step=4)
    assert rollout.response_ids.tolist() == [*(int(digit) for digit in text), STOP]
    assert _authors(rollout) == [Author.DATASET] * (len(text) + 1)
    assert bool(rollout.behaviour_log_probs.isnan().all())
    assert rollout.finish == "stop"


@pytest.mark.parametrize(
    ("bound", "ids", "finish"), [(2, [1, 2], "length"), (3, [1, 2, 3], "length"), (4, [1, 2, 3, STOP], "stop")]
)
def test_a_given_response_that_is_cut_has_no_end(bound, ids, finish):
    (rollout,) = given_responses(_prompts([1], response="123"), text=TEXT, column="response", max_tokens=bound)
    assert rollout.response_ids.tolist() == ids
    assert rollout.finish == finish
    assert rollout.behaviour_log_probs.shape == rollout.response_ids.shape


@pytest.mark.parametrize("source", [DatasetRollouts(column="solution"), MixedRollouts(student_fraction=0.0, column="solution")])
def test_an_example_without_the_column_is_named(source):
    prompts = _prompts([1], solution="3") + _prompts([1], [2], response="3")[1:]
    with pytest.raises(DataError, match="'row 1' has no 'solution'"):
        _writer(source).write(prompts, step=0)


@pytest.mark.parametrize("source", [StudentRollouts(), DatasetRollouts(), TeacherRollouts(), TeacherPrefixRollouts()])
def test_a_prompt_without_tokens_is_named(source):
    with pytest.raises(DataError, match="'row 1' has no tokens"):
        _writer(source).write(_prompts([1], [], response="3"), step=0)


def test_the_teacher_writes_once_per_example_for_the_whole_run():
    teacher = Scripted(7)
    writer = _writer(TeacherRollouts(sampling=Sampling(n=2, max_new_tokens=3)), teacher=teacher)
    first, second = _prompts([1], [2])
    written = writer.write([first, second], step=0)
    again = writer.write([second, first], step=1)
    assert [call[0] for call in teacher.calls] == [[[1], [1], [2], [2]], []]
    assert [rollout.example.id for rollout in again] == ["row 1", "row 1", "row 0", "row 0"]
    assert [rollout.group for rollout in again] == [0, 0, 1, 1]
    assert all(_authors(rollout) == [Author.TEACHER] * 3 for rollout in written)
    assert all(bool(rollout.behaviour_log_probs.isnan().all()) for rollout in written)


def test_what_the_teacher_wrote_survives_a_resume(make_model, tmp_path: Path):
    def new_writer() -> RolloutWriter:
        teacher = CachedSampler(make_model(std=0.1), vocab=12, stop_token_ids=frozenset({STOP}))
        return _writer(TeacherRollouts(sampling=Sampling(n=2, max_new_tokens=5)), teacher=teacher)

    writer, prompts = new_writer(), _prompts([1, 2], [3], [4])
    before = writer.write(prompts[:2], step=0)
    torch.save(writer.state_dict(), tmp_path / "state.pt")
    resumed, fresh = new_writer(), new_writer()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found, anew = resumed.write(prompts[:2], step=7), fresh.write(prompts[:2], step=7)
    assert [rollout.response_ids.tolist() for rollout in found] == [rollout.response_ids.tolist() for rollout in before]
    assert [rollout.finish for rollout in found] == [rollout.finish for rollout in before]
    assert [rollout.response_ids.tolist() for rollout in anew] != [rollout.response_ids.tolist() for rollout in before]
    going, stayed = resumed.write(prompts, step=8), writer.write(prompts, step=8)
    assert [rollout.response_ids.tolist() for rollout in going] == [rollout.response_ids.tolist() for rollout in stayed]


def test_the_teacher_reads_its_own_prompt_and_the_student_is_taught_on_its_own():
    teacher, student = Scripted(7), Scripted(5)
    own = {"teacher": teacher, "student": student, "teacher_reads": lambda prompt: [9, *prompt.token_ids.tolist()]}
    (whole,) = _writer(TeacherRollouts(sampling=Sampling(max_new_tokens=2)), **own).write(_prompts([1]), step=0)
    (shared,) = _writer(TeacherPrefixRollouts(sampling=Sampling(max_new_tokens=4), prefix_fraction=0.5), **own).write(
        _prompts([1]), step=0
    )
    assert [call[0] for call in teacher.calls] == [[[9, 1]], [[9, 1]]]
    assert student.calls[0][0] == [[1, 7, 7]]
    assert whole.prompt_ids.tolist() == shared.prompt_ids.tolist() == [1]


def test_each_batch_of_a_mixture_has_one_author_drawn_from_seed_and_step():
    source = MixedRollouts(student_fraction=0.3)
    prompts = _prompts([1], [2], response="3")
    drawn = {}
    for seed in (0, 1):
        writer, again = _writer(source, seed=seed), _writer(source, seed=seed)
        batches = [writer.write(prompts, step=step) for step in range(400)]
        drawn[seed] = [_authors(batch[0])[0] for batch in batches]
        assert all(
            {_authors(rollout)[0] for rollout in batch} == {author} for batch, author in zip(batches, drawn[seed], strict=True)
        )
        assert [_authors(again.write(prompts, step=step)[0])[0] for step in (399, 3, 200)] == [
            drawn[seed][i] for i in (399, 3, 200)
        ]
    assert drawn[0] != drawn[1]
    students = sum(author == Author.STUDENT for batch in drawn.values() for author in batch)
    assert abs(students - 240) < 4 * (800 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize(
    ("fraction", "otherwise", "author"),
    [(1.0, "dataset", Author.STUDENT), (0.0, "dataset", Author.DATASET), (0.0, "teacher", Author.TEACHER)],
)
def test_the_ends_of_a_mixture_have_one_author(fraction, otherwise, author):
    source = MixedRollouts(student_fraction=fraction, otherwise=otherwise)
    writer = _writer(source)
    written = [rollout for step in range(20) for rollout in writer.write(_prompts([1], response="3"), step=step)]
    assert {token for rollout in written for token in _authors(rollout)} == {author}


def test_the_student_goes_on_from_the_teachers_first_tokens_on_its_own_policy(make_model):
    student_model = make_model(seed=1)
    student = CachedSampler(student_model, vocab=12, stop_token_ids=frozenset({STOP}))
    teacher = CachedSampler(make_model(seed=2), vocab=12, stop_token_ids=frozenset({STOP}))
    source = TeacherPrefixRollouts(sampling=Sampling(n=20, max_new_tokens=10), prefix_fraction=0.4)
    written = _writer(source, student=student, teacher=teacher).write(_prompts([1, 2], [3]), step=0)
    continued = [rollout for rollout in written if len(rollout.response_ids) > 4]
    assert continued
    for rollout in written:
        by_teacher = rollout.authors == Author.TEACHER
        assert _authors(rollout) == sorted(_authors(rollout), reverse=True)
        assert int(by_teacher.sum()) == min(4, len(rollout.response_ids))
        assert torch.equal(rollout.behaviour_log_probs.isnan(), by_teacher)
        assert (rollout.finish == "stop") == (int(rollout.response_ids[-1]) == STOP)
    for rollout in continued:
        ids = torch.cat([rollout.prompt_ids, rollout.response_ids]).unsqueeze(0)
        start = len(rollout.prompt_ids)
        with torch.no_grad():
            log_probs = student_model.model(input_ids=ids, use_cache=False).logits[0, start - 1 : -1, :12].log_softmax(-1)
        expected = log_probs.gather(-1, rollout.response_ids.unsqueeze(-1)).squeeze(-1)[4:]
        torch.testing.assert_close(rollout.behaviour_log_probs[4:], expected, atol=1e-5, rtol=0)


def test_a_teacher_that_ends_the_response_leaves_the_student_nothing():
    student = Scripted(5)
    source = TeacherPrefixRollouts(sampling=Sampling(max_new_tokens=8), prefix_fraction=0.5)
    (rollout,) = _writer(source, student=student, teacher=Scripted(7, stops=True)).write(_prompts([1]), step=0)
    assert student.calls[0][2] == [0]
    assert rollout.response_ids.tolist() == [7, STOP]
    assert rollout.finish == "stop"


@pytest.mark.parametrize("schedule", [Linear(start=1.0, end=0.0, steps=8), Cosine(start=1.0, end=0.0, steps=8)])
def test_the_teachers_share_follows_its_schedule_and_the_length_stays(schedule):
    writer = _writer(TeacherPrefixRollouts(sampling=Sampling(max_new_tokens=8), prefix_fraction=schedule))
    shares = []
    for step in range(10):
        (rollout,) = writer.write(_prompts([1]), step=step)
        assert len(rollout.response_ids) == 8
        shares.append(_authors(rollout).count(Author.TEACHER))
    assert shares == [round(8 * schedule(step)) for step in range(10)]
    assert (shares[0], shares[8], shares[9]) == (8, 0, 0)


@pytest.mark.parametrize("share", [-0.1, 1.1, Linear(start=1.5, end=0.0, steps=3), Cosine(start=1.0, end=-1.0, steps=3)])
def test_a_share_outside_zero_and_one_is_refused(share):
    with pytest.raises(ValueError, match="prefix_fraction"):
        TeacherPrefixRollouts(prefix_fraction=share)


def test_a_probability_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match="student_fraction"):
        MixedRollouts(student_fraction=1.5)
