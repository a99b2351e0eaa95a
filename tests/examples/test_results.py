"""The committed results, and what the documentation says of them."""

import json
from pathlib import Path
from typing import Any

import pytest

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
REVERSE, FORWARD = "eval/reverse_kl_nats", "eval/teacher_text_forward_kl_nats"
FULL = "gkd beta=1 lambda=1"


def runs(name: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / f"{name}.json").read_text())["runs"]


def change(run: dict[str, Any], measure: str) -> float:
    return run["after"][measure][0] / run["before"][measure][0] - 1.0


@pytest.fixture(scope="module")
def by_seed() -> list[dict[str, dict[str, Any]]]:
    found = runs("stories")
    return [{run["recipe"]: run for run in found if run["seed"] == seed} for seed in sorted({run["seed"] for run in found})]


def test_every_seed_ran_every_recipe_for_as_long(by_seed):
    for recipes in by_seed:
        assert list(recipes) == ["sft", "gkd", FULL, "opd"]
        assert {run["num_steps"] for run in recipes.values()} == {300}


def test_the_learning_rates_are_those_that_did_best_on_other_stories():
    best = {}
    for run in runs("stories-grid"):
        total = run["after"][REVERSE][0] + run["after"][FORWARD][0]
        best[run["recipe"]] = min(best.get(run["recipe"], (float("inf"), 0.0)), (total, run["learning_rate"]))
    assert {(run["recipe"], run["learning_rate"]) for run in runs("stories")} == {
        (name, rate) for name, (_, rate) in best.items()
    }


def test_full_reverse_kl_lowers_the_reverse_kl_by_two_fifths_and_raises_the_forward_kl(by_seed):
    for recipes in by_seed:
        assert change(recipes[FULL], REVERSE) <= -0.4
        assert recipes[FULL]["after"][FORWARD][0] > recipes[FULL]["before"][FORWARD][2]  # above the interval from before
        assert min(recipes.values(), key=lambda run: change(run, REVERSE)) is recipes[FULL]


def test_the_default_gkd_lowers_the_reverse_kl_by_a_third_and_leaves_the_forward_kl(by_seed):
    for recipes in by_seed:
        assert change(recipes["gkd"], REVERSE) <= -0.33
        _, low, high = recipes["gkd"]["before"][FORWARD]
        assert low < recipes["gkd"]["after"][FORWARD][0] < high


def test_sft_alone_lowers_the_forward_kl_and_lowers_the_reverse_kl_least(by_seed):
    for recipes in by_seed:
        assert [name for name, run in recipes.items() if change(run, FORWARD) < -0.05] == ["sft"]
        assert max(recipes.values(), key=lambda run: change(run, REVERSE)) is recipes["sft"]


def test_a_sampled_token_says_less_than_a_distribution(by_seed):
    for recipes in by_seed:
        falls = {name: -change(run, REVERSE) for name, run in recipes.items()}
        assert falls["sft"] < falls["opd"] < falls["gkd"]


def test_word_problems_stay_far_below_three_gigabytes():
    assert [run["recipe"] for run in runs("gsm8k")] == ["gkd", "opd", "tropd", "opsd"]
    assert all(run["peak_memory_mib"] < 3000 for run in runs("gsm8k"))


def test_the_first_page_gives_the_quickstart_as_it_was_measured():
    page = (Path(__file__).parents[2] / "README.md").read_text()
    measured = runs("quickstart")
    assert [run["seed"] for run in measured] == [0, 1, 2]
    for place, line in enumerate(measured[0]["lines"]):
        cells = [f"{run['lines'][place]['accuracy']:.1%}" for run in measured]
        assert f"| {line['name']} | {' | '.join(cells)} |" in page


def test_the_quickstart_tells_distillation_from_supervised_training_at_every_seed():
    for run in runs("quickstart"):
        teacher, before, distilled, supervised = run["lines"]
        assert teacher["accuracy"] >= 0.98
        assert distilled["interval"][0] > max(before["interval"][1], supervised["interval"][1])


def test_the_packages_sampler_took_the_least_time_on_a_cpu():
    found = runs("sampling")
    assert {(run["prompts"], run["new_tokens"]) for run in found} == {(16, 32), (64, 64)}
    for run in found:
        _, least, largest = run["over_cached_sampler"]
        assert least == largest == 1.0 if run["engine"] == "cached_sampler" else least > 1.0


def test_kept_scores_stay_within_their_stated_error_and_within_130_bytes_a_token():
    found = json.loads((RESULTS / "score_cache.json").read_text())
    assert {run["k"] for run in found["runs"]} == {32}
    for run in found["runs"]:
        assert run["largest_error_nats"] <= found["stated_error_nats"]
        assert run["bytes_per_token"] <= 130.0


def test_merged_shards_take_fewer_bytes_and_a_third_of_the_time_at_most():
    found = json.loads((RESULTS / "score_cache.json").read_text())["merging"]
    before, after = found["before"], found["after"]
    assert before["shards"] >= 32
    assert after["shards"] == 1
    assert after["bytes_per_token"] < before["bytes_per_token"] <= 130.0
    assert 3 * after["look_up_cpu_seconds"][2] < before["look_up_cpu_seconds"][1]


def test_an_epoch_over_kept_scores_takes_a_third_of_the_time_and_ends_as_near_to_the_teacher():
    found = json.loads((RESULTS / "score_cache.json").read_text())
    epoch, distances = found["epoch"], found["epoch"]["forward_kl_nats"]
    assert found["rounds"] >= 3
    assert epoch["online_over_offline"][1] >= 3.0
    online, offline, before = (distances[name][0] for name in ("online", "offline", "before"))
    assert abs(offline - online) < 1e-3 * (before - online)  # far less than what the updates did
