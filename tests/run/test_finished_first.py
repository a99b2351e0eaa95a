"""Why a batch is the prompts of its step: whoever trains on what is finished first trains the student to be short.

The signal is the same for every response: each is made likelier by as much. Where responses come as often as the student
writes them, that moves nothing on average (the mean of a score is zero). Where the `n` that end first of `m` are taken, it
moves the student towards short ones, by an amount that order statistics give.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, product
from math import comb
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from torch import Tensor

from tutelage.data import DataSource
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.objectives import CrossEntropy, Term
from tutelage.objectives.terms import Constant
from tutelage.recipes import Recipe
from tutelage.rollouts import Prompt, RolloutWriter
from tutelage.rollouts.sources import Sampling, StudentRollouts
from tutelage.run import api
from tutelage.run.assembly import assemble, prompt_order
from tutelage.run.config import RunConfig
from tutelage.training.settings import AsynchronousSettings, CheckpointSettings, OptimiserSettings, TrainingSettings
from tutelage.types import Rollout, StepBatch

LONGEST, TAKEN, BEGUN = 7, 32, 128
"""Tokens of a response; responses of a step, and how many are begun where the first that end are taken."""
PROMPT = "a"


@dataclass(frozen=True)
class Exact:
    """What a student writes to the prompt, by enumeration."""

    lengths: Tensor
    """Probability of each length from 1 on; gradients flow to the student."""

    @property
    def mean(self) -> Tensor:
        return (self.lengths * torch.arange(1, LONGEST + 1)).sum()


def exact(student: LanguageModel) -> Exact:
    """Every prefix that has not ended, with its probability; what ends after it has one token more."""
    ids = student.tokenizer(PROMPT)["input_ids"]
    end = student.tokenizer.eos_token_id
    others = [index for index in range(student.tokenizer_size) if index != end]
    whole = torch.tensor([[*ids, *rest] for rest in product(others, repeat=LONGEST - 1)])
    rows = student.model(whole).logits[:, len(ids) - 1 :, : student.tokenizer_size].log_softmax(-1)
    going = rows[:, :-1].gather(-1, whole[:, len(ids) :].unsqueeze(-1)).squeeze(-1).cumsum(-1).exp()
    going = torch.cat([torch.ones(len(whole), 1), going], dim=-1)  # probability of each prefix, repeated for what follows it
    repeats = torch.tensor([float(len(others)) ** (LONGEST - 1 - depth) for depth in range(LONGEST)])
    reached = going.sum(0) / repeats
    ended = (going * rows[:, :, end].exp()).sum(0) / repeats
    return Exact(lengths=torch.cat([ended[:-1], reached[-1:]]))


def shares_of_first(lengths: Tensor) -> Tensor:
    """How often each length is among the `TAKEN` shortest of `BEGUN` draws: the mean over order statistics."""
    below = [0.0, *lengths.double().cumsum(0).clamp(max=1.0).tolist()]

    def at_most(rank: int, chance: float) -> float:
        """That the draw of this rank is at most as long as what so large a share of draws is."""
        return sum(comb(BEGUN, k) * chance**k * (1.0 - chance) ** (BEGUN - k) for k in range(rank, BEGUN + 1))

    ranks = range(1, TAKEN + 1)
    return torch.tensor([fmean(at_most(rank, high) - at_most(rank, low) for rank in ranks) for low, high in pairwise(below)])


def first_finished(write: Callable[..., list[Rollout]], prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
    """Begin more than are needed, a token each at a time, and take what ends first."""
    begun = write([*prompts] * (BEGUN // TAKEN), step=step)
    return sorted(begun, key=lambda rollout: len(rollout.response_ids))[:TAKEN]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    return make_model(folder, tokenizer=make_tokenizer("a"), shape=Shape(hidden=16, initial_std=0.2), seed=1)


def config(student: Path, output: Path, *, seed: int = 0) -> RunConfig:
    data = output.parent / "prompts.jsonl"
    data.write_text("".join(json.dumps({"id": str(index), "prompt": PROMPT}) + "\n" for index in range(TAKEN)))
    term = Term(name="likelihood", signal=CrossEntropy(), on=("student",), reduction=Constant(divisor=1.0))
    sampling = Sampling(n=1, max_new_tokens=LONGEST)
    return RunConfig(
        recipe=Recipe(name="equal", rollouts=StudentRollouts(sampling=sampling), terms=(term,)),
        student=ModelSource(path=str(student)),
        data=DataSource(path=str(data)),
        optimiser=OptimiserSettings(learning_rate=1e-3, warmup_steps=1, decay="constant"),
        training=TrainingSettings(num_steps=16, prompts_per_step=TAKEN),
        asynchronous=AsynchronousSettings(staleness=2),
        checkpoints=CheckpointSettings(every=0),
        output=str(output),
        seed=seed,
    )


def test_the_pull_towards_short_responses_is_that_of_order_statistics_and_ours_is_none(student, tmp_path):
    """The real writer's batches and the real learner's gradient, along the direction in which responses grow longer."""
    made = replace(config(student, tmp_path / "run"), asynchronous=AsynchronousSettings())
    run = assemble(made)
    parameters, found = run.student.trainable_parameters(), exact(run.student)
    longer = torch.autograd.grad(found.mean, parameters, retain_graph=True)
    of_first = (shares_of_first(found.lengths.detach()) * found.lengths.log()).sum()
    expected = along(torch.autograd.grad(of_first, parameters), longer)
    prompts, batches = prompt_order(made, run), 40

    def pull(rollouts: Sequence[Rollout], step: int) -> float:
        batch = StepBatch.of(rollouts, run.verifier.judge(rollouts), seed=0, step=step)
        return -along(run.learner.gradient(batch, {}, step=step), longer)

    ours = [pull(run.writer.write(prompts(step), step=step), step) for step in range(batches)]
    first = [pull(first_finished(run.writer.write, prompts(step), step=step), step) for step in range(batches)]
    assert abs(fmean(ours)) < 4.0 * error(ours)
    assert abs(fmean(first) - expected) < 4.0 * error(first)
    assert expected < -8.0 * max(error(ours), error(first)), "the two can be told apart"


def along(vectors: Sequence[Tensor], direction: Sequence[Tensor]) -> float:
    """Size of a vector's part in a direction."""
    length = sum(float(part.square().sum()) for part in direction) ** 0.5
    return sum(float((one * part).sum()) for one, part in zip(vectors, direction, strict=True)) / length


