"""The same held-out prompt, answered in each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.tracking.rollout_table import RolloutRecord

_PER_TOKEN = ("student_log_probs", "teacher_log_probs", "reverse_kl_nats", "forward_kl_nats")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """A prompt with one response per run."""

    example_id: str
    prompt: str
    answer: str | None
    """Reference answer, where the data set has one."""
    records: tuple[RolloutRecord, ...]
    """In the order of the runs."""
    differs_at: tuple[int | None, ...]
    """For each run, the first token that is not the first run's; None where the responses are the same."""

    @property
    def differ(self) -> bool:
        """Whether any run wrote something else than the first."""
        return any(place is not None for place in self.differs_at)

    def as_json(self) -> dict[str, Any]:
        """Plain values; a number that is not known is None."""
        return {
            "example_id": self.example_id,
            "prompt": self.prompt,
            "answer": self.answer,
            "responses": [
                {
                    "text": record.response,
                    "correct": record.correct,
                    "differs_at": place,
                    "tokens": list(record.tokens),
                    **{name: [_known(number) for number in getattr(record, name)] for name in _PER_TOKEN},
                }
                for record, place in zip(self.records, self.differs_at, strict=True)
            ],
        }


def first_difference(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The first place at which two responses differ, in tokens; where one ends within the other, its length."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return None if len(first) == len(second) else min(len(first), len(second))


def answers(tables: Sequence[Sequence[RolloutRecord]]) -> list[Answers]:
    """The prompts that every run answered, those with different verdicts first, then those with different text.

    Args:
        tables: For each run, its responses; the first of a prompt counts.
    """
    by_prompt = [_firsts(table) for table in tables]
    shared = [key for key in by_prompt[0] if all(key in other for other in by_prompt[1:])]
    found = [_answers([records[key] for records in by_prompt]) for key in shared]
    return sorted(found, key=lambda each: (len({record.correct for record in each.records}) == 1, not each.differ))


def _answers(records: Sequence[RolloutRecord]) -> Answers:
    first = records[0]
    return Answers(
        example_id=first.example_id,
        prompt=first.prompt,
        answer=first.answer,
        records=tuple(records),
        differs_at=tuple(first_difference(first.token_ids, record.token_ids) for record in records),
    )


def _firsts(table: Sequence[RolloutRecord]) -> Mapping[tuple[str, str], RolloutRecord]:
    found: dict[tuple[str, str], RolloutRecord] = {}
    for record in table:
        found.setdefault((record.example_id, record.prompt), record)
    return found


def _known(number: float) -> float | None:
    return number if number == number else None
