"""The same objectives with plain logits, loops and automatic differentiation: what the fused head is compared with.

Nothing here uses the package's mathematics, plan or head; only its value types and the names of its parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from tutelage import objectives as o
from tutelage.objectives.plan import measures_needed
from tutelage.objectives.terms import AUTHORS
from tutelage.types import (
    Author,
    ComposedSignal,
    Example,
    FullSignal,
    Head,
    Rollout,
    RoutedSignal,
    StepBatch,
    TeacherSignal,
    Verdict,
)
from tutelage.types.schedules import value_at
from weights_by_definition import Said, taken, weight_of


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A step with a student and a teacher."""

    batch: StepBatch
    hidden: Tensor
    head: Head
    teachers: Mapping[str, TeacherSignal]
    temperatures: o.Temperatures = o.Temperatures()

    @property
    def leaves(self) -> list[Tensor]:
        """What gets a gradient."""
        bias = [] if self.head.bias is None else [self.head.bias]
        return [x for x in (self.hidden, self.head.weight, *bias) if x.requires_grad]


def rollout(ids: Sequence[int], authors: Sequence[Author], behaviour: Tensor, *, group: int = 0) -> Rollout:
    """One response of given tokens."""
    return Rollout(
        example=Example(id=f"example-{group}", prompt="?"),
        group=group,
        prompt_ids=torch.tensor([0]),
        response_ids=torch.tensor(ids, dtype=torch.long),
        authors=torch.tensor([int(author) for author in authors], dtype=torch.long),
        behaviour_log_probs=behaviour,
        finish="length",
        text="",
    )


def problem(
    *,
    vocab: int = 11,
    width: int = 5,
    lengths: Sequence[int] = (4, 1, 6),
    authors: Sequence[Author] = (Author.STUDENT,),
    dtype: torch.dtype = torch.float64,
    bias: bool = False,
    scale: float = 1.0,
    softcap: float | None = None,
    teacher_scale: float = 1.0,
    temperatures: o.Temperatures = o.Temperatures(),
    spread: float = 2.0,
    stale: float = 0.3,
    groups: Sequence[int] | None = None,
    rewards: Sequence[float | None] = (),
    teacher_width: int | None = None,
    seed: int = 0,
) -> Problem:
    """Random student and teacher; tokens are drawn from the student, behaviour is the student plus noise of size `stale`.

    `authors` repeat along the rows; every rollout has a prompt of its own unless `groups` says otherwise.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, theirs = sum(lengths), teacher_width or width + 1
    hidden, weight = draw(rows, width), spread * draw(vocab, width) / width**0.5
    head = Head(
        weight=weight.to(dtype).requires_grad_(),
        bias=draw(vocab).to(dtype).requires_grad_() if bias else None,
        scale=scale,
        softcap=softcap,
    )
    teacher = FullSignal(
        hidden=draw(rows, theirs).to(dtype),
        head=Head(
            weight=(spread * draw(vocab, theirs) / width**0.5).to(dtype),
            bias=draw(vocab).to(dtype) if bias else None,
            scale=teacher_scale,
            softcap=softcap,
        ),
    )
    hidden = hidden.to(dtype).requires_grad_()
    own = log_probs(hidden, head, temperatures.student).detach().double()
    tokens = torch.multinomial(own.exp(), 1, generator=generator).squeeze(-1)
    behaviour = own.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) + stale * draw(rows)
    behaviour = behaviour.clamp(max=-1e-3)
    rollouts, start = [], 0
    for group, length in zip(groups or range(len(lengths)), lengths, strict=True):
        these = slice(start, start + length)
        who = [authors[row % len(authors)] for row in range(start, start + length)]
        written = torch.tensor([author is Author.STUDENT for author in who], dtype=torch.bool)
        mu = torch.where(written, behaviour[these], torch.nan).to(dtype)
        rollouts.append(rollout(tokens[these].tolist(), who, mu, group=group))
        start += length
    verdicts = [Verdict(reward=reward, correct=None if reward is None else reward >= 0.5) for reward in rewards]
    batch = StepBatch.of(rollouts, verdicts, seed=seed)
    return Problem(batch=batch, hidden=hidden, head=head, teachers={"teacher": teacher}, temperatures=temperatures)


def log_probs(hidden: Tensor, head: Head, temperature: float) -> Tensor:
    """The whole [row, vocab] table at once."""
    logits = hidden @ head.weight.T
    if head.bias is not None:
        logits = logits + head.bias
    logits = logits * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.log_softmax(logits / temperature, dim=-1)


def tables(given: Problem, teacher: str = "teacher") -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher; the teacher must be a whole one, or made of such."""
    own = log_probs(given.hidden, given.head, given.temperatures.student)
    return own, said_by(given.teachers[teacher], own.detach(), given.temperatures.teacher).detach()


