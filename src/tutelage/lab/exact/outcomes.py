"""Everything that a recipe's rollout source may write in one step, with its probability."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.lab.exact.world import MOST_OUTCOMES, Size, World
from tutelage.math.behaviour import within_ball
from tutelage.rollouts.drawing import distribution
from tutelage.rollouts.sources import (
    AnyRollouts,
    BestTeacherRollouts,
    BlendedRollouts,
    BufferedRollouts,
    DatasetRollouts,
    EnvironmentRollouts,
    MixedRollouts,
    ReplayRollouts,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
    WatchedRollouts,
)
from tutelage.types import Author, Rollout, StepBatch, Verdict
from tutelage.types.schedules import value_at


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draw:
    """One response to one prompt."""

    probability: float
    rollout: Rollout
    verdict: Verdict
    rows: Int[Tensor, " time"]
    """The rows of the tables that it passes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcome:
    """What was written in a step."""

    probability: float
    draws: tuple[Draw, ...]
    """Those of one prompt lie together."""

    def batch(self) -> StepBatch:
        """The step as training sees it; its noise is that of seed 0 until somebody replaces it."""
        return StepBatch.of([draw.rollout for draw in self.draws], [draw.verdict for draw in self.draws])

    def rows(self) -> Int[Tensor, " row"]:
        """For each row of the batch its row in the tables."""
        return torch.cat([draw.rows for draw in self.draws])


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One way in which a source may write a step."""

    probability: float
    sampling: Sampling
    authors: tuple[Author, ...]
    """Who writes, by the token's place in the response; nothing is written beyond the last of them."""
    radius: float = 0.0
    """In nats: how far the student's draws may be pulled towards the teacher."""


def cases(source: AnyRollouts, *, length: int, step: int) -> list[Case]:
    """The ways in which a source writes.

    Responses of the data set are distributed as the teacher's at temperature 1, one for each prompt. Those that are
    written once for a whole run are taken at the moment when they are written.

    Args:
        source: The recipe's choice.
        length: Stands in for its `max_new_tokens`.
        step: Optimiser step, for a source that moves.

    Raises:
        ConfigError: What the source writes depends on more than the tables: on earlier steps, or on a conversation.
    """

    def written(sampling: Sampling, author: Author, probability: float = 1.0) -> Case:
        return Case(probability=probability, sampling=sampling, authors=(author,) * length)

    match source:
        case StudentRollouts(sampling=sampling, horizon=horizon):
            reach = length if horizon is None else min(max(1, round(value_at(horizon, step))), length)
            return [Case(probability=1.0, sampling=sampling, authors=(Author.STUDENT,) * reach)]
        case ReplayRollouts(sampling=sampling):
            return [written(sampling, Author.STUDENT)]
        case DatasetRollouts():
            return [written(Sampling(), Author.DATASET)]
        case TeacherRollouts(sampling=sampling):
            return [written(sampling, Author.TEACHER)]
        case MixedRollouts(sampling=sampling, student_fraction=share):
            by_teacher = source.otherwise == "teacher"
            other = (
                written(sampling, Author.TEACHER, 1.0 - share)
                if by_teacher
                else written(Sampling(), Author.DATASET, 1.0 - share)
            )
            return [case for case in (written(sampling, Author.STUDENT, share), other) if case.probability > 0.0]
        case TeacherPrefixRollouts(sampling=sampling):
            theirs = round(value_at(source.prefix_fraction, step) * length)
            authors = (Author.TEACHER,) * theirs + (Author.STUDENT,) * (length - theirs)
            return [Case(probability=1.0, sampling=sampling, authors=authors)]
        case BlendedRollouts(sampling=sampling, radius=radius):
            return [replace(written(sampling, Author.STUDENT), radius=value_at(radius, step))]
        case WatchedRollouts() | BufferedRollouts() | BestTeacherRollouts() | EnvironmentRollouts():
            raise ConfigError(f"The recipe {beyond_tables(source)}")


def beyond_tables(source: AnyRollouts) -> str | None:
    """Why what a source writes cannot be listed, to be read after the recipe's name; none where it can."""
    match source:
        case WatchedRollouts() | BufferedRollouts():
            return (
                f"has rollouts ({source.kind!r}) that depend on what was written in earlier steps, and the exact oracle's "
                "tables know one step only. Compare it in training."
            )
        case BestTeacherRollouts():
            return (
                f"has rollouts ({source.kind!r}) that a verifier chooses among after a second prompt, and the exact oracle's "
                "tables know one prompt for student and teacher. Compare it in training."
            )
        case EnvironmentRollouts():
            return (
                f"has rollouts ({source.kind!r}) in which an environment replies, and the exact oracle's tables know only "
                "student and teacher. Compare it in training."
            )
        case _:
            return None


