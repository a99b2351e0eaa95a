"""Every row of the table: what a paper claims, on which task it is measured here, against what."""

from collections.abc import Mapping

from tutelage.errors import ConfigError, nearest
from tutelage.lab.reproduction import claims_self, claims_white_box
from tutelage.lab.reproduction.claim import Claim, Knob

BASELINES = ("opd", "gkd", "seq_kd", "grpo")
"""Run on every task that has a row, and shared by all of its rows."""

SETUPS: Mapping[str, Mapping[str, Knob]] = {
    "gkd": {"beta": 1.0, "student_fraction": 1.0},
    **{method: {"n": 8} for method in ("grpo", "rft", "scope", "sod", "dgrpo")},
} | {**claims_white_box.SETUPS, **claims_self.SETUPS}
"""Knobs that a method has turned on every task, besides those that all methods have turned (`runs.COMMON`)."""

CLAIMS: tuple[Claim, ...] = (
    Claim(
        method="gkd",
        task="chain",
        statement="The teacher's whole distribution on the student's own text teaches more than the teacher's text.",
        source="2306.13649",
        baseline="seq_kd",
    ),
    Claim(
        method="opd",
        task="chain",
        statement="One log-probability per token teaches faster than one reward per response.",
        source="Thinking Machines, 2025-10",
        metric="mean_accuracy",
        baseline="grpo",
    ),
    Claim(
        method="grpo",
        task="chain",
        statement="Contrasting the responses of a group beats imitating its right ones.",
        source="2402.03300",
        baseline="rft",
    ),
    Claim(
        method="rft",
        task="chain",
        statement="A student that imitates its own verified answers ends above one that imitates given answers.",
        source="2308.01825",
        baseline="seq_kd",
    ),
    *claims_white_box.CLAIMS,
    *claims_self.CLAIMS,
)
"""In the order of the page."""


def chosen(*, method: str | None = None, task: str | None = None) -> tuple[Claim, ...]:
    """The rows of a method, of a task, or all.

    Raises:
        ConfigError: No row has that name; the message has the nearest one.
    """
    for kind, name, known in (
        ("method", method, {claim.method for claim in CLAIMS}),
        ("task", task, {claim.task for claim in CLAIMS}),
    ):
        if name is not None and name not in known:
            raise ConfigError(f"No row is about the {kind} {name!r}{nearest(name, known)}. Rows: {', '.join(sorted(known))}.")
    found = tuple(claim for claim in CLAIMS if method in (None, claim.method) and task in (None, claim.task))
    if not found:
        where = ", ".join(sorted({claim.task for claim in CLAIMS if claim.method == method}))
        raise ConfigError(f"The claim of {method!r} is not measured on {task!r}. It is measured on: {where}.")
    return found