def said_by(signal: TeacherSignal, student: Tensor, temperature: float) -> Tensor:
    """The whole table of a teacher."""
    match signal:
        case FullSignal():
            return log_probs(signal.hidden, signal.head, temperature)
        case RoutedSignal():
            parts = [log_probs(part.hidden, part.head, temperature) for part in signal.parts]
            return torch.stack([parts[int(who)][row] for row, who in enumerate(signal.which)])
        case ComposedSignal():
            parts = {name: log_probs(part.hidden, part.head, temperature).exp() for name, part in signal.parts.items()}
            found = composed(signal.composition, parts, student.exp())
            return (found / found.sum(-1, keepdim=True)).log()
    raise AssertionError(f"no table of {signal!r}")


def composed(how: object, parts: Mapping[str, Tensor], student: Tensor) -> Tensor:
    """What several distributions become, by the definition on probabilities, up to a factor per row."""
    tables = list(parts.values())
    match how:
        case o.ProductOfTeachers(weights=weights):
            shares = weights or [1.0] * len(tables)
            return torch.stack([table ** (share / sum(shares)) for table, share in zip(tables, shares, strict=True)]).prod(0)
        case o.ConsensusOfTeachers():
            geometric, arithmetic = torch.stack(tables).log().mean(0), torch.stack(tables).mean(0).log()
            towards = torch.stack([(table / student).log() for table in tables])
            agreement = towards.mean(0).abs() / towards.abs().mean(0)
            spread = arithmetic - geometric
            return (geometric + agreement * towards.mean(0).abs() / (towards.mean(0).abs() + spread) * spread).exp()
    raise AssertionError(f"no definition of {how!r}")


def loss(terms: Sequence[o.Term], given: Problem, *, step: int = 0) -> Tensor:
    """The objective as a sum over rows, one row at a time."""
    student = log_probs(given.hidden, given.head, given.temperatures.student)
    by_name = {name: tables(given, name)[1] for name, signal in given.teachers.items() if "sampled" in signal.provides}
    return sum((term_loss(term, given, student, by_name, step=step) for term in terms), student.new_zeros(()))