def outcomes(world: World, source: AnyRollouts, *, step: int = 0, most: int = MOST_OUTCOMES) -> Iterator[Outcome]:
    """Every step that a source may write; the probabilities add up to one.

    Args:
        world: Its student writes as it samples, its teacher `teacher` as it would be sampled.
        source: The recipe's choice.
        step: Optimiser step, for a source that moves.
        most: Bound on their number.

    Raises:
        ConfigError: There are more than `most`.
    """
    prompts = range(world.size.num_prompts)
    drawn = [
        (case, [_draws(world, case, prompt) for prompt in prompts])
        for case in cases(source, length=world.size.length, step=step)
    ]
    count = sum(prod(len(draws) ** case.sampling.n for draws in by_prompt) for case, by_prompt in drawn)
    if count > most:
        raise ConfigError(_too_many(count, most, world.size, n=max(case.sampling.n for case, _ in drawn)))
    return _combined(drawn)


def _combined(drawn: Sequence[tuple[Case, Sequence[Sequence[Draw]]]]) -> Iterator[Outcome]:
    for case, by_prompt in drawn:
        for draws in product(*(draws for draws in by_prompt for _ in range(case.sampling.n))):
            yield Outcome(probability=case.probability * prod(draw.probability for draw in draws), draws=draws)


def _draws(world: World, case: Case, prompt: int) -> list[Draw]:
    """The responses to a prompt that can be written."""
    teacher = world.teachers["teacher"]
    student = distribution(world.student, case.sampling)
    if case.radius > 0.0:
        student = within_ball(student, distribution(teacher, case.sampling), radius=case.radius)
    log_probs = {
        Author.STUDENT: student,
        Author.TEACHER: distribution(teacher, case.sampling),
        Author.DATASET: teacher.log_softmax(-1),
    }
    # As the sampler does: tokens that are not drawn but taken carry their log-probability at temperature 1.
    behaviour = student if case.sampling.temperature > 0.0 else world.student.log_softmax(-1)
    starts = {tokens[: len(case.authors)]: response for response, tokens in reversed(list(enumerate(world.responses)))}
    found = [
        _draw(world, prompt, response, authors=case.authors, log_probs=log_probs, behaviour=behaviour)
        for response in sorted(starts.values())
    ]
    return [draw for draw in found if draw.probability > 0.0]


def _draw(
    world: World,
    prompt: int,
    response: int,
    *,
    authors: Sequence[Author],
    log_probs: dict[Author, Float[Tensor, "prefix vocab"]],
    behaviour: Float[Tensor, "prefix vocab"],
) -> Draw:
    whole = world.responses[response]
    rows, tokens = world.path(prompt, response)[: len(authors)], torch.tensor(whole[: len(authors)])
    who = torch.tensor([int(author) for author in authors[: len(tokens)]])
    chance = torch.stack([log_probs[author][row, token] for author, row, token in zip(authors, rows, tokens, strict=False)])
    reward = float(world.rewards[prompt, response]) if len(tokens) == len(whole) else None  # a part was never judged
    return Draw(
        probability=float(chance.sum().exp()),
        rollout=Rollout(
            example=world.examples[prompt],
            group=prompt,
            prompt_ids=torch.tensor([0]),
            response_ids=tokens,
            authors=who,
            behaviour_log_probs=torch.where(who == int(Author.STUDENT), behaviour[rows, tokens], torch.nan),
            finish="stop" if int(tokens[-1]) == world.size.end_id else "length",
            text=" ".join(map(str, tokens.tolist())),
        ),
        verdict=Verdict() if reward is None else Verdict(reward=reward, correct=reward == 1.0),
        rows=rows,
    )


def _too_many(count: int, most: int, size: Size, *, n: int) -> str:
    def lowered(name: str, value: int, other: Size, draws: int) -> str:
        return f"{name} {value} ({other.num_responses ** (draws * other.num_prompts):,})"

    ways = [lowered("n", n - 1, size, n - 1)] if n > 1 else []
    if size.length > 1:
        ways.append(lowered("length", size.length - 1, replace(size, length=size.length - 1), n))
    if size.vocab > 2:
        ways.append(lowered("vocab", size.vocab - 1, replace(size, vocab=size.vocab - 1), n))
    if size.num_prompts > 1:
        ways.append(lowered("num-prompts", size.num_prompts - 1, replace(size, num_prompts=size.num_prompts - 1), n))
    return (
        f"There are {count:,} outcomes of a step with vocab {size.vocab}, length {size.length}, n {n} and {size.num_prompts} "
        f"prompt(s), and at most {most:,} are enumerated. Lower one of them; what is left then: {', '.join(ways)}."
    )
