"""Verdicts of another model, which reads question, reference and response and ends with a grade."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, final

from tutelage.errors import VerifierError
from tutelage.serving.endpoint import open_endpoint
from tutelage.serving.text import Answer
from tutelage.types import Example, Rollout, Verdict
from tutelage.verifiers.parts import JudgeVerifier

_GRADE = re.compile(r"Score: *(\d+(?:\.\d+)?)")
_PLACE = re.compile(r"\{(question|reference|response|best)\}")
_MISSING = "(There is none.)"
_SHOWN = 400
"""Characters of a judge's answer that are shown in a message."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """What a judge's answer says."""

    reward: float
    """In 0..1."""
    reason: str
    """All that stands before the grade."""


@final
class Judge:
    """Asks about all rollouts at once."""

    def __init__(self, part: JudgeVerifier) -> None:
        """Ask nothing yet.

        Raises:
            ConfigError: No endpoint is named.
            DataError: Its recording cannot be used.
        """
        self._part, self._client = part, open_endpoint(part.endpoint, setting="--verifier.endpoint.")

    def judge(self, rollouts: Sequence[Rollout]) -> list[Verdict]:
        """The judge's grades as verdicts.

        Raises:
            VerifierError: An answer has no grade, also after it was sent back.
            ServerError: The endpoint fails, refuses, or has cost what it may.
        """
        talks = [[{"role": "user", "content": self._question(rollout)}] for rollout in rollouts]
        found, open_places = dict[int, Grade](), list(range(len(rollouts)))
        for turn in range(self._part.repairs + 1):
            names = [f"the question about {rollouts[place].example.id!r}" for place in open_places]
            answers = dict(zip(open_places, self._ask([talks[place] for place in open_places], names), strict=True))
            graded = {place: grade_of(answer.text, best=self._part.best) for place, answer in answers.items()}
            found |= {place: grade for place, grade in graded.items() if grade is not None}
            open_places = [place for place, grade in graded.items() if grade is None]
            if not open_places:
                break
            if turn == self._part.repairs:
                raise self._ungraded(rollouts[open_places[0]].example, answers[open_places[0]])
            for place in open_places:
                talks[place] += [{"role": "assistant", "content": answers[place].text}, self._reminder()]
        return [self._verdict(found[place]) for place in range(len(rollouts))]

    def figures(self) -> Mapping[str, float]:
        """What the judge has used since the run began."""
        used = self._client.used
        return {
            "serving/judge_requests": float(used.requests),
            "serving/judge_prompt_tokens": float(used.prompt_tokens),
            "serving/judge_written_tokens": float(used.completion_tokens),
            "serving/judge_cost": self._client.cost,
        }

    def _ask(self, talks: Sequence[Sequence[Mapping[str, str]]], names: Sequence[str]) -> list[Answer]:
        part = self._part
        seeds = None if part.seed is None else [part.seed] * len(talks)
        return self._client.ask(talks, max_tokens=part.max_tokens, temperature=part.temperature, seeds=seeds, names=names)

    def _question(self, rollout: Rollout) -> str:
        """The template filled in one pass, so that what a response writes in braces stays what it is."""
        example = rollout.example
        texts = {"question": _plain(example.prompt), "response": rollout.text}
        reference = example.answer if example.answer is not None else example.solution
        shown = {name: self._fenced(text) for name, text in texts.items()}
        shown |= {"reference": _MISSING if reference is None else self._fenced(reference), "best": str(self._part.best)}
        return _PLACE.sub(lambda place: shown[place[1]], self._part.template)

    def _fenced(self, text: str) -> str:
        """A text between two lines whose mark its writer cannot have written, since it depends on the whole text."""
        mark = f"=== {blake2b(text.encode(errors='surrogatepass'), digest_size=8).hexdigest()} ==="
        return f"{mark}\n{_shortened(text, self._part.most_characters)}\n{mark}"

    def _reminder(self) -> Mapping[str, str]:
        words = f"The last line must be 'Score: N' and nothing else, with N from 0 to {self._part.best}. Say only that line."
        return {"role": "user", "content": words}

    def _verdict(self, grade: Grade) -> Verdict:
        return Verdict(reward=grade.reward, correct=grade.reward >= self._part.correct_from, feedback=grade.reason or None)

    def _ungraded(self, example: Example, answer: Answer) -> VerifierError:
        cut = " It was cut off: raise --verifier.max-tokens." if answer.finish == "length" else ""
        return VerifierError(
            f"The judge {self._part.endpoint.model!r} gave no grade to the response to {example.id!r}: the last line should be "
            f"'Score: N' with N from 0 to {self._part.best}, and its answer ends with {answer.text[-_SHOWN:]!r}.{cut} Nothing "
            "was counted as a zero. Ask more plainly (--verifier.template), or take a judge that keeps to a form."
        )


def grade_of(answer: str, *, best: int) -> Grade | None:
    """The grade in the last line of an answer; None where that line is anything else, or the grade lies outside of 0..best."""
    reason, _, last = answer.strip().rpartition("\n")
    found = _GRADE.fullmatch(last.strip())
    if found is None or float(found[1]) > best:
        return None
    return Grade(reward=float(found[1]) / best, reason=reason.strip())


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = most // 2
    return f"{text[:head]}\n[{len(text) - most} characters are left out here]\n{text[len(text) - (most - head) :]}"


def _plain(prompt: str | tuple[Mapping[str, Any], ...]) -> str:
    if isinstance(prompt, str):
        return prompt
    turns = ((turn.get("role"), turn.get("content")) for turn in prompt)
    return "\n\n".join(f"{role}: {text if isinstance(text, str) else json.dumps(text)}" for role, text in turns)
