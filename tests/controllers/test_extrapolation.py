"""Extrapolated steps, on a model of three numbers whose every move is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from tutelage import controllers
from tutelage.controllers import Extrapolation
from tutelage.errors import ConfigError
from tutelage.models import LanguageModel

START, MOVE = torch.tensor([0.1, -2.0, 0.3]), torch.tensor([0.7, 0.01, -1.0 / 3.0])


class Numbers(nn.Module):
    """Weights that may be trained beside one that may not."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Parameter(START.clone())
        self.fixed = nn.Parameter(torch.tensor([5.0]), requires_grad=False)

    def trainable_state(self) -> dict[str, Tensor]:
        return {"trained": self.trained.detach()}

    @torch.no_grad()
    def load_trainable(self, state: dict[str, Tensor]) -> None:
        self.trained.copy_(state["trained"])


@dataclass
class Bench:
    """Scores the numbers by a function of how many moves they lie from the start."""

    worth: Callable[[float], float]
    student: LanguageModel = field(default_factory=lambda: cast(LanguageModel, Numbers()))
    controls: dict[str, float] = field(default_factory=dict)
    max_new_tokens: int = 8
    tried: list[float] = field(default_factory=list)

    @property
    def numbers(self) -> Tensor:
        return cast(Numbers, self.student).trained.data

    @property
    def moves(self) -> float:
        return float(((self.numbers - START) / MOVE).mean())

    def score(self, num_prompts: int) -> float:
        assert num_prompts == 64
        self.tried.append(round(self.moves, 3))
        return self.worth(self.moves)

    def gradients(self, responses: int, *, cuts: Sequence[int], step: int) -> list[list[Tensor]]:
        raise AssertionError("extrapolation asks for no gradient")


def at_work(bench: Bench, **settings: float) -> controllers.Controller:
    return controllers.build({"extrapolation": Extrapolation(**settings)}, bench)["extrapolation"]


def test_points_that_help_are_the_start_and_3_5_7_9_and_11_differences():
    bench = Bench(worth=lambda moves: moves)
    rule = at_work(bench)
    bench.numbers.add_(MOVE)
    found = rule.observe(1)
    assert bench.tried == pytest.approx([1, 3, 5, 7, 9, 11], abs=1e-2)
    assert found == {"control/extrapolations_accepted": 5.0, "control/extrapolation_reward": pytest.approx(11.0, abs=1e-2)}


def test_a_trial_that_does_not_help_restores_the_weights_bit_for_bit():
    bench = Bench(worth=lambda moves: -abs(moves - 5.0))
    rule = at_work(bench)
    bench.numbers.add_(MOVE)
    rule.observe(1)
    assert bench.tried == pytest.approx([1, 3, 5, 7], abs=1e-2)
    before = START + MOVE
    for factor in (2.0, 2.0 / 3.0):
        before = before + factor * (before - START)
    assert torch.equal(bench.numbers, before)


def test_a_score_that_stays_the_same_does_not_count_as_better():
    bench = Bench(worth=lambda moves: 0.5)
    rule = at_work(bench)
    bench.numbers.add_(MOVE)
    assert rule.observe(1)["control/extrapolations_accepted"] == 0.0
    assert torch.equal(bench.numbers, START + MOVE)


def test_weights_that_have_not_moved_are_a_fixed_point():
    bench = Bench(worth=lambda moves: moves)
    at_work(bench).observe(1)
    assert torch.equal(bench.numbers, START)


def test_the_next_difference_is_taken_from_the_point_that_was_accepted():
    bench = Bench(worth=lambda moves: -abs(moves - 3.5))
    rule = at_work(bench)
    bench.numbers.add_(MOVE)
    rule.observe(1)
    assert bench.moves == pytest.approx(3.0, abs=1e-2)
    bench.numbers.add_(-MOVE)
    bench.tried.clear()
    rule.observe(2)
    assert bench.tried == pytest.approx([2, 0], abs=1e-2), "from 3 to 2, so the trial is 2 + 2 (2 - 3)"


def test_it_acts_after_steps_that_are_powers_of_two_alone():
    bench = Bench(worth=lambda moves: 0.0)
    rule = at_work(bench)
    assert [step for step in range(1, 70) if rule.observe(step)] == [1, 2, 4, 8, 16, 32, 64]


def test_weights_that_are_not_trained_are_never_touched():
    bench = Bench(worth=lambda moves: moves)
    rule = at_work(bench)
    bench.numbers.add_(MOVE)
    rule.observe(1)
    assert float(cast(Numbers, bench.student).fixed) == 5.0


def test_a_saved_rule_takes_the_difference_from_the_same_base():
    def run(stop: bool) -> Tensor:
        bench = Bench(worth=lambda moves: -abs(moves - 6.0))
        rule = at_work(bench)
        for step in range(1, 5):
            bench.numbers.add_(MOVE)
            rule.observe(step)
            if stop:
                state, rule = rule.state_dict(), at_work(bench)
                rule.load_state_dict(state)
        return bench.numbers

    assert torch.equal(run(stop=True), run(stop=False))


@pytest.mark.parametrize("settings", [{"factor": 0.0}, {"trials": 0}, {"num_prompts": 0}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="Extrapolation needs"):
        Extrapolation(**settings)
