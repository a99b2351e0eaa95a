"""The order of a pipeline by itself, with stages that do nothing but wait, and what it does to the lengths of a batch."""

import random
import threading
import time
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tutelage.errors import CheckpointError, TeacherError
from tutelage.rollouts.sample import Prompt
from tutelage.training.behaviour import Weights
from tutelage.training.lessons import Gates, Lesson, Written
from tutelage.training.pipeline import Ahead, Pipeline
from tutelage.training.teaching import Taught
from tutelage.training.waiting import as_values, from_values
from tutelage.training.workers import Worker
from tutelage.types import Author, Example, Rollout, StepBatch

TIME_LIMIT_SECONDS = 20.0


class Student:
    """One number, which counts the steps that were taken."""

    def __init__(self) -> None:
        self.steps = torch.zeros(1)


class Policy:
    """Keeps what was loaded."""

    def __init__(self) -> None:
        self.loaded = torch.full((1,), -1.0)

    def load(self, weights: Weights) -> None:
        self.loaded = weights["steps"].clone()


class FakeStages:
    """Writes one rollout a step, which says which policy wrote it; each stage takes as long as it is told."""

    def __init__(self, policy: Policy, *, write: Sequence[float] = (0.0,), teach: Sequence[float] = (0.0,)) -> None:
        self.policy, self._write, self._teach = policy, write, teach
        self.begun: list[int] = []
        self.most_on_the_way, self._on_the_way = 0, 0
        self.guard = threading.Lock()

    def write(self, step: int) -> Written:
        with self.guard:
            self.begun.append(step)
            self._on_the_way += 1
            self.most_on_the_way = max(self.most_on_the_way, self._on_the_way)
        time.sleep(self._write[step % len(self._write)])
        return Written(step=step, rollouts=[rollout(text=str(int(self.policy.loaded)))], seconds=0.0)

    def teach(self, written: Written) -> Lesson:
        time.sleep(self._teach[written.step % len(self._teach)])
        taught = Taught(batch=StepBatch.of(written.rollouts), signals={})
        return Lesson(rollouts=written.rollouts, verdicts=[], taught=taught, seconds={})

    def trained(self) -> None:
        with self.guard:
            self._on_the_way -= 1


def rollout(*, text: str = "", author: Author = Author.STUDENT, tokens: int = 2, turns: Tensor | None = None) -> Rollout:
    return Rollout(
        example=Example(id="one", prompt="?"),
        group=0,
        prompt_ids=torch.tensor([1]),
        response_ids=torch.arange(tokens),
        authors=torch.full((tokens,), int(author)),
        behaviour_log_probs=torch.linspace(-1.0, -0.1, tokens),
        finish="stop",
        text=text,
        turns=turns,
    )


def pipeline(stages: FakeStages, student: Student, *, staleness: int, steps: int) -> Pipeline:
    return Pipeline(
        Ahead(behaviour=stages.policy, staleness=staleness),
        write=stages.write,
        teach=stages.teach,
        weights=lambda: {"steps": student.steps.clone()},
        gates=Gates(),
        start=0,
        num_steps=steps,
    )


def trained(
    made: Pipeline, stages: FakeStages, student: Student, *, steps: int, update: Sequence[float] = (0.0,)
) -> list[Lesson]:
    found = list[Lesson]()
    with made.running() as lessons:
        for step in range(steps):
            found.append(lessons.take(step))
            time.sleep(update[step % len(update)])
            student.steps += 1.0
            stages.trained()
            lessons.moved()
    return found


@pytest.mark.parametrize("staleness", [1, 2, 4])
@pytest.mark.parametrize("slow", ["nobody", "writer", "teacher", "update", "everybody in turn"])
def test_who_wrote_a_step_depends_on_its_number_only_and_no_more_are_on_their_way_than_allowed(staleness, slow):
    uneven, even = (0.02, 0.0, 0.01), (0.0,)
    every = slow == "everybody in turn"
    policy, student, steps = Policy(), Student(), 9
    stages = FakeStages(
        policy, write=uneven if every or slow == "writer" else even, teach=uneven[1:] if every or slow == "teacher" else even
    )
    made = pipeline(stages, student, staleness=staleness, steps=steps)
    found = trained(made, stages, student, steps=steps, update=uneven if every or slow == "update" else even)
    assert [int(lesson.rollouts[0].text) for lesson in found] == [max(step - staleness, 0) for step in range(steps)]
    assert [lesson.rollouts[0].policy_step for lesson in found] == [max(step - staleness, 0) for step in range(steps)]
    assert stages.begun == list(range(steps))
    assert stages.most_on_the_way <= staleness + 1
    assert all(lesson.waits is not None and lesson.waits.queue_steps <= staleness for lesson in found)


