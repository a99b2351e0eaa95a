"""Weights and routes with loops over plain tables, one row at a time, after what their papers say."""

from dataclasses import dataclass
from math import exp, isnan, log
from statistics import fmean

import torch
from torch import Tensor

from tutelage.types import StepBatch
from tutelage.types.schedules import value_at
from tutelage.weighting import (
    AnyRoute,
    AnyWeight,
    Drift,
    EarlyAgreement,
    EntropyAbove,
    EntropyContrast,
    Freshness,
    ImportanceSampled,
    ImportanceWeight,
    LikelyToTeacher,
    Otherwise,
    Outcome,
    PerplexityShare,
    PositionRamp,
    SkipFirst,
    Taught,
    Teachable,
    TeacherCertainty,
    TeacherEntropyAbove,
    TrustMask,
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was said about the rows of a step, and on which of them a term acts."""

    student: Tensor
    teacher: Tensor
    """Of the term."""
    main: Tensor
    """Of the recipe, against which the step is measured."""
    batch: StepBatch
    acting: list[int]
    step: int


def taken(route: AnyRoute, rows: list[int], teacher: Tensor, batch: StepBatch) -> list[int]:
    """The rows that a route takes."""
    match route:
        case Outcome(correct=correct):
            return [row for row in rows if batch.verdicts[int(batch.rollout[row])].correct is correct]
        case Taught(teacher=name):
            return [row for row in rows if bool(batch.taught_by(name)[row])]
        case LikelyToTeacher(quantile=quantile):
            means = {}
            for index in {int(batch.rollout[row]) for row in rows}:
                own = [teacher[row, int(batch.token[row])].item() for row in rows if int(batch.rollout[row]) == index]
                means[index] = sum(own) / len(own)
            bound = sorted(means.values())[min(int(quantile * len(means) + 0.5), len(means) - 1)]
            return [row for row in rows if means[int(batch.rollout[row])] >= bound]
        case Otherwise(than=routes):
            left = rows
            for other in routes:
                left = taken(other, left, teacher, batch)
            return [row for row in rows if row not in left]
    raise AssertionError(f"no definition of {route!r}")


def entropy(log_probs: Tensor) -> float:
    """In nats."""
    return float(-(log_probs.exp() * log_probs).sum())


def best(values: dict[int, float], share: float) -> set[int]:
    """The rows with the largest values."""
    dropped = min(int((1.0 - share) * len(values) + 0.5), len(values) - 1)
    return set(sorted(values, key=lambda row: values[row])[dropped:])


def weight_of(part: AnyWeight, said: Said, row: int) -> float:
    """Weight of one of the rows on which a term acts."""
    student, teacher, main, batch, acting = said.student, said.teacher, said.main, said.batch, said.acting
    token = int(batch.token[row])
    same = [other for other in acting if int(batch.rollout[other]) == int(batch.rollout[row])]

    def own_log_prob(table: Tensor, at: int) -> float:
        return float(table[at, int(batch.token[at])])

    match part:
        case TrustMask():
            trusted = part.forced or float(batch.noise[row]) < min(
                float((teacher[row, token] - student[row, token]).exp()), 1.0
            )
            return float(trusted == part.inside)
        case EntropyAbove():
            return float(row in best({at: entropy(student[at]) for at in acting}, 1.0 - value_at(part.quantile, said.step)))
        case TeacherEntropyAbove(nats=nats):
            return float(entropy(teacher[row]) > nats)
        case TeacherCertainty(rate=rate):
            return exp(-rate * entropy(main[row])) / fmean(exp(-rate * entropy(main[at])) for at in acting)
        case ImportanceWeight(cap=cap):
            mu = float(batch.behaviour_log_probs[row])
            return 1.0 if isnan(mu) else min(cap, exp(own_log_prob(student, row) - mu))
        case SkipFirst(ids=ids):
            first = min(other for other in same if int(batch.token[other]) == token)
            return float(not (token in ids and first == row))
        case ImportanceSampled():
            keys = {}
            for at in acting:
                h = entropy(student[at]) / log(student.shape[-1])
                d = jensen_shannon(student[at].exp(), main[at].exp(), part.k) / log(2.0)
                score = h**part.entropy_power * d**part.divergence_power if part.score == "product" else h + d - h * d
                keys[at] = float(batch.noise[at]) ** (1.0 / score)  # the exponential race: the largest u^(1/score) are drawn
            return float(row in best(keys, part.ratio))
        case Teachable(k=k):
            pairs = {at: teachability(student[at].exp(), main[at].exp(), k) for at in acting}
            score = dict.fromkeys(acting, 1.0)
            for index in (0, 1):
                ordered = sorted(pair[index] for pair in pairs.values())
                low, high = (ordered[round(q * (len(ordered) - 1))] for q in (part.low, part.high))
                for at in acting:
                    value = (pairs[at][index] - low) / (high - low) if high > low else pairs[at][index]
                    score[at] *= min(max(value, 0.0), 1.0)
            threshold = sorted(score.values())[min(int((1.0 - part.keep) * len(score) + 0.5), len(score) - 1)]
            return float(score[row] >= threshold)
        case EarlyAgreement(boost=boost, epsilon=epsilon):
            size = {at: abs(own_log_prob(main, at) - float(batch.behaviour_log_probs[at])) for at in same}
            return 1.0 + boost * (1.0 - sum(size[at] for at in same if at < row) / (sum(size.values()) + epsilon))
        case PositionRamp():
            along = (same.index(row) + 0.5) / len(same)
            rise = 1.0 / (1.0 + exp(-(along - part.centre) / part.width))
            return part.floor + (1.0 - part.floor) * rise
        case Drift():
            steps = cut(same, batch)
            d = [fmean(abs(own_log_prob(student, at) - own_log_prob(main, at)) for at in one) for one in steps]
            here = next(index for index, one in enumerate(steps) if row in one)
            product = 1.0
            for earlier in range(here):  # the paper's product over steps
                product *= (d[earlier] + part.epsilon) / (d[earlier + 1] + part.epsilon)
            return min(product, part.bound) if here else 1.0
        case Freshness():
            worth = {}
            for index in {int(batch.rollout[at]) for at in acting}:
                mine = [at for at in acting if int(batch.rollout[at]) == index]
                moved = fmean(abs(own_log_prob(student, at) - float(batch.behaviour_log_probs[at])) for at in mine)
                age = said.step - batch.rollouts[index].policy_step
                raw = exp(-part.drift * moved - part.age * age) if age else 1.0
                worth |= dict.fromkeys(mine, max(raw, part.floor) if raw >= part.drop else None)
            mean = fmean(weight for weight in worth.values() if weight is not None)
            return 0.0 if worth[row] is None else worth[row] / mean
        case EntropyContrast():
            own, theirs = ({at: entropy(table[at]) for at in acting} for table in (student, main))

            def raw(at: int) -> float:
                sure = 1.0 - theirs[at] / max(theirs.values())
                return (1.0 + part.teacher * sure) * (1.0 + part.student * own[at] / max(own.values()))

            return raw(row) / fmean(raw(at) for at in acting)
        case PerplexityShare():
            table = student if part.of == "student" else main
            group = batch.rollouts[int(batch.rollout[row])].group
            scores = {}
            for index in sorted({int(batch.rollout[at]) for at in acting}):
                if batch.rollouts[index].group == group:
                    perplexity = exp(-fmean(own_log_prob(table, at) for at in acting if int(batch.rollout[at]) == index))
                    power = (-1.0 if part.prefers == "likely" else 1.0) / part.temperature
                    scores[index] = perplexity**power
            return len(scores) * scores[int(batch.rollout[row])] / sum(scores.values())
    raise AssertionError(f"no definition of {part!r}")


def cut(rows: list[int], batch: StepBatch) -> list[list[int]]:
    """Rows of one rollout as runs without a gap."""
    found: list[list[int]] = []
    for row in rows:
        if found and int(batch.position[row]) == int(batch.position[found[-1][-1]]) + 1:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def jensen_shannon(p: Tensor, q: Tensor, k: int) -> float:
    """In nats, on the teacher's k likeliest entries and one event for the rest; k = 0 takes all."""
    if k:
        kept = q.topk(k).indices
        p, q = (torch.cat([x[kept], 1.0 - x[kept].sum().reshape(1)]) for x in (p, q))
    m = 0.5 * (p + q)
    return float(0.5 * (p * (p / m).log()).sum() + 0.5 * (q * (q / m).log()).sum())


def teachability(p: Tensor, q: Tensor, k: int) -> tuple[float, float]:
    """Forward KL within both sides' likeliest entries, and how much of the teacher's likeliest mass the student's hold."""
    own, theirs = set(p.topk(k).indices.tolist()), set(q.topk(k).indices.tolist())
    union = sorted(own | theirs)
    a, b = p[union] / p[union].sum(), q[union] / q[union].sum()
    return float((b * (b / a).log()).sum()), float(q[sorted(own & theirs)].sum() / q[sorted(theirs)].sum())