def term_loss(term: o.Term, given: Problem, student: Tensor, by_name: Mapping[str, Tensor], *, step: int = 0) -> Tensor:
    """One term; what a weight measures on the whole step is against the recipe's own teacher."""
    batch, total = given.batch, student.new_zeros(())
    nothing = torch.full_like(student, torch.nan).detach()
    teacher, main = (by_name.get(name, nothing) for name in (term.teacher, "teacher"))
    wanted = [int(AUTHORS[name]) for name in term.on]
    written = [row for row in range(batch.num_rows) if int(batch.author[row]) in wanted]
    rows = [row for row in written if not term.needs or bool(batch.taught_by(term.teacher)[row])]
    for route in term.routes:
        rows = taken(route, rows, teacher, batch)
    said = Said(student=student.detach(), teacher=teacher, main=main, batch=batch, acting=rows, step=step)
    drawn = {row: prod(weight_of(part, said, row) for part in term.weights) for row in rows}
    counted = {"acting": rows, "written": written, "selected": [row for row in rows if drawn[row]]}[term.counts]
    owners = [int(batch.rollout[row]) for row in counted]
    per_rollout = {owner: owners.count(owner) for owner in owners}
    if isinstance(term.signal, o.Preference):
        return value_at(term.scale, step) * preference(term.signal, student, teacher, batch, rows)
    for row in rows:
        if isinstance(term.signal, o.HiddenMatch):
            value = hidden_distance(term.signal, given, term.teacher, row)
        elif isinstance(term.signal, o.SpanLikelihood):
            spans = given.teachers[term.teacher]
            share = float(spans.length[row]) if term.signal.length_normalised else 1.0
            value = -spans.weight[row] / max(share, 1.0) * student[row, int(batch.token[row])]
        elif isinstance(term.signal, o.ScoreFunction):
            worth = advantage(term.signal.advantage, student.detach(), teacher, batch, row, rows)
            value = surrogate(term.signal.ratio, student[row, int(batch.token[row])], batch.behaviour_log_probs[row], worth)
        else:
            value = signal_value(term.signal, student[row], teacher[row], batch, row)
        match term.reduction:
            case o.TokenMean():
                share = 1.0 / len(counted)
            case o.SequenceMean():
                share = 1.0 / per_rollout[int(batch.rollout[row])] / len(per_rollout)
            case o.Constant(divisor=divisor):
                share = 1.0 / divisor / len(per_rollout)
        if drawn[row]:
            total = total + value_at(term.scale, step) * share * drawn[row] * value
    return total


def signal_value(signal: o.AnySignal, student: Tensor, teacher: Tensor, batch: StepBatch, row: int) -> Tensor:
    """Value of one row; gradients flow to the student."""
    token = int(batch.token[row])
    match signal:
        case o.CrossEntropy(target=kind, smoothing=smoothing):
            target = torch.zeros_like(teacher)
            match kind:
                case "token":
                    target[token] = 1.0
                case "teacher_choice":
                    target[max(range(len(teacher)), key=lambda entry: teacher[entry].item())] = 1.0
                case "teacher":
                    target = teacher.exp()
            target = (1.0 - smoothing) * target + smoothing / len(teacher)
            return -(target * student).sum()
        case o.NegativeEntropy():
            return -torch.distributions.Categorical(logits=student).entropy()
        case o.SampledKL(estimator=estimator, importance=importance, against=against):
            other = teacher[token] if against == "teacher" else batch.behaviour_log_probs[row]
            log_ratio = other - student[token]
            found = {"k1": -log_ratio, "k2": 0.5 * log_ratio**2, "k3": log_ratio.exp() - 1.0 - log_ratio}[estimator]
            rho = (student[token] - batch.behaviour_log_probs[row]).exp()
            return found * {"none": torch.ones(()), "detached": rho.detach(), "differentiated": rho}[importance]
        case o.CandidateActions():
            return enumerated(signal, student, teacher, token)
    p, q = events(signal.support, student.exp(), teacher.exp(), token)
    terms = entries(signal, p, q)
    if signal.entry_cap is not None:
        terms = torch.minimum(terms, torch.full_like(terms, signal.entry_cap))
    return terms.sum() if signal.token_cap is None else torch.minimum(terms.sum(), terms.new_tensor(signal.token_cap))