def error(values: Sequence[float]) -> float:
    """Standard error of a mean."""
    return stdev(values) / len(values) ** 0.5


def test_a_student_that_is_trained_on_what_is_finished_first_collapses_to_short_responses_and_ours_does_not(
    student, tmp_path, monkeypatch
):
    """Whole asynchronous runs, each mean length by enumeration."""

    def after(name: str, seed: int) -> float:
        folder = api.train(config(student, tmp_path / f"{name}-{seed}", seed=seed)).student
        with torch.no_grad():
            return float(exact(load(ModelSource(path=str(folder)), role="student")).mean)

    with torch.no_grad():
        before = float(exact(load(ModelSource(path=str(student)), role="student")).mean)
    seeds, write = range(3), RolloutWriter.write
    ours = [after("ours", seed) for seed in seeds]

    def impatient(self: RolloutWriter, prompts: Sequence[Prompt], *, step: int) -> list[Rollout]:
        return first_finished(partial(write, self), prompts, step=step)

    monkeypatch.setattr(RolloutWriter, "write", impatient)
    first = [after("first", seed) for seed in seeds]
    assert max(first) < 0.4 * before, "the shortest response of all has one token"
    assert min(ours) > 0.5 * before, "noise moves a single run"
    assert abs(fmean(ours) - before) < 0.25 * before, "and all of them together hardly"
