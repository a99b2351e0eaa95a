"""Writers that choose among several responses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from tutelage.rollouts.sources import BestTeacherRollouts, TeacherRollouts
from tutelage.rollouts.writers.desk import Desk, Prompt
from tutelage.rollouts.writers.plain import PlainWriter, by_student
from tutelage.types import Rollout


@final
class BestTeacherWriter:
    """Puts the best of the teacher's responses beside the student's own."""

    def __init__(self, source: BestTeacherRollouts, desk: Desk) -> None:
        self._source, self._desk, self._hint = source, desk, desk.aids.hint
        self._teacher = PlainWriter(TeacherRollouts(sampling=source.teacher_sampling), desk)
        told = replace(desk, teacher_reads=lambda prompt: self._hint(prompt) or [])
        self._told = PlainWriter(TeacherRollouts(sampling=replace(source.teacher_sampling, n=max(source.hints, 1))), told)

    def write(self, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        """See `Writer.write`."""
        own = by_student(self._desk, prompts, self._source.sampling, step=step)
        candidates = _by_prompt(self._teacher.write(prompts, step=step), len(prompts))
        right = self._right(candidates)
        failed = [place for place, found in enumerate(right) if not found and self._source.hints and self._hint(prompts[place])]
        told = _by_prompt(self._told.write([prompts[place] for place in failed], step=step), len(failed))
        for place, found in zip(failed, self._right(told), strict=True):
            right[place] = [replace(rollout, group=place) for rollout in found]
        spare = candidates if self._source.otherwise == "closest" else [[] for _ in prompts]
        best = self._closest([found or rest for found, rest in zip(right, spare, strict=True)])
        by_place = _by_prompt(own, len(prompts))
        return [rollout for place, mine in enumerate(by_place) for rollout in [*mine, *best[place]]]

    def state_dict(self) -> dict[str, Any]:
        """What the teacher wrote, without a hint and with one."""
        return {"teacher": self._teacher.state_dict(), "told": self._told.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the responses of a saved run."""
        self._teacher.load_state_dict(state["teacher"])
        self._told.load_state_dict(state["told"])

    def _right(self, candidates: Sequence[Sequence[Rollout]]) -> list[list[Rollout]]:
        everything = [rollout for found in candidates for rollout in found]
        verdicts = iter(self._desk.aids.judge(everything) if everything else [])
        return [[rollout for rollout in found if next(verdicts).correct] for found in candidates]

    def _closest(self, candidates: Sequence[Sequence[Rollout]]) -> list[list[Rollout]]:
        """The one that overlaps most with the student, for each prompt that has any; the first of equals."""
        assert self._desk.aids.overlap is not None, "whoever builds a writer for such a source gives it the student"
        several = [rollout for found in candidates if len(found) > 1 for rollout in found]
        shares = iter(self._desk.aids.overlap(several, k=self._source.overlap_k) if several else [])
        chosen: list[list[Rollout]] = []
        for found in candidates:
            ranks = [next(shares) for _ in found] if len(found) > 1 else [0.0] * len(found)
            chosen.append([found[ranks.index(max(ranks))]] if found else [])
        return chosen


def _by_prompt(rollouts: Sequence[Rollout], num_prompts: int) -> list[list[Rollout]]:
    found: list[list[Rollout]] = [[] for _ in range(num_prompts)]
    for rollout in rollouts:
        found[rollout.group].append(rollout)
    return found
