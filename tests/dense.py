"""The same objectives with plain logits, loops and automatic differentiation: what the fused head is compared with.

Nothing here uses the package's mathematics, plan or head; only its value types and the names of its parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutelage import objectives as o
from tutelage.objectives.terms import AUTHORS
from tutelage.types import Author, Example, FullSignal, Head, Rollout, StepBatch, TeacherSignal
from tutelage.types.schedules import value_at
from tutelage.weighting import EntropyAbove, TrustMask


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
    seed: int = 0,
) -> Problem:
    """Random student and teacher; tokens are drawn from the student, behaviour is the student plus noise of size `stale`.

    `authors` repeat along the rows.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows = sum(lengths)
    hidden, weight = draw(rows, width), spread * draw(vocab, width) / width**0.5
    head = Head(
        weight=weight.to(dtype).requires_grad_(),
        bias=draw(vocab).to(dtype).requires_grad_() if bias else None,
        scale=scale,
        softcap=softcap,
    )
    teacher = FullSignal(
        hidden=draw(rows, width + 1).to(dtype),
        head=Head(
            weight=(spread * draw(vocab, width + 1) / width**0.5).to(dtype),
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
    for group, length in enumerate(lengths):
        these = slice(start, start + length)
        who = [authors[row % len(authors)] for row in range(start, start + length)]
        written = torch.tensor([author is Author.STUDENT for author in who], dtype=torch.bool)
        mu = torch.where(written, behaviour[these], torch.nan).to(dtype)
        rollouts.append(rollout(tokens[these].tolist(), who, mu, group=group))
        start += length
    batch = StepBatch.of(rollouts, seed=seed)
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
    """Log-probabilities of student and teacher; the teacher must be a whole one."""
    signal = given.teachers[teacher]
    assert isinstance(signal, FullSignal)
    theirs = log_probs(signal.hidden, signal.head, given.temperatures.teacher)
    return log_probs(given.hidden, given.head, given.temperatures.student), theirs.detach()


def loss(terms: Sequence[o.Term], given: Problem, *, step: int = 0) -> Tensor:
    """The objective as a sum over rows, one row at a time."""
    student, teacher = tables(given)
    return sum((term_loss(term, given, student, teacher, step=step) for term in terms), student.new_zeros(()))


def term_loss(term: o.Term, given: Problem, student: Tensor, teacher: Tensor, *, step: int = 0) -> Tensor:
    """One term."""
    batch, total = given.batch, student.new_zeros(())
    wanted = [int(AUTHORS[name]) for name in term.on]
    rows = [row for row in range(batch.num_rows) if int(batch.author[row]) in wanted]
    per_rollout = {r: sum(int(batch.rollout[row]) == r for row in rows) for r in {int(batch.rollout[row]) for row in rows}}
    for row in rows:
        value = signal_value(term.signal, student[row], teacher[row], batch, row)
        weight = 1.0
        for part in term.weights:
            weight *= token_weight(part, student, teacher, batch, row)
        match term.reduction:
            case o.TokenMean():
                share = 1.0 / len(rows)
            case o.SequenceMean():
                share = 1.0 / per_rollout[int(batch.rollout[row])] / len(per_rollout)
            case o.Constant(divisor=divisor):
                share = 1.0 / divisor / len(per_rollout)
        if weight:
            total = total + value_at(term.scale, step) * share * weight * value
    return total


def token_weight(part: TrustMask | EntropyAbove, student: Tensor, teacher: Tensor, batch: StepBatch, row: int) -> float:
    """Weight of one row."""
    token = int(batch.token[row])
    match part:
        case TrustMask():
            ratio = (teacher[row, token] - student[row, token]).exp().item()
            trusted = part.forced or float(batch.noise[row]) < min(ratio, 1.0)
            return float(trusted == part.inside)
        case EntropyAbove():
            entropies = torch.distributions.Categorical(logits=student.detach()).entropy()
            own = entropies[batch.author == int(Author.STUDENT)]
            below = min(round(part.quantile * len(own)), len(own) - 1)
            return float(entropies[row] >= own.kthvalue(below + 1).values)


def signal_value(signal: o.AnySignal, student: Tensor, teacher: Tensor, batch: StepBatch, row: int) -> Tensor:
    """Value of one row; gradients flow to the student."""
    token = int(batch.token[row])
    match signal:
        case o.CrossEntropy():
            return -student[token]
        case o.ScoreFunction():
            return surrogate(signal, student, teacher, token, batch.behaviour_log_probs[row])
    p, q = events(signal.support, student.exp(), teacher.exp())
    match signal:
        case o.ReverseKL():
            return (p * (p / q).log()).sum()
        case o.ForwardKL(entry_cap=cap):
            terms = q * (q / p).log()
            return terms.sum() if cap is None else torch.minimum(terms, torch.full_like(terms, cap)).sum()
        case o.JensenShannon(beta=beta):
            m = beta * q + (1.0 - beta) * p
            return beta * (q * (q / m).log()).sum() + (1.0 - beta) * (p * (p / m).log()).sum()


def events(support: o.FullVocabulary | o.TopK, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of the events on a support."""
    if isinstance(support, o.FullVocabulary):
        return p, q
    chooser = p if support.chosen_by == "student" else q
    kept = sorted(range(len(p)), key=lambda entry: -chooser[entry].item())[: support.k]
    others = [entry for entry in range(len(p)) if entry not in kept]
    match support.rest:
        case "truncate":
            return p[kept], q[kept]
        case "renormalise":
            return p[kept] / p[kept].sum(), q[kept] / q[kept].sum()
        case "tail":
            if not others:
                return p[kept], q[kept]
            return tuple(torch.cat([x[kept], x[others].sum().reshape(1)]) for x in (p, q))  # type: ignore[return-value]


def surrogate(signal: o.ScoreFunction, student: Tensor, teacher: Tensor, token: int, behaviour: Tensor) -> Tensor:
    """The sampled-token surrogate."""
    own = student[token]
    origin = behaviour if signal.relative_to == "behaviour" else own.detach()
    baseline = torch.zeros(())
    if isinstance(signal.baseline, o.StudentKLBaseline):
        p, q = student.detach().exp(), teacher.exp()
        kept = p.argsort(descending=True)[: signal.baseline.k or len(p)]
        p, q = p[kept] / p[kept].sum(), q[kept] / q[kept].sum()
        baseline = -(p * (p / q).log()).sum()
    advantage = signal.coefficient * (teacher[token] - origin - baseline)
    rho = (own - behaviour).exp()
    if not signal.importance:
        return -advantage * own
    if signal.importance_cap is not None:
        return -rho.detach().clamp(max=signal.importance_cap) * advantage * own
    return -rho * advantage


def evaluate(terms: Sequence[o.Term], given: Problem, **options: object) -> o.Evaluation:
    """The fused head on the same problem."""
    measured = o.measure(
        given.batch, hidden=given.hidden, head=given.head, teachers=given.teachers, temperatures=given.temperatures
    )
    plan = o.plan(terms, given.batch, measured=measured, step=int(options.pop("step", 0)))  # type: ignore[call-overload]
    return evaluate_plan(plan, given, **options)


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
    return list(torch.autograd.grad(value, given.leaves))


def select(given: Problem, rows: Tensor) -> Problem:
    """Some of the rows, with the same leaves behind them."""
    teachers = {name: signal.select(rows) for name, signal in given.teachers.items()}
    return replace(given, batch=given.batch.select(rows), hidden=given.hidden[rows], teachers=teachers)
