"""Windows that follow the alignment of their gradient, on gradients that are made up."""

from dataclasses import dataclass, field
from typing import cast

import pytest
import torch
from torch import Tensor

from tutelage import controllers
from tutelage.controllers import AlignedWindow
from tutelage.errors import ConfigError
from tutelage.models import LanguageModel


@dataclass
class Probes:
    """Answers each probe with the next cosine, as a vector at that angle to the whole gradient."""

    cosines: list[float]
    controls: dict[str, float] = field(default_factory=lambda: {"horizon": 100.0})
    max_new_tokens: int = 400
    student: LanguageModel = cast(LanguageModel, None)
    cuts: list[tuple[int, ...]] = field(default_factory=list)

    def gradients(self, responses: int, *, cuts: tuple[int, ...], step: int) -> list[list[Tensor]]:
        assert responses == 8
        self.cuts.append(cuts)
        angle = torch.tensor(self.cosines.pop(0)).acos()
        return [[3.0 * angle.cos(), 3.0 * angle.sin()], [torch.tensor(0.5), torch.tensor(0.0)]]

    def score(self, num_prompts: int) -> float:
        raise AssertionError("a window asks for no score")


def at_work(rule: AlignedWindow, probes: Probes) -> controllers.Controller:
    return controllers.build({"window": rule}, probes)["window"]


def after(probes: Probes, *, steps: int, **settings: float) -> float:
    rule = at_work(AlignedWindow(**settings), probes)
    for step in range(1, steps + 1):
        rule.observe(step)
    return probes.controls["horizon"]


def test_a_badly_aligned_window_grows_by_the_factor_until_it_holds_the_longest_response():
    assert after(Probes([0.2]), steps=20) == 150.0
    assert after(Probes([0.2] * 9), steps=180) == 400.0


def test_a_well_aligned_window_shrinks_by_the_factor_but_not_below_the_smallest():
    assert after(Probes([0.99]), steps=20) == pytest.approx(100.0 / 1.5)
    assert after(Probes([0.99] * 9), steps=180, smallest=30) == 30.0


def test_an_alignment_of_one_for_ever_never_widens_a_window():
    probes = Probes([1.0] * 12)
    rule, widths = at_work(AlignedWindow(), probes), [100.0]
    for step in range(1, 241):
        rule.observe(step)
        widths.append(probes.controls["horizon"])
    assert widths == sorted(widths, reverse=True)


def test_between_the_bounds_nothing_moves():
    assert after(Probes([0.8] * 3), steps=60) == 100.0


def test_a_probe_comes_every_so_many_steps_and_compares_the_window_with_the_longest_response():
    probes = Probes([0.2, 0.8])
    after(probes, steps=39)
    assert probes.cuts == [(100, 400)]
    probes = Probes([0.2, 0.8])
    after(probes, steps=40)
    assert probes.cuts == [(100, 400), (150, 400)]


def test_probes_of_the_same_window_are_averaged_with_the_older_one_at_the_memory():
    """0.5 * 0.8 + 0.5 * 0.62 = 0.71 stays above 0.7; without a memory 0.62 would have widened the window."""
    assert after(Probes([0.8, 0.62]), steps=40) == 100.0
    assert after(Probes([0.8, 0.62]), steps=40, memory=0.0) == 150.0


def test_what_was_measured_of_another_window_is_forgotten():
    """After the window grew, 0.72 alone counts; averaged with the 0.2 of before it would have grown again."""
    assert after(Probes([0.2, 0.72]), steps=40) == 150.0


def test_a_window_beyond_the_longest_response_counts_as_that_long():
    probes = Probes([1.0], controls={"horizon": 512.0}, max_new_tokens=256)
    rule = at_work(AlignedWindow(every=1), probes)
    metrics = rule.observe(1)
    assert metrics["control/window_tokens"] == 256
    assert metrics["control/alignment"] == pytest.approx(1.0)
    assert probes.cuts == [(256, 256)]
    assert probes.controls["horizon"] == pytest.approx(256 / 1.5)


@pytest.mark.parametrize("cut", [20, 30])
def test_a_saved_window_goes_on_as_if_it_had_never_stopped(cut):
    cosines = [0.8, 0.62, 0.3, 0.8]
    whole = Probes(list(cosines))
    expected = after(whole, steps=80)
    first = Probes(list(cosines))
    rule = at_work(AlignedWindow(), first)
    for step in range(1, cut + 1):
        rule.observe(step)
    second = Probes(first.cosines)
    resumed = at_work(AlignedWindow(), second)
    resumed.load_state_dict(rule.state_dict())
    for step in range(cut + 1, 81):
        resumed.observe(step)
    assert second.controls["horizon"] == expected != 100.0


@pytest.mark.parametrize(
    "settings",
    [{"every": 0}, {"responses": 0}, {"smallest": 0}, {"growth": 1.0}, {"memory": 1.0}, {"low": 0.96}, {"high": 1.1}],
)
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(ConfigError, match="AlignedWindow needs"):
        AlignedWindow(**settings)
