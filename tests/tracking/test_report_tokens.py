import math
from pathlib import Path

import numpy as np
import pytest

from tutelage.tracking import RunFolder
from tutelage.tracking.report import palette, positions, tokens
from tutelage.tracking.report.run import load
from tutelage.tracking.rollout_table import write_table


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", config={}, environment={})


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


@pytest.mark.parametrize("page", [palette.LIGHT_PAGE, palette.DARK_PAGE])
@pytest.mark.parametrize("colour", palette.RUNS)
def test_curves_stand_out_from_both_pages(colour: str, page: str):
    assert contrast(rgb(colour), rgb(page)) >= 3.0  # WCAG 2.2, 1.4.11: graphical objects


@pytest.mark.parametrize(
    ("ink", "page"), [(palette.LIGHT_INK, palette.LIGHT_PAGE), (palette.DARK_INK, palette.DARK_PAGE)], ids=["light", "dark"]
)
@pytest.mark.parametrize("opacity", palette.OPACITIES)
def test_text_on_every_level_of_divergence_is_readable(opacity: float, ink: str, page: str):
    hue = [channel / 255 for channel in palette.DIVERGENCE]
    background = tuple(opacity * over + (1 - opacity) * under for over, under in zip(hue, rgb(page), strict=True))
    assert contrast(rgb(ink), background) >= 4.5  # WCAG 2.2, 1.4.3: text


def test_the_page_uses_the_colours_that_were_checked():
    style = (Path(palette.__file__).parent / "report.css").read_text()
    for colour in (palette.LIGHT_PAGE, palette.LIGHT_INK, palette.DARK_PAGE, palette.DARK_INK):
        assert colour in style


def test_there_is_a_colour_dash_and_symbol_for_each_run_and_an_opacity_for_each_level():
    assert len(palette.RUNS) == len(palette.DASHES) == len(palette.SYMBOLS) == len(set(palette.RUNS))
    assert len(palette.OPACITIES) == len(palette.LEVELS) + 1
    assert list(palette.OPACITIES) == sorted(palette.OPACITIES)


@pytest.mark.parametrize(("nats", "level"), [(math.nan, 0), (-1.0, 0), (0.0, 0), (0.05, 1), (0.9, 4), (1.0, 5), (100.0, 7)])
def test_a_divergence_has_the_level_of_the_bound_below_it(nats: float, level: int):
    assert palette.level(nats) == level


def test_a_token_carries_its_colour_author_and_numbers(folder: RunFolder, record):
    shown = record(
        ["a", "b", "c"],
        token_ids=[7, 8, 9],
        authors=["student", "teacher", "dataset"],
        student_log_probs=(-0.5, -1.0, -1.5),
        teacher_log_probs=(-0.25, -2.0, math.nan),
        reverse_kl_nats=(0.01, 0.6, 5.0),
        weights=(1.0, 1.0, 0.0),
    )
    write_table(folder.rollout_file(1), [shown])
    html = tokens.section(load(folder.path))
    assert '<span class="t k0 a-s" data-t="-0.5|-0.25|0.01|1|student|7">a</span>' in html
    assert '<span class="t k4 a-t" data-t="-1|-2|0.6|1|teacher|8">b</span>' in html
    assert '<span class="t k7 a-d w0" data-t="-1.5||5|0|dataset|9">c</span>' in html
    assert "the teacher wrote it" in html  # the legend explains the marks that occur


def test_the_legend_explains_only_what_occurs(folder: RunFolder, record):
    write_table(folder.rollout_file(1), [record(["a"], reverse_kl_nats=(0.1,), weights=(1.0,))])
    html = tokens.section(load(folder.path))
    assert "wrote it" not in html
    assert "faded" not in html


def test_without_distributions_tokens_are_coloured_by_their_log_ratio(folder: RunFolder, record):
    sampled = record(["a", "b"], student_log_probs=(-0.5, -0.5), teacher_log_probs=(-3.0, -0.1))
    write_table(folder.rollout_file(1), [sampled])
    html = tokens.section(load(folder.path))
    assert "log pi_S - log pi_T" in html
    assert 'class="t k6 a-s"' in html  # 2.5 nats
    assert 'class="t k0 a-s"' in html  # the teacher likes the token better


