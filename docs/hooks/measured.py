"""A hook of the documentation's build: `@measured NAME` becomes a table of a committed result of `benchmarks`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from tutelage.tracking.comparison.paired import ByExample, paired_difference
from tutelage.tracking.wording import markdown_table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
REVERSE, FORWARD = "eval/reverse_kl_nats", "eval/teacher_text_forward_kl_nats"
ENTROPY = "eval/student_entropy_nats"
_DIRECTIVE = re.compile(r"^@measured (\S+)$", re.MULTILINE)

Run = Mapping[str, Any]


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace each directive of a page."""
    return _DIRECTIVE.sub(lambda match: TABLES[match[1]](), markdown)


def read(name: str) -> list[Run]:
    """The runs of a result, in their order."""
    return json.loads((RESULTS / f"{name}.json").read_text())["runs"]


def by_recipe(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each recipe, in the order in which recipes first appear."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run["recipe"], []).append(run)
    return found


def over_seeds(runs: Sequence[Run], when: str, measure: str) -> tuple[float, float, float]:
    """Mean over seeds, and the ends of the union of their intervals."""
    values = [run[when][measure] for run in runs]
    return fmean(value[0] for value in values), min(value[1] for value in values), max(value[2] for value in values)


def stories() -> str:
    """One row before training, and one per recipe after it."""
    groups = by_recipe(read("stories"))
    rows = [_row("before", None, [run for runs in groups.values() for run in runs], "before")]
    rows += [_row(f"`{name}`", runs[0]["learning_rate"], runs, "after") for name, runs in groups.items()]
    return markdown_table(
        [
            "",
            "learning rate",
            "reverse KL, own text",
            "change",
            "forward KL, teacher's text",
            "change",
            "entropy",
            "CPU seconds",
        ],
        rows,
    )


def _row(label: str, rate: float | None, runs: Sequence[Run], when: str) -> list[str]:
    cells = [label, "" if rate is None else f"{rate:g}"]
    for measure in (REVERSE, FORWARD):
        mean, low, high = over_seeds(runs, when, measure)
        change = mean / over_seeds(runs, "before", measure)[0] - 1.0
        cells += [f"{mean:.2f} [{low:.2f}, {high:.2f}]", "" if when == "before" else f"{change:+.0%}"]
    seconds = "" if when == "before" else f"{fmean(run['cpu_seconds'] for run in runs):.0f}"
    return [*cells, f"{over_seeds(runs, when, ENTROPY)[0]:.2f}", seconds]


def grid() -> str:
    """After the same short training at several learning rates: reverse KL and forward KL, one row per recipe."""
    groups = by_recipe(read("stories-grid"))
    rates = sorted({run["learning_rate"] for run in read("stories-grid")})
    rows = [
        [f"`{name}`", *(f"{one['after'][REVERSE][0]:.2f} / {one['after'][FORWARD][0]:.2f}" for one in sorted(runs, key=_rate))]
        for name, runs in groups.items()
    ]
    return markdown_table(["", *(f"{rate:g}" for rate in rates)], rows)


def _rate(run: Run) -> float:
    return run["learning_rate"]


def gsm8k() -> str:
    """What each recipe costs."""
    rows = [
        [f"`{run['recipe']}`", str(run["num_steps"]), f"{run['cpu_seconds']:.0f}", f"{run['peak_memory_mib']:,}"]
        for run in read("gsm8k")
    ]
    return markdown_table(["", "updates", "CPU seconds", "peak memory, MiB"], rows)


def exact() -> str:
    """Bias, variance and cost of each recipe's gradient: the middle value over the seeds."""
    runs = read("exact")
    rows = [_exact_row([run["rows"][place] for run in runs]) for place in range(len(runs[0]["rows"]))]
    head = ["recipe", "bias, whole responses", "cosine", "bias, prefixes", "cosine", "variance", "S/N", "products", "asks"]
    return markdown_table(head, rows)


def _exact_row(seeds: Sequence[Run]) -> list[str]:
    biases = [
        _middle([seed[objective][name] for seed in seeds])
        for objective in ("sequence_bias", "token_bias")
        for name in ("relative", "cosine")
    ]
    numbers = [_middle([seed[name] for seed in seeds]) for name in ("relative_variance", "signal_to_noise")]
    cost = seeds[0]["cost"]
    return [f"`{seeds[0]['recipe']}`", *biases, *numbers, str(cost["head_products"]), cost["teacher_gives"]]


def estimators() -> str:
    """Bias and variance of each estimator: the middle value over the seeds."""
    runs = read("estimators")
    rows = [_estimator_row([run["rows"][place] for run in runs], runs) for place in range(len(runs[0]["rows"]))]
    head = ["estimator", "bias, prefixes", "cosine", "bias, whole responses", "cosine", "variance", "S/N", "products", "asks"]
    return markdown_table(head, rows)


def _estimator_row(seeds: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    biases = [
        _middle([seed[objective][name] for seed in seeds])
        for objective in ("token_bias", "sequence_bias")
        for name in ("relative", "cosine")
    ]
    variance = [seed["variance"] / run["rows"][0]["variance"] for seed, run in zip(seeds, runs, strict=True)]
    signal = _middle([seed["signal_to_noise"] for seed in seeds])
    cost = seeds[0]["cost"]
    return [seeds[0]["recipe"], *biases, _middle(variance), signal, str(cost["head_products"]), cost["teacher_gives"]]


def _middle(values: Sequence[float | None]) -> str:
    """The middle value; or that there is none, as of the cosine of a gradient that is zero."""
    known = [value for value in values if value is not None]
    return f"{median(known):.3g}" if known else "none"


def sampling() -> str:
    """What each engine takes to write the same number of tokens."""
    rows = [
        [
            f"`{run['engine']}`",
            f"{run['prompts']} x {run['new_tokens']}",
            "{:.2f} [{:.2f}, {:.2f}]".format(*run["cpu_seconds"]),
            "{:.1f} [{:.1f}, {:.1f}]".format(*run["over_cached_sampler"]),
        ]
        for run in read("sampling")
    ]
    return markdown_table(["", "prompts x new tokens", "CPU seconds", "factor"], rows)


def tasks() -> str:
    """One row per task: its models, one plain run, and what they took."""
    rows = [_task_row(run) for run in read("tasks")]
    head = ["task", "teacher", "student before", "after", "seconds: teacher", "student", "run", "steps x prompts"]
    return markdown_table(head, rows)


def _task_row(run: Run) -> list[str]:
    budget, taken = run["budget"], run["seconds"]
    teachers = [role for role in taken if role != "student"]
    cells = [f"`{run['task']}`", "none measured", "", "", ""]
    if "accuracy" in run:
        before, after = run["accuracy"]["student"], run["distilled"]
        best = " / ".join(_share(run["accuracy"][role]) for role in teachers)
        cells = [cells[0], best, _share(before), _share(after), f"{after['seconds']:.0f}"]
    seconds = [f"{max(taken[role] for role in teachers):.0f}", f"{taken['student']:.0f}", cells[4]]
    return [*cells[:4], *seconds, f"{budget['num_steps']} x {budget['prompts_per_step']}"]


def _share(accuracy: Mapping[str, Mapping[str, float]]) -> str:
    """Greedy accuracy, and by class where there are classes."""
    classes = [f"{name} {value:.0%}" for name, value in accuracy["greedy"].items() if name != "all"]
    return ", ".join([f"{accuracy['greedy']['all']:.0%}", *classes])


def tasks_special() -> str:
    """The quantity that each task isolates."""
    lines = [(run["task"], name, value) for run in read("tasks") for name, value in run["special"].items()]
    rows = [[f"`{task}`", name.replace("_", " "), f"{value:.3g}"] for task, name, value in lines]
    return markdown_table(["task", "quantity", "value"], rows)


def score_cache() -> str:
    """What kept scores take, and what they lose."""
    rows = [
        [run["scores"], str(run["k"]), f"{run['bytes_per_token']:.0f}", f"{1e3 * run['largest_error_nats']:.2f}"]
        for run in read("score_cache")
    ]
    return markdown_table(["scores", "entries", "bytes per token", "largest error, thousandths of a nat"], rows)


def score_cache_epoch() -> str:
    """An epoch with the teacher in process, and one without it."""
    found = json.loads((RESULTS / "score_cache.json").read_text())["epoch"]
    columns = [found[part] for part in ("cpu_seconds", "scoring_cpu_seconds", "forward_kl_nats")]
    rows = [[name, *(_range(column[name]) for column in columns)] for name in ("online", "offline")]
    table = markdown_table(["", "CPU seconds", "of them for scores", "forward KL afterwards, nats"], rows)
    return (
        f"{table}\n\nTime online over offline: {_range(found['online_over_offline'])}. A teacher of "
        f"{found['teacher_parameters']:,} parameters, a student of {found['student_parameters']:,}; {found['responses']} "
        f"responses, {found['tokens']:,} tokens, {found['updates']} updates; before them the forward KL is "
        f"{found['forward_kl_nats']['before'][0]:.4f}. Filling the cache took {found['fill_cpu_seconds']:.1f} CPU seconds, "
        "models and all."
    )


def score_cache_merging() -> str:
    """Shards of a run's steps, each for itself and merged."""
    found = json.loads((RESULTS / "score_cache.json").read_text())["merging"]
    rows = [
        [
            name,
            str(side["shards"]),
            f"{side['bytes_per_token']:.0f}",
            _range([1e3 * value for value in side["look_up_cpu_seconds"]]),
        ]
        for name, side in (("step by step", found["before"]), ("merged", found["after"]))
    ]
    table = markdown_table(["", "shards", "bytes per token", "CPU milliseconds to look everything up"], rows)
    return (
        f"{table}\n\n{found['responses_per_step']} responses a step, {found['tokens']:,} tokens in all, {found['k']} entries "
        f"each, ids as often as in word problems. Merging took {found['merge_cpu_seconds']:.2f} CPU seconds."
    )


def _range(values: Sequence[float]) -> str:
    return "{:.4g} [{:.4g}, {:.4g}]".format(*values)


def serving() -> str:
    """What requests to servers take, with the machine that it was measured on."""
    found = json.loads((RESULTS / "serving.json").read_text())
    rows = [
        [title, f"{seconds['median']:.2f}", f"{seconds['lowest']:.2f} to {seconds['highest']:.2f}"]
        for name, title in SERVING.items()
        for seconds in [found["seconds"][name]]
    ]
    hardware = found["environment"]["hardware"]
    return (
        f"{markdown_table(['', 'seconds, median', 'range'], rows)}\n\n"
        f"{found['sequences']} responses of {found['tokens']} tokens, a tiny model, float32, servers and client on one machine "
        f"with {hardware['cpus']} processors and {hardware['memory_gib']} GiB that other work kept busy at the time. Largest "
        f"difference to the local teacher {found['teacher_gap_nats']:.1e} nats, mean difference after handing weights over "
        f"{found['sync_gap_nats']:.1e}."
    )


SERVING = {
    "score_sampled_seconds": "score the tokens themselves",
    "score_top_20_seconds": "score them with the 20 likeliest entries",
    "sample_seconds": "draw as many",
    "sync_seconds": "hand the student's weights over and check them",
}


def asynchronous_speed() -> str:
    """One row per staleness: the middle of the rounds, their ends, and what the rule says of the stages as they are in turn."""
    groups = by_staleness("speed")
    stages = {name: median(run["stages"][name] for run in groups[0]) for name in groups[0][0]["stages"]}
    in_turn = median(run["seconds_per_step"] for run in groups[0])
    shown = ("sampling", "scoring", "update")
    rows: list[list[str]] = []
    for staleness, runs in groups.items():
        taken = [run["seconds_per_step"] for run in runs]
        rule = max(*(stages.values() if staleness else (0.0,)), sum(stages.values()) / (staleness + 1))
        rows.append(
            [
                str(staleness),
                str(len(taken)),
                f"{median(taken):.2f} [{min(taken):.2f}, {max(taken):.2f}]",
                f"{in_turn / median(taken):.2f}",
                f"{rule:.2f}",
                *(f"{median(run['stages'][name] for run in runs):.2f}" for name in shown),
            ]
        )
    return markdown_table(["staleness", "rounds", "seconds a step", "times as fast", "by the rule", *shown], rows)


def asynchronous_accuracy() -> str:
    """One row per staleness: means over seeds, and paired differences from the same seeds in turn."""
    groups = by_staleness("accuracy")
    rows: list[list[str]] = []
    for staleness, runs in groups.items():
        same = [run for run in groups[0] if run["seed"] in {each["seed"] for each in runs}]
        cells = [str(staleness), str(len(runs))]
        for metric, unit in (("eval/greedy_accuracy_fraction", "%"), (REVERSE, "")):
            scale, digits = (100.0, 1) if unit else (1.0, 3)
            cells.append(f"{scale * fmean(run['after'][metric][0] for run in runs):.{digits}f} {unit}".strip())
            cells.append(_difference(same, runs, metric, scale=scale, digits=digits) if staleness else "")
        rows.append([*cells, f"{fmean(run['after']['eval/mean_length_tokens'][0] for run in runs):.1f}"])
    return markdown_table(["staleness", "seeds", "greedy accuracy", "difference", "reverse KL", "difference", "length"], rows)


def by_staleness(part: str) -> dict[int, list[Run]]:
    """The rows of a part of the asynchronous benchmark."""
    rows: list[Run] = json.loads((RESULTS / "asynchronous.json").read_text())[part]
    return {found: [row for row in rows if row["staleness"] == found] for found in sorted({row["staleness"] for row in rows})}


def _difference(first: Sequence[Run], second: Sequence[Run], metric: str, *, scale: float, digits: int) -> str:
    """Over the problems of all seeds, each with what both runs of its seed did on it; bold where it is clear."""
    found = paired_difference(_by_problem(first, metric), _by_problem(second, metric))
    middle, low, high = (f"{scale * value:+.{digits}f}" for value in (found.difference, *found.interval))
    return f"**{middle} [{low}, {high}]**" if found.clear else f"{middle} [{low}, {high}]"


def _by_problem(runs: Sequence[Run], metric: str) -> ByExample:
    entries = [(run["seed"], place, entry) for run in runs for place, entry in enumerate(run["prompts"][metric].split())]
    found = {f"{seed} {place}": entry.split(":") for seed, place, entry in entries}
    return {name: (float(value), float(weight)) for name, (value, weight) in found.items()}


TABLES = {
    "stories": stories,
    "stories-grid": grid,
    "gsm8k": gsm8k,
    "exact": exact,
    "estimators": estimators,
    "sampling": sampling,
    "score-cache": score_cache,
    "score-cache-epoch": score_cache_epoch,
    "score-cache-merging": score_cache_merging,
    "tasks": tasks,
    "tasks-special": tasks_special,
    "serving": serving,
    "asynchronous-speed": asynchronous_speed,
    "asynchronous-accuracy": asynchronous_accuracy,
}