def entries(signal: o.Divergence, p: Tensor, q: Tensor) -> Tensor:
    """Each event's summand of a divergence, by its definition on probabilities."""
    match signal:
        case o.ReverseKL():
            return p * (p / q).log()
        case o.ForwardKL():
            return q * (q / p).log()
        case o.JensenShannon(beta=beta):
            m = beta * q + (1.0 - beta) * p
            return beta * q * (q / m).log() + (1.0 - beta) * p * (p / m).log()
        case o.SkewKL(direction="forward", alpha=alpha):
            return q * (q / (alpha * q + (1.0 - alpha) * p)).log()
        case o.SkewKL(alpha=alpha):
            return p * (p / ((1.0 - alpha) * q + alpha * p)).log()
        case o.Alpha(alpha=0.0):
            return p * (p / q).log() + q - p
        case o.Alpha(alpha=1.0):
            return q * (q / p).log() + p - q
        case o.Alpha(alpha=alpha):
            return (p ** (1.0 - alpha) * q**alpha - alpha * q - (1.0 - alpha) * p) / (alpha * (alpha - 1.0))
        case o.Jeffreys():
            return (q - p) * (q / p).log()
        case o.TotalVariation():
            return 0.5 * (q - p).abs()
        case o.Hellinger():
            return 0.5 * (q.sqrt() - p.sqrt()) ** 2
        case o.ChiSquare(direction="forward"):
            return (q - p) ** 2 / p
        case o.ChiSquare():
            return (q - p) ** 2 / q
    raise AssertionError(f"no definition of {signal!r}")


def kept_entries(choice: o.TopK | o.CandidateActions, p: Tensor, q: Tensor, token: int) -> list[int]:
    """Which entries a choice keeps."""
    own, theirs = (sorted(range(len(x)), key=lambda entry: -x[entry].item())[: choice.k] for x in (p, q))
    kept = {
        "student": set(own),
        "teacher": set(theirs),
        "union": {*own, *theirs},
        "intersection": set(own) & set(theirs),
    }[choice.chosen_by]
    return sorted(kept | {token} if choice.include_sampled else kept)


def events(support: o.FullVocabulary | o.TopK | o.SampledToken, p: Tensor, q: Tensor, token: int) -> tuple[Tensor, Tensor]:
    """Probabilities of the events on a support."""
    if isinstance(support, o.FullVocabulary):
        return p, q
    kept = [token] if isinstance(support, o.SampledToken) else kept_entries(support, p, q, token)
    others = [entry for entry in range(len(p)) if entry not in kept]
    match support:
        case o.TopK(rest="truncate"):
            return p[kept], q[kept]
        case o.TopK(rest="renormalise"):
            return p[kept] / p[kept].sum(), q[kept] / q[kept].sum()
        case _:
            if not others:
                return p[kept], q[kept]
            return tuple(torch.cat([x[kept], x[others].sum().reshape(1)]) for x in (p, q))  # type: ignore[return-value]


def enumerated(signal: o.CandidateActions, student: Tensor, teacher: Tensor, token: int) -> Tensor:
    """A score function whose actions are a few entries."""
    p, q = student.detach().exp(), teacher.exp()
    kept = kept_entries(signal, p, q, token)
    weights = {
        "student": p,
        "student_within": p / p[kept].sum(),
        "teacher_within": q / q[kept].sum(),
        "uniform": torch.full_like(p, 1.0 / max(len(kept), 1)),
    }[signal.weigh_by]
    return -sum((weights[v] * (q[v] / p[v]).log() * student[v] for v in kept), 0.0 * student.sum())


def log_ratio(part: o.LogRatio, student: Tensor, teacher: Tensor, batch: StepBatch, row: int) -> Tensor:
    """What the teacher says of one sampled token."""
    token = int(batch.token[row])
    origin = batch.behaviour_log_probs[row] if part.relative_to == "behaviour" else student[row, token]
    found = teacher[row, token] - origin
    found = found if part.floor is None else found.clamp(min=part.floor)
    found = found if part.bound is None else found.clamp(-part.bound, part.bound)
    match part.divergence:
        case "reverse_kl":
            return part.coefficient * found
        case "forward_kl":
            return part.coefficient * found.exp()
        case "jensen_shannon":  # its corrected reward by hand: (1 - beta) log(beta u + 1 - beta)
            return part.coefficient * (1.0 - part.shape) * torch.log(part.shape * found.exp() + 1.0 - part.shape)
    raise NotImplementedError(part.divergence)