def test_a_writer_that_is_never_waited_for_fills_the_queue_and_then_stands_still():
    policy, student = Policy(), Student()
    stages = FakeStages(policy)
    made = pipeline(stages, student, staleness=3, steps=100)
    with made.running() as lessons:
        lessons.take(0)
        deadline = time.monotonic() + TIME_LIMIT_SECONDS
        while len(lessons.waiting()) < 4:
            assert time.monotonic() < deadline
        time.sleep(0.05)
        assert stages.begun == [0, 1, 2, 3]
        assert [written.step for written in lessons.waiting()] == [0, 1, 2, 3]


def test_a_copy_of_the_weights_is_taken_only_where_a_step_remains_to_be_written_and_kept_until_it_is():
    policy, student, staleness, steps = Policy(), Student(), 2, 7
    stages, copies = FakeStages(policy), list[weakref.ref[Tensor]]()

    def weights() -> Weights:
        copy = student.steps.clone()
        copies.append(weakref.ref(copy))
        return {"steps": copy}

    made = Pipeline(
        Ahead(behaviour=policy, staleness=staleness),
        write=stages.write,
        teach=stages.teach,
        weights=weights,
        gates=Gates(),
        start=0,
        num_steps=steps,
    )
    with made.running() as lessons:
        for step in range(steps):
            lessons.take(step)
            student.steps += 1.0
            lessons.moved()
        deadline = time.monotonic() + TIME_LIMIT_SECONDS
        while any(copy() is not None for copy in copies):  # the writer lets go a moment after its step was taken
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert len(copies) == 1 + steps - (staleness + 1)  # the first one serves the steps that are begun at once


def test_three_stages_take_the_time_that_the_rule_says():
    """max(w, s, u, (w + s + u) / (staleness + 1)) in the middle of a run; sleeping threads do not disturb each other."""
    write, teach, update, steps = 0.1, 0.2, 0.1, 8
    for staleness, expected in ((1, 0.2), (2, 0.2)):
        policy, student = Policy(), Student()
        stages = FakeStages(policy, write=(write,), teach=(teach,))
        began = time.monotonic()
        trained(pipeline(stages, student, staleness=staleness, steps=steps), stages, student, steps=steps, update=(update,))
        taken = (time.monotonic() - began - (write + update)) / steps
        in_turn = write + teach + update
        assert expected * 0.95 < taken < 0.5 * (expected + in_turn)


@pytest.mark.parametrize("slow", ["rollout_seconds", "teacher_seconds", "update_seconds"])
def test_the_waits_say_which_stage_is_the_slow_one(slow):
    names = ("rollout_seconds", "teacher_seconds", "update_seconds")
    write, teach, update = (0.06 if name == slow else 0.0 for name in names)
    policy, student, steps = Policy(), Student(), 10
    stages = FakeStages(policy, write=(write,), teach=(teach,))
    found = trained(pipeline(stages, student, staleness=2, steps=steps), stages, student, steps=steps, update=(update,))
    waits = [lesson.waits for lesson in found if lesson.waits is not None]
    assert len(waits) == steps
    totals = {name: sum(getattr(each, name) for each in waits) for name in names}
    if slow == "rollout_seconds":
        assert totals["rollout_seconds"] > 0.3
        assert totals["rollout_seconds"] > totals["teacher_seconds"]
    elif slow == "teacher_seconds":
        assert totals["teacher_seconds"] > 0.3
        assert totals["teacher_seconds"] > totals["rollout_seconds"]
    else:
        assert totals["update_seconds"] > 0.3
        assert totals["rollout_seconds"] + totals["teacher_seconds"] < 0.3


def test_given_responses_keep_the_policy_step_that_they_came_with():
    policy, student = Policy(), Student()

    class Given(FakeStages):
        def write(self, step: int) -> Written:
            return Written(step=step, rollouts=[rollout(author=Author.DATASET)], seconds=0.0)

    stages = Given(policy)
    found = trained(pipeline(stages, student, staleness=1, steps=4), stages, student, steps=4)
    assert {lesson.rollouts[0].policy_step for lesson in found} == {0}


def test_a_run_that_ends_early_leaves_no_thread_behind_and_begins_nothing_more():
    policy, student = Policy(), Student()
    stages = FakeStages(policy, write=(0.05,))
    made = pipeline(stages, student, staleness=4, steps=50)
    with made.running() as lessons:
        lessons.take(0)
    begun = len(stages.begun)
    time.sleep(0.15)
    assert len(stages.begun) == begun <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tutelage-")]


