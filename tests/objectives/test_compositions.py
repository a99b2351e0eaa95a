"""Teachers composed of several distributions, through the fused head, against explicit tables."""

from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import dense
from tutelage import objectives as o
from tutelage.errors import ConfigError
from tutelage.types import ComposedSignal, Composition, FullSignal

COMPOSITIONS: list[o.AnyComposition] = [
    o.ProductOfTeachers(parts=("a", "b")),
    o.ProductOfTeachers(parts=("a", "b", "c"), weights=(1.0, 0.0, 3.0)),
    o.MixtureOfTeachers(parts=("a", "b")),
    o.MixtureOfTeachers(parts=("b", "c"), weights=(0.2, 0.8)),
    o.SteeredTeacher(base="a", positive="b", negative="c", scale=0.7),
    o.SteeredTeacher(base="a", positive="b", negative="a", scale=1.25),
    o.TrustRegionTeacher(teacher="a", share=0.3),
    o.InterpolatedTeacher(teacher="a", share=0.3),
    o.TemperedTeacher(teacher="a", temperature=0.6),
]
every_composition = pytest.mark.parametrize("composition", COMPOSITIONS, ids=repr)


def by_definition(composition: o.AnyComposition, p: dict[str, Tensor], student: Tensor) -> Tensor:
    """Probabilities of the composed teacher."""
    match composition:
        case o.ProductOfTeachers(parts=parts, weights=weights):
            weights = weights or (1.0,) * len(parts)
            table = torch.stack([p[name] ** (w / sum(weights)) for name, w in zip(parts, weights, strict=True)]).prod(0)
        case o.MixtureOfTeachers(parts=parts, weights=weights):
            weights = weights or (1.0,) * len(parts)
            table = torch.stack([w * p[name] for name, w in zip(parts, weights, strict=True)]).sum(0)
        case o.SteeredTeacher(base=base, positive=positive, negative=negative, scale=scale):
            table = p[base] * (p[positive] / p[negative]) ** scale
        case o.TrustRegionTeacher(teacher=teacher, share=share):
            table = student ** (1.0 - share) * p[teacher] ** share
        case o.InterpolatedTeacher(teacher=teacher, share=share):
            table = (1.0 - share) * student + share * p[teacher]
        case o.TemperedTeacher(teacher=teacher, temperature=temperature):
            table = p[teacher] ** (1.0 / temperature)
    return table / table.sum(-1, keepdim=True)


def composed(composition: o.AnyComposition) -> tuple[dense.Problem, dense.Problem]:
    """A problem with the composed teacher, and one with a plain teacher that says the same."""
    temperatures = o.Temperatures(student=1.3, teacher=0.8)
    problem = dense.problem(lengths=(3, 4), temperatures=temperatures)
    parts: dict[str, FullSignal] = {}
    for seed, name in enumerate(("a", "b", "c")):
        part = dense.problem(lengths=(3, 4), seed=10 + seed).teachers["teacher"]
        assert isinstance(part, FullSignal)
        parts[name] = part
    tables = {name: dense.log_probs(x.hidden, x.head, temperatures.teacher).exp() for name, x in parts.items()}
    own = dense.log_probs(problem.hidden, problem.head, temperatures.student).detach().exp()
    logits = temperatures.teacher * by_definition(composition, tables, own).log()
    said = FullSignal(hidden=logits, head=replace(problem.head, weight=torch.eye(11, dtype=torch.float64)))
    signal = ComposedSignal(parts={name: parts[name] for name in composition.parts}, composition=composition)
    return replace(problem, teachers={"teacher": signal}), replace(problem, teachers={"teacher": said})


@every_composition
@pytest.mark.parametrize(
    "signal",
    [o.ReverseKL(), o.ForwardKL(support=o.TopK(k=3)), o.Jeffreys(support=o.SampledToken()), o.ScoreFunction()],
    ids=lambda signal: signal.kind,
)
def test_a_composed_teacher_is_the_plain_teacher_that_says_the_same(composition, signal):
    given, plain = composed(composition)
    terms = [o.Term(name="loss", signal=signal)]
    expected, found = dense.loss(terms, plain), dense.evaluate(terms, given).loss
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(dense.gradients(found, given), dense.gradients(expected, plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@every_composition
def test_a_split_of_the_rows_changes_nothing(composition, monkeypatch):
    given, _ = composed(composition)
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    whole = dense.evaluate(terms, given)
    monkeypatch.setattr(o.Budget, "panels", lambda self, total, **_: [slice(i, min(i + 2, total)) for i in range(0, total, 2)])
    parts = dense.evaluate(terms, given)
    torch.testing.assert_close(parts.loss, whole.loss)
    chosen = dense.select(given, torch.tensor([1, 4, 5]))
    rows = dense.evaluate(terms, chosen, statistics=True).statistics["reverse_kl_nats"]
    everything = dense.evaluate(terms, given, statistics=True).statistics["reverse_kl_nats"]
    torch.testing.assert_close(rows, everything[[1, 4, 5]])


def test_the_panels_leave_room_for_the_logits_of_every_part(monkeypatch):
    given, _ = composed(o.ProductOfTeachers(parts=("a", "b", "c")))
    seen: list[int] = []
    panels = o.Budget.panels
    monkeypatch.setattr(
        o.Budget,
        "panels",
        lambda self, total, *, vocab, sides: seen.append(sides) or panels(self, total, vocab=vocab, sides=sides),
    )
    dense.evaluate_plan(o.plan([o.Term(name="loss", signal=o.ReverseKL())], given.batch), given)
    assert seen == [4]


@every_composition
def test_a_composition_is_a_value_that_survives_json(composition):
    adapter = TypeAdapter(o.AnyComposition)
    assert adapter.validate_json(adapter.dump_json(composition)) == composition
    assert isinstance(composition, Composition)
    assert hash(composition) == hash(replace(composition))


def test_parts_and_names_must_be_the_same():
    given, _ = composed(o.ProductOfTeachers(parts=("a", "b")))
    signal = given.teachers["teacher"]
    assert isinstance(signal, ComposedSignal)
    with pytest.raises(ConfigError, match=r"names \['a', 'c'\], but \['a', 'b'\] are given"):
        ComposedSignal(parts=signal.parts, composition=o.ProductOfTeachers(parts=("a", "c")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.ProductOfTeachers(parts=()), "at least one teacher"),
        (lambda: o.MixtureOfTeachers(parts=("a", "a")), "each one once"),
        (lambda: o.ProductOfTeachers(parts=("a", "b"), weights=(1.0,)), "2 teachers needs 2 weights"),
        (lambda: o.MixtureOfTeachers(parts=("a",), weights=(-1.0,)), "none negative"),
        (lambda: o.SteeredTeacher(base="a", positive="b", negative="c", scale=-1.0), "scale >= 0, got -1.0"),
        (lambda: o.TrustRegionTeacher(teacher="a", share=1.5), "TrustRegionTeacher needs 0 <= share <= 1, got 1.5"),
        (lambda: o.InterpolatedTeacher(teacher="a", share=-0.5), "InterpolatedTeacher needs 0 <= share <= 1"),
        (lambda: o.TemperedTeacher(teacher="a", temperature=0.0), "temperature > 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