def a_return(part: o.LogRatio, student: Tensor, teacher: Tensor, batch: StepBatch, row: int, rows: list[int]) -> Tensor:
    """Discounted log-ratios of the row and the later ones of its rollout."""
    later = [other for other in rows if int(batch.rollout[other]) == int(batch.rollout[row]) and other >= row]
    discounts = [part.discount**place for place in range(len(later))]
    total = sum(d * log_ratio(part, student, teacher, batch, other) for d, other in zip(discounts, later, strict=True))
    return total / sum(discounts) if part.length_normalised else total


def advantage(
    part: o.LogRatio | o.GroupRelative | o.Reshaped,
    student: Tensor,
    teacher: Tensor,
    batch: StepBatch,
    row: int,
    rows: list[int],
) -> Tensor:
    """What one sampled token is worth."""
    if isinstance(part, o.Reshaped):
        worth = advantage(part.reward, student, teacher, batch, row, rows)
        ratio = (teacher[row, int(batch.token[row])] - student[row, int(batch.token[row])]).exp()
        factor = ratio if worth > 0 else 1.0 / ratio
        return worth * factor.clamp(1.0 - part.clip, 1.0 + part.clip)
    if isinstance(part, o.GroupRelative):
        own = int(batch.rollout[row])
        group = [
            verdict.reward
            for rollout, verdict in zip(batch.rollouts, batch.verdicts, strict=True)
            if rollout.group == batch.rollouts[own].group and verdict.reward is not None
        ]
        reward = batch.verdicts[own].reward
        if reward is None or len(group) < 2:
            return torch.zeros((), dtype=student.dtype)
        rewards = torch.tensor(group, dtype=student.dtype)
        others = (rewards.sum() - reward) / (len(group) - 1)
        centred = reward - (others if part.baseline == "others" else rewards.mean())
        return (
            centred / (rewards.std(correction=int(part.sample_deviation)) + part.epsilon) if part.scale != "none" else centred
        )
    value = a_return(part, student, teacher, batch, row, rows)

    def mean(chosen: list[int]) -> Tensor:
        found = [a_return(part, student, teacher, batch, other, rows) for other in chosen]
        return sum(found) / len(found) if found else torch.zeros((), dtype=student.dtype)

    match part.baseline:
        case o.NoBaseline():
            return value
        case o.StudentKLBaseline(k=k):
            p, q = student[row].exp(), teacher[row].exp()
            kept = p.argsort(descending=True)[: k or len(p)]
            p, q = p[kept] / p[kept].sum(), q[kept] / q[kept].sum()
            return value + part.coefficient * (p * (p / q).log()).sum()
        case o.TopKLBaseline(k=k):
            p, q = student[row].exp(), teacher[row].exp()
            order = q.argsort(descending=True)
            p, q = (torch.cat([side[order[:k]], side[order[k:]].sum().unsqueeze(0)]) for side in (p, q))
            return value + part.coefficient * (p * (p / q).log()).sum()
        case o.BatchMean():
            return value - mean(rows)
        case o.LeaveOneOut():
            own = int(batch.rollout[row])
            group = [r for r in rows if batch.rollouts[int(batch.rollout[r])].group == batch.rollouts[own].group]
            return value - mean([r for r in group if int(batch.rollout[r]) != own])


def surrogate(ratio: o.NoRatio | o.Importance | o.Clipped | o.Band, own: Tensor, behaviour: Tensor, worth: Tensor) -> Tensor:
    """The sampled-token surrogate."""
    rho = (own - behaviour).exp()
    fixed = float(rho.detach())
    match ratio:
        case o.NoRatio():
            return -worth * own
        case o.Importance(cap=None):
            return -rho * worth
        case o.Importance(cap=cap):
            return -min(fixed, cap) * worth * own
        case o.Band(low=low, high=high):
            return -(fixed if low <= fixed <= high else 0.0) * worth * own
        case o.Clipped(low=low, high=high, dual=dual):
            gain = torch.minimum(rho * worth, rho.clamp(1.0 - low, 1.0 + high) * worth)
            return -(torch.maximum(gain, dual * worth) if dual is not None and worth < 0 else gain)


