"""What a teacher reads before a response, wherever its weights lie: its context, its template, and the room in its window."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor

from tutelage.errors import TeacherError
from tutelage.teachers.context_parts import Context
from tutelage.teachers.contexts import UNCHANGED, Attempt, attempts, build, histogram
from tutelage.teachers.scorer import Reader, TeacherPrompt
from tutelage.types import Example, Message, Rollout, StepBatch

Render = Callable[[str | Sequence[Message]], Sequence[int]]
"""From a prompt to the ids that the teacher reads, in its own chat template."""


@final
class Reading:
    """The teacher's side of the prompts of a step."""

    def __init__(self, reader: Reader, *, context: Context, render: Render | None) -> None:
        """Keep what decides a prompt.

        Args:
            reader: Who reads.
            context: What only the teacher reads.
            render: The teacher's side of a prompt; none reads the ids that the student read, as they are.
        """
        self._reader, self._context, self._render = reader, context, render

    def reader(self, example: Example) -> Reader:
        """The same one for every example."""
        return self._reader

    def prompt(
        self,
        example: Example,
        *,
        read_by_student: Int[Tensor, " prompt"],
        attempt: Attempt | None = None,
        context: Context | None = None,
    ) -> TeacherPrompt:
        """See `TeacherReading.prompt`."""
        result = build(context or self._context, example, count_tokens=self._count_tokens, attempt=attempt)
        if result.prompt is None:
            return TeacherPrompt(token_ids=None, reason=result.reason)
        if self._render is None and result.reason == UNCHANGED:
            return TeacherPrompt(token_ids=read_by_student, reason=result.reason)
        assert self._render is not None, "a teacher with a context needs a way to render it"
        return TeacherPrompt(token_ids=torch.tensor(self._render(result.prompt), dtype=torch.long), reason=result.reason)

    def prompts(self, batch: StepBatch) -> list[TeacherPrompt]:
        """The ids that the teacher reads before each response of a step; none for one that its window has no room for."""
        if self._context.reads == "step":
            return [
                self._fit(self.prompt(rollout.example, read_by_student=rollout.prompt_ids, attempt=attempt), rollout)
                for rollout, attempt in zip(batch.rollouts, attempts(batch.rollouts, batch.verdicts), strict=True)
            ]
        by_group: dict[int, TeacherPrompt] = {}
        for rollout in batch.rollouts:
            if rollout.group not in by_group:
                by_group[rollout.group] = self.prompt(rollout.example, read_by_student=rollout.prompt_ids)
        return [self._fit(by_group[rollout.group], rollout) for rollout in batch.rollouts]

    def readable(self, prompts: Sequence[TeacherPrompt], only: Collection[int] | None) -> Mapping[int, Int[Tensor, " _"]]:
        """The prompts of the rollouts that are asked about and can be taught, by the rollout's index.

        Raises:
            TeacherError: Not one rollout can be taught although the context lies in the data; the message counts the reasons.
                A context that depends on the step may be missing everywhere: then none is readable.
        """
        asked = range(len(prompts)) if only is None else only
        found = {index: ids for index in asked if (ids := prompts[index].token_ids) is not None}
        if not found and asked and self._context.reads == "example":
            reasons = [prompt.reason for prompt in prompts]
            raise TeacherError(
                f"The teacher can teach none of the step's {len(reasons)} rollouts: {histogram(reasons)}. A context that never "
                "reaches the teacher gives no supervision. Fill the column that the context shows "
                "(--recipe.teacher.context.column names it), or use a recipe without a context."
            )
        return found

    def _fit(self, prompt: TeacherPrompt, rollout: Rollout) -> TeacherPrompt:
        limit = self._reader.max_context
        if prompt.token_ids is None or limit is None or len(prompt.token_ids) + len(rollout.response_ids) <= limit:
            return prompt
        return TeacherPrompt(token_ids=None, reason="skipped:prompt and response exceed the teacher's context window")

    def _count_tokens(self, text: str) -> int:
        return len(self._reader.tokenizer(text, add_special_tokens=False)["input_ids"])