def test_line_ends_and_parts_of_characters_are_visible(folder: RunFolder, record):
    write_table(folder.rollout_file(1), [record(["\n", "", "\t"])])
    html = tokens.section(load(folder.path))
    assert "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n</span>" in html
    assert "\N{MIDDLE DOT}</span>" in html
    assert "\N{RIGHTWARDS ARROW TO BAR}\t</span>" in html


def test_first_middle_and_last_table_are_shown_and_different_prompts_first(folder: RunFolder, record):
    for step in (1, 2, 3, 4, 5):
        write_table(folder.rollout_file(step), [record([str(i)], group=i // 4, example_id=f"e{i}") for i in range(60)])
    html = tokens.section(load(folder.path))
    assert [f'data-step="{step}"' in html for step in (1, 2, 3, 4, 5)] == [True, False, True, False, True]
    pane = html.split('class="pane"')[1]
    shown = [i for i in range(60) if f"<strong>e{i}</strong>" in pane]
    assert shown == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert "10 of 60 rollouts of step 5." in pane


def test_a_long_response_is_cut_and_says_so(folder: RunFolder, record):
    write_table(folder.rollout_file(1), [record(["x"] * 1000)])
    html = tokens.section(load(folder.path))
    assert html.count('class="t ') == 800
    assert "200 further tokens not shown." in html


def test_the_profile_by_position_is_the_mean_and_the_quantiles_of_each_position(folder: RunFolder, record):
    values = np.random.default_rng(0).exponential(size=(40, 3)).astype(np.float32)
    write_table(folder.rollout_file(1), [record(["a", "b", "c"], reverse_kl_nats=row) for row in values.tolist()])
    drawn = positions.draw([load(folder.path)], identifier="p")
    assert drawn is not None
    low, high, mean = drawn.figure["data"]
    assert mean["x"] == [1.0, 2.0, 3.0]
    np.testing.assert_allclose(mean["y"], values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(low["y"], np.quantile(values, 0.05, axis=0), rtol=1e-5)
    np.testing.assert_allclose(high["y"], np.quantile(values, 0.95, axis=0), rtol=1e-5)


def test_long_responses_are_binned_and_sparse_ends_left_out(folder: RunFolder, record):
    records = [record(["x"] * 480, reverse_kl_nats=[1.0] * 480) for _ in range(8)]
    records.append(record(["x"] * 960, reverse_kl_nats=[1.0] * 480 + [math.nan] * 220 + [9.0] + [math.nan] * 259))
    write_table(folder.rollout_file(1), records)
    drawn = positions.draw([load(folder.path)], identifier="p")
    assert drawn is not None
    mean = drawn.figure["data"][2]
    assert len(mean["x"]) <= 48
    assert set(mean["y"]) == {1.0}  # the one token far behind is no sample of anything


def test_there_is_no_profile_without_divergences(folder: RunFolder, record):
    assert positions.draw([load(folder.path)], identifier="p") is None
    write_table(folder.rollout_file(1), [record(["a"])])
    assert positions.draw([load(folder.path)], identifier="p") is None


def test_a_long_prompt_is_folded_away(folder: RunFolder, record):
    write_table(folder.rollout_file(1), [record(["a"], prompt="x" * 1000), record(["a"], prompt="short")])
    html = tokens.section(load(folder.path))
    assert html.count("<details>") == 1
    assert "Prompt, 1,000 characters" in html


def test_a_rollout_says_what_the_verifier_said(folder: RunFolder, record):
    records = [
        record(["a"], correct=True, reward=1.0),
        record(["a"], correct=False, feedback="sign error", finish="length"),
        record(["a"], reward=0.25, context="skipped:missing solution"),
    ]
    write_table(folder.rollout_file(1), records)
    right, wrong, rewarded = tokens.section(load(folder.path)).split("<article")[1:]
    assert ">right<" in right
    assert "reward" not in right  # it says the same as the mark
    assert ">wrong<" in wrong
    assert "cut at the limit · sign error" in wrong
    assert "reward 0.250 · context skipped:missing solution" in rewarded
