"""What the run was, and in what it differs from others."""

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from tutelage.tracking import wording
from tutelage.tracking.report.markup import element, escape, text
from tutelage.tracking.report.run import Run
from tutelage.tracking.sinks import flat


def facts(run: Run) -> str:
    """The run in a line: recipe, models, steps, time."""
    planned = run.setting("training.num_steps")
    steps = f"{run.steps:,} of {planned:,} steps" if isinstance(planned, int) else wording.count(run.steps, "step")
    tokens = sum(run.series("train/tokens").values)
    told = [
        ("recipe", run.setting("recipe.name")),
        ("student", _model(run.setting("student.path"))),
        ("teacher", _teacher(run)),
        ("training", steps if run.steps != planned else wording.count(run.steps, "step")),
        ("tokens", f"{tokens:,.0f}" if tokens else None),
        ("time", wording.duration(run.seconds) if run.metrics else None),
        ("seed", run.setting("seed")),
        ("tutelage", run.environment.get("tutelage")),
    ]
    items = [element("div", text("dt", name), text("dd", str(value))) for name, value in told if value is not None]
    return element("dl", *items, class_="facts")


def notice(run: Run) -> str:
    """A line where the run ended before its time."""
    planned = run.setting("training.num_steps")
    if not isinstance(planned, int) or run.steps >= planned:
        return ""
    return text("p", f"This run has taken {run.steps:,} of {planned:,} steps so far.", class_="notice")


def differences(runs: Sequence[Run]) -> str:
    """A table of the settings that are not the same in all runs; empty for a single run."""
    if len(runs) < 2:
        return ""
    settings = [flat(run.config) for run in runs]
    keys = [key for key in dict.fromkeys(key for found in settings for key in found) if key != "output"]
    unequal = [key for key in keys if len({json.dumps(found.get(key)) for found in settings}) > 1]
    if not unequal:
        return text("p", "The runs have the same configuration.", class_="muted")
    head = element("tr", text("th", "setting"), *(text("th", run.name) for run in runs))
    rows = [element("tr", text("th", key), *(_cell(found.get(key, "-")) for found in settings)) for key in unequal]
    return element("div", element("table", element("thead", head), element("tbody", *rows)), class_="scroll")


def configuration(run: Run) -> str:
    """All settings under the names that flags have, folded away."""
    return _folded("Configuration", flat(run.config)) + _folded("Environment", flat(run.environment))


def _folded(title: str, settings: Mapping[str, Any]) -> str:
    rows = [element("tr", text("th", key), _cell(value)) for key, value in settings.items()]
    table = element("div", element("table", element("tbody", *rows)), class_="scroll")
    return element("details", element("summary", escape(title), text("small", f" {len(rows)} entries")), table)


def _cell(value: Any) -> str:
    return element("td", text("code", value if isinstance(value, str) else json.dumps(value)))


def _model(path: Any) -> str | None:
    return PurePath(path).name if isinstance(path, str) and path else None


def _teacher(run: Run) -> str | None:
    if run.setting("recipe.teacher.kind") == "self":
        update = run.setting("recipe.teacher.update.kind")
        return f"the student itself ({update})" if update else "the student itself"
    return _model(run.setting("recipe.teacher.model"))