def preference(signal: o.Preference, student: Tensor, teacher: Tensor, batch: StepBatch, rows: list[int]) -> Tensor:
    """The mean over pairs, differentiated through both responses at once."""

    def score(index: int) -> Tensor:
        own = [row for row in rows if int(batch.rollout[row]) == index]
        values = [student[row, int(batch.token[row])] for row in own]
        if signal.loss == "dpo":
            values = [value - teacher[row, int(batch.token[row])] for value, row in zip(values, own, strict=True)]
        total = torch.stack(values).sum()
        return total / len(own) if signal.length_normalised or signal.loss == "odds_ratio" else total

    losses = []
    for i, better in enumerate(batch.rollouts):
        for j, worse in enumerate(batch.rollouts):
            if better.group != worse.group or i == j:
                continue
            if signal.pairs == "reward":
                a, b = batch.verdicts[i].reward, batch.verdicts[j].reward
                if a is None or b is None or a <= b:
                    continue
            elif not (all(better.authors != Author.STUDENT) and any(worse.authors == Author.STUDENT)):
                continue
            if signal.loss == "odds_ratio":
                first, second = (torch.log(score(k).exp() / (1.0 - score(k).exp())) for k in (i, j))
                margin = first - second
            else:
                margin = signal.beta * (score(i) - score(j))
            losses.append(torch.log(1.0 + torch.exp(-margin)))
    return torch.stack(losses).mean() if losses else student.sum() * 0.0


def hidden_distance(signal: o.HiddenMatch, given: Problem, teacher: str, row: int) -> Tensor:
    """Between two hidden states."""
    theirs = given.teachers[teacher]
    assert isinstance(theirs, FullSignal)
    a, b = given.hidden[row], theirs.hidden[row]
    if signal.distance == "cosine" or signal.normalised:
        a, b = a / a.norm(), b / b.norm()
    return 1.0 - a @ b if signal.distance == "cosine" else ((a - b) ** 2).sum() / len(a)


def evaluate(terms: Sequence[o.Term], given: Problem, **options: object) -> o.Evaluation:
    """The fused head on the same problem."""
    measured = measure(given, terms)
    plan = o.plan(terms, given.batch, measured=measured, step=int(options.pop("step", 0)))  # type: ignore[call-overload]
    return evaluate_plan(plan, given, **options)


def measure(given: Problem, terms: Sequence[o.Term]) -> dict[str, Tensor]:
    """What the terms' weights, routes and advantages of the whole step are made of."""
    return o.measure(
        given.batch,
        hidden=given.hidden,
        head=given.head,
        teachers=given.teachers,
        temperatures=given.temperatures,
        extra=measures_needed(terms),
    )


def evaluate_plan(plan: o.Plan, given: Problem, **options: object) -> o.Evaluation:
    """The fused head with coefficients that were fixed before."""
    return o.evaluate(
        plan,
        given.batch,
        hidden=given.hidden,
        head=given.head,
        teachers=given.teachers,
        temperatures=given.temperatures,
        **options,  # type: ignore[arg-type]
    )


def gradients(value: Tensor, given: Problem) -> list[Tensor]:
    """With respect to everything that asks for one."""
    return list(torch.autograd.grad(value, given.leaves, materialize_grads=True))


def select(given: Problem, rows: Tensor) -> Problem:
    """Some of the rows, with the same leaves behind them."""
    teachers = {name: signal.select(rows) for name, signal in given.teachers.items()}
    return replace(given, batch=given.batch.select(rows), hidden=given.hidden[rows], teachers=teachers)