def test_a_stage_that_hangs_is_given_up_after_a_while(caplog):
    worker, begun, release = Worker("writing"), threading.Event(), threading.Event()
    hanging = worker.submit(lambda: (begun.set(), release.wait())[1])
    assert begun.wait(TIME_LIMIT_SECONDS)
    later = worker.submit(lambda: pytest.fail("nothing is begun any more"))
    began = time.monotonic()
    worker.stop()
    worker.join(0.1)
    assert time.monotonic() - began < TIME_LIMIT_SECONDS
    assert "still works" in caplog.text
    release.set()
    assert hanging.result(TIME_LIMIT_SECONDS)
    worker.join()
    assert later.cancelled()


def test_a_teacher_that_fails_is_told_at_its_own_step_and_what_was_written_is_kept():
    policy, student, lost = Policy(), Student(), TeacherError("gone")

    class Failing(FakeStages):
        def teach(self, written: Written) -> Lesson:
            if written.step == 2:
                raise lost
            return super().teach(written)

    stages = Failing(policy)
    began = time.monotonic()
    with pipeline(stages, student, staleness=3, steps=20).running() as lessons:
        for step in range(2):
            lessons.take(step)
            student.steps += 1.0
            lessons.moved()
        with pytest.raises(TeacherError) as found:
            lessons.take(2)
        assert [written.step for written in lessons.waiting()] == [2, 3, 4, 5]
    assert found.value is lost
    assert time.monotonic() - began < TIME_LIMIT_SECONDS


def test_what_waits_survives_as_values_field_by_field():
    first = rollout(text="a", turns=torch.tensor([0, 1]))
    prompt = Prompt(example=first.example, token_ids=first.prompt_ids)
    found = from_values(as_values([Written(step=7, rollouts=[first], seconds=1.0)]), prompts=lambda step: [prompt])
    assert [each.step for each in found] == [7]
    again = found[0].rollouts[0]
    for name in Rollout.__slots__:
        mine, theirs = getattr(first, name), getattr(again, name)
        assert torch.equal(mine, theirs) if isinstance(mine, Tensor) else mine == theirs


def test_what_waits_for_a_prompt_that_is_gone_is_refused():
    state = as_values([Written(step=7, rollouts=[rollout()], seconds=1.0)])
    with pytest.raises(CheckpointError, match=r"step 8.*other prompts"):
        from_values(state, prompts=lambda step: [])


def test_batches_of_what_is_finished_first_are_short_and_ours_are_not():
    """Many writers at once, a token per tick. Whoever takes what is finished first sees the short ones; we see our prompts.

    Lengths are those of a policy that ends with probability 1/50 at each token, so their mean is 50 tokens.
    """
    draw, writers, batch, steps = random.Random(0), 256, 32, 8

    def length() -> int:
        tokens = 1
        while draw.random() > 1 / 50:
            tokens += 1
        return tokens

    ends = [length() for _ in range(writers)]  # tick at which each of the writers is done
    lengths = list(ends)
    first_finished = list[float]()
    for _ in range(steps):
        done = sorted(range(writers), key=lambda writer: ends[writer])[:batch]
        first_finished.append(sum(lengths[writer] for writer in done) / batch)
        now = max(ends[writer] for writer in done)
        for writer in done:
            lengths[writer] = length()
            ends[writer] = now + lengths[writer]
    by_step = {step: [length() for _ in range(batch)] for step in range(steps)}
    policy, student = Policy(), Student()

    class Timed(FakeStages):
        """Takes as long as its longest response."""

        def write(self, step: int) -> Written:
            time.sleep(1e-4 * max(by_step[step]))
            return Written(step=step, rollouts=[rollout(tokens=tokens) for tokens in by_step[step]], seconds=0.0)

    stages = Timed(policy)
    found = trained(pipeline(stages, student, staleness=3, steps=steps), stages, student, steps=steps)
    ours = [[len(each.response_ids) for each in lesson.rollouts] for lesson in found]
    assert ours == list(by_step.values())
    error = 50.0 / batch**0.5  # standard error of a batch's mean: a geometric length has a deviation near its mean
    assert first_finished[0] < 50.0 - 4.0 * error
    assert sum(first_finished) / steps < 50.0 - 4.0 * error / steps**0.5
    assert abs(sum(map(sum, ours)) / (steps * batch) - 50.0) < 4.0 * error / steps**0.5
