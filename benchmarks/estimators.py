"""Bias and variance of every estimator of the gradient, by enumeration, in three tiny worlds.

Each row changes one thing against plain `opd`: the signal, its advantage or ratio, the support, or how tokens are drawn. Prints
JSON, or writes it with `--out`:

    python benchmarks/estimators.py --out benchmarks/results/estimators.json
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from exact import rounded

from tutelage import objectives as o
from tutelage.cli.lab import as_json
from tutelage.lab.exact import Size, compare
from tutelage.recipes import Recipe, opd
from tutelage.rollouts.sources import Sampling, StudentRollouts

SEEDS = (0, 1, 2)
SIZE = Size(vocab=4, length=3)
WARM = 1.5
"""Sampling temperature of the rows whose tokens are not drawn from the student itself."""


def score_function(ratio: o.AnyRatio = o.NoRatio(), **advantage: Any) -> o.ScoreFunction:
    """A score function with the teacher's log-ratio as its advantage, relative to the student as it is."""
    return o.ScoreFunction(advantage=o.LogRatio(relative_to="student", **advantage), ratio=ratio)


SIGNALS: Mapping[str, o.AnySignal] = {
    "score function": score_function(),
    "with the KL baseline": score_function(baseline=o.StudentKLBaseline(k=0)),
    "with the KL baseline, top 2": score_function(baseline=o.StudentKLBaseline(k=2)),
    "exact": o.ReverseKL(),
    "k1": o.SampledKL(estimator="k1"),
    "k2": o.SampledKL(estimator="k2"),
    "k3": o.SampledKL(estimator="k3"),
    "k3, ratio differentiated": o.SampledKL(estimator="k3", importance="differentiated"),
    "top 2, rest merged": o.ReverseKL(support=o.TopK(k=2)),
    "top 2, renormalised": o.ReverseKL(support=o.TopK(k=2, rest="renormalise")),
    "top 2, truncated": o.ReverseKL(support=o.TopK(k=2, rest="truncate")),
    "top 2, stop-gradient": o.CandidateActions(k=2),
    "top 1 and the sampled token": o.ReverseKL(support=o.TopK(k=1, include_sampled=True)),
    "return to go": score_function(discount=1.0),
    "return to go, discount 0.5": score_function(discount=0.5),
    "forward KL, exact": o.ForwardKL(),
    "forward KL, corrected reward": score_function(divergence="forward_kl"),
    "Jensen-Shannon, exact": o.JensenShannon(),
    "Jensen-Shannon, corrected reward": score_function(divergence="jensen_shannon"),
}
OF_GROUPS: Mapping[str, o.AnySignal] = {
    "two responses": score_function(),
    "two responses, batch mean": score_function(baseline=o.BatchMean()),
    "two responses, leave one out": score_function(baseline=o.LeaveOneOut()),
    "two responses, return to go": score_function(discount=1.0),
    "two responses, return to go, leave one out": score_function(discount=1.0, baseline=o.LeaveOneOut()),
}
OFF_POLICY: Mapping[str, o.AnySignal] = {
    "warm sampler, no ratio": score_function(),
    "warm sampler, ratio": score_function(o.Importance()),
    "warm sampler, ratio up to 1.2": score_function(o.Importance(cap=1.2)),
    "warm sampler, clipped at 0.2": score_function(o.Clipped()),
    "warm sampler, band 0.5 to 1.2": score_function(o.Band(low=0.5, high=1.2)),
    "warm sampler, exact": o.ReverseKL(),
}


def recipes() -> dict[str, Recipe]:
    """Plain `opd` with one thing changed, by what is changed."""
    groups = ((SIGNALS, Sampling(n=1)), (OF_GROUPS, Sampling(n=2)), (OFF_POLICY, Sampling(n=1, temperature=WARM)))
    return {
        name: replace(
            opd(n=1), name=name, rollouts=StudentRollouts(sampling=sampling), terms=(o.Term(name="term", signal=signal),)
        )
        for signals, sampling in groups
        for name, signal in signals.items()
    }


def measured(chosen: Mapping[str, Recipe], *, seed: int) -> dict[str, Any]:
    """The comparison in one world; plain opd, the unit of variance, is dropped from the rows again."""
    found = as_json(compare(list(chosen.values()), size=SIZE, seed=seed, most_n=2))
    return rounded(found | {"rows": found["rows"][1:]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    text = json.dumps({"runs": [measured(recipes(), seed=seed) for seed in SEEDS]}, indent=1) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
