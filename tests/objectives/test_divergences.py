"""Every divergence on every support, with and without caps, through the fused head, against its definition."""

from dataclasses import replace
from math import inf

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dense
from tutelage import objectives as o
from tutelage.errors import ConfigError, NumericsError
from tutelage.types import Head, SampledSignal, TopKSignal

DIVERGENCES: list[o.Divergence] = [
    o.ReverseKL(),
    o.ForwardKL(),
    o.JensenShannon(beta=0.3),
    o.SkewKL(direction="forward", alpha=0.1),
    o.SkewKL(direction="reverse", alpha=0.2),
    *[o.Alpha(alpha=alpha) for alpha in (-0.7, 0.0, 0.3, 0.5, 0.8, 1.0, 1.6)],
    o.Jeffreys(),
    o.TotalVariation(),
    o.Hellinger(),
    o.ChiSquare(direction="forward"),
    o.ChiSquare(direction="reverse"),
]
SUPPORTS = [
    o.FullVocabulary(),
    o.SampledToken(),
    *[
        o.TopK(k=3, chosen_by=chosen_by, rest=rest, include_sampled=sampled)
        for chosen_by in ("student", "teacher", "union", "intersection")
        for rest in ("tail", "renormalise", "truncate")
        for sampled in (False, True)
    ],
    *[o.TopK(k=11, chosen_by=chosen_by, include_sampled=True) for chosen_by in ("student", "teacher", "union", "intersection")],
]
FEW_SUPPORTS = [
    o.FullVocabulary(),
    o.SampledToken(),
    o.TopK(k=3),
    o.TopK(k=3, chosen_by="student", rest="truncate"),
    o.TopK(k=3, chosen_by="union", include_sampled=True),
    o.TopK(k=2, chosen_by="intersection", rest="renormalise", include_sampled=True),
]
CAPS = {"free": {}, "entries": {"entry_cap": 0.05}, "tokens": {"token_cap": 0.4}, "both": {"entry_cap": 0.1, "token_cap": 0.2}}
ENUMERATED = [
    o.CandidateActions(k=k, chosen_by=chosen_by, weigh_by=weigh_by, include_sampled=sampled)
    for k in (1, 4, 11)
    for chosen_by in ("student", "teacher", "union", "intersection")
    for weigh_by in ("student", "student_within", "teacher_within", "uniform")
    for sampled in (False, True)
]


def name(part: object) -> str:
    """Short enough to read."""
    return repr(part).replace("support=FullVocabulary(kind='full_vocabulary'), ", "").replace("kind=", "")


def assert_same(signal: o.AnySignal, problem: dense.Problem) -> None:
    """Value and gradients of the fused head are those of the definition."""
    terms = [o.Term(name="loss", signal=signal)]
    expected, found = dense.loss(terms, problem), dense.evaluate(terms, problem).loss
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(dense.gradients(found, problem), dense.gradients(expected, problem), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_every_divergence_on_every_support_is_its_definition(divergence):
    problem = dense.problem(lengths=(1, 3), bias=True)
    for support in SUPPORTS:
        assert_same(replace(divergence, support=support), problem)


@pytest.mark.parametrize("caps", [caps for caps in CAPS.values() if caps], ids=repr)
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_caps_hold_on_every_kind_of_support(divergence, caps):
    problem = dense.problem(lengths=(1, 3), bias=True)
    for support in FEW_SUPPORTS:
        assert_same(replace(divergence, support=support, **caps), problem)


def test_enumerated_actions_are_their_definition():
    problem = dense.problem(lengths=(1, 3), bias=True)
    for signal in ENUMERATED:
        assert_same(signal, problem)


@given(
    divergence=st.sampled_from(DIVERGENCES),
    caps=st.sampled_from(list(CAPS.values())),
    chosen_by=st.sampled_from(["student", "teacher", "union", "intersection"]),
    rest=st.sampled_from(["tail", "renormalise", "truncate"]),
    sampled=st.booleans(),
    vocab=st.integers(2, 12),
    share=st.floats(0.0, 1.0),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    rows=st.integers(1, 5),
    spread=st.sampled_from([0.01, 1.0, 3.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=40)
def test_shapes_chunks_and_choices_of_any_size_give_the_definition(
    divergence, caps, chosen_by, rest, sampled, vocab, share, lengths, rows, spread, seed
):
    support = o.TopK(k=max(1, round(share * vocab)), chosen_by=chosen_by, rest=rest, include_sampled=sampled)
    problem = dense.problem(vocab=vocab, lengths=lengths, spread=spread, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            o.Budget, "panels", lambda self, total, **_: [slice(i, min(i + rows, total)) for i in range(0, total, rows)]
        )
        patch.setattr("tutelage.objectives.panels._TILE_BYTES", 0)
        patch.setattr("tutelage.objectives.panels._TILE_ROWS", 2)
        assert_same(replace(divergence, support=support, **caps), problem)


def with_logits(problem: dense.Problem, student: torch.Tensor, teacher: torch.Tensor) -> dense.Problem:
    """The same logits on every row, by biases without weights."""
    signal = problem.teachers["teacher"]
    vocab, width = len(student), problem.hidden.shape[1]
    head = Head(weight=torch.zeros(vocab, width, dtype=torch.float64), bias=student.clone().requires_grad_())
    theirs = replace(signal, head=Head(weight=torch.zeros(vocab, width + 1, dtype=torch.float64), bias=teacher))
    return replace(problem, head=head, teachers={"teacher": theirs})


EXTREME = {
    "far apart": ([1e4, -1e4, 0.0, 1.0], [-1e4, 1e4, 0.0, 1.0]),
    "both certain of the same": ([1e4, 0.0, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]),
    "certain of different": ([0.0, 1e4, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]),
    "the same is ruled out": ([0.0, 1.0, -inf, 2.0], [1.0, 0.0, -inf, 0.5]),
    "different is ruled out": ([0.0, 1.0, -inf, 2.0], [1.0, -inf, 0.0, 0.5]),
    "all mass on one": ([0.0, -inf, -inf, -inf], [0.0, -inf, -inf, -inf]),
    "disjoint": ([0.0, 0.0, -inf, -inf], [-inf, -inf, 0.0, 0.0]),
}


@pytest.mark.parametrize("logits", EXTREME.values(), ids=EXTREME.keys())
@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_extreme_logits_give_a_finite_loss_and_gradient_or_an_error_that_names_the_token(divergence, logits):
    student, teacher = (torch.tensor(side, dtype=torch.float64) for side in logits)
    problem = with_logits(dense.problem(vocab=4, lengths=(2,)), student, teacher)
    for support in FEW_SUPPORTS:
        for caps in ({}, {"token_cap": 1.0}):
            term = o.Term(name="loss", signal=replace(divergence, support=support, **caps))
            try:
                found = dense.evaluate([term], problem)
            except NumericsError as error:
                if caps or "inf at rollout 0" not in str(error):  # only an uncapped token may be infinite, and none is NaN
                    raise
                continue
            assert torch.autograd.grad(found.loss, problem.head.bias)[0].isfinite().all()


@pytest.mark.parametrize(
    "bounded", [o.JensenShannon(), o.SkewKL(), o.SkewKL(direction="reverse"), o.TotalVariation(), o.Hellinger()]
)
def test_bounded_divergences_are_finite_whatever_is_ruled_out(bounded):
    student, teacher = (torch.tensor(side, dtype=torch.float64) for side in EXTREME["disjoint"])
    problem = with_logits(dense.problem(vocab=4, lengths=(2,)), student, teacher)
    terms = [o.Term(name="loss", signal=bounded)]
    expected = {"jensen_shannon": 2.0, "skew_kl": 10.0}.get(bounded.kind)
    value = dense.evaluate(terms, problem).loss
    truth = torch.tensor(1.0 if expected is None else expected, dtype=torch.float64)
    torch.testing.assert_close(value, truth if expected is None else truth.log())


def test_an_empty_intersection_is_zero_without_a_tail_and_with_one():
    student, teacher = torch.tensor([3.0, 0.0, 0.0, 0.0]).double(), torch.tensor([0.0, 3.0, 0.0, 0.0]).double()
    problem = with_logits(dense.problem(vocab=4, lengths=(2,)), student, teacher)
    for divergence in DIVERGENCES:
        for rest in ("tail", "renormalise", "truncate"):
            signal = replace(divergence, support=o.TopK(k=1, chosen_by="intersection", rest=rest))
            found = dense.evaluate([o.Term(name="loss", signal=signal)], problem).loss
            assert found == 0.0
            assert torch.autograd.grad(found, problem.head.bias)[0].abs().max() < 1e-15


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=name)
def test_a_tail_gives_a_lower_bound_and_the_full_value_where_every_entry_is_kept(divergence):
    problem = dense.problem(seed=7)

    def value(support: o.FullVocabulary | o.TopK | o.SampledToken) -> float:
        return dense.evaluate([o.Term(name="loss", signal=replace(divergence, support=support))], problem).loss.item()

    full = value(o.FullVocabulary())
    assert value(o.SampledToken()) <= full
    for chosen_by in ("student", "teacher", "union", "intersection"):
        assert value(o.TopK(k=4, chosen_by=chosen_by)) <= full
        assert value(o.TopK(k=11, chosen_by=chosen_by, include_sampled=True)) == pytest.approx(full, rel=1e-12)


@pytest.mark.parametrize("rest", ["tail", "renormalise", "truncate"])
@pytest.mark.parametrize("k", [1, 4, 10, 11])
@pytest.mark.parametrize("divergence", [o.ReverseKL(), o.ForwardKL(), o.Hellinger(), o.Alpha(alpha=1.5)], ids=name)
def test_a_served_teacher_equals_a_whole_one_with_the_sampled_token_beside_its_top_entries(divergence, k, rest):
    problem = dense.problem()
    _, teacher = dense.tables(problem)
    ids = teacher.topk(k, dim=-1).indices
    sampled = teacher.gather(-1, problem.batch.token.unsqueeze(-1)).squeeze(-1)
    served = TopKSignal(ids=ids, log_probs=teacher.gather(-1, ids), sampled=sampled)
    supports = [o.TopK(k=k, rest=rest, include_sampled=True)]
    for support in [*supports, *([o.SampledToken()] if rest == "tail" else [])]:
        terms = [o.Term(name="loss", signal=replace(divergence, support=support))]
        whole = dense.evaluate(terms, problem).loss
        part = dense.evaluate(terms, replace(problem, teachers={"teacher": served})).loss
        torch.testing.assert_close(part, whole, rtol=1e-8, atol=1e-12)
        for ours, theirs in zip(dense.gradients(part, problem), dense.gradients(whole, problem), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_sampled_token_teacher_serves_the_binary_divergence():
    problem = dense.problem()
    _, teacher = dense.tables(problem)
    sampled = teacher.gather(-1, problem.batch.token.unsqueeze(-1)).squeeze(-1)
    served = replace(problem, teachers={"teacher": SampledSignal(sampled=sampled)})
    terms = [o.Term(name="loss", signal=o.ReverseKL(support=o.SampledToken()))]
    torch.testing.assert_close(dense.evaluate(terms, served).loss, dense.loss(terms, problem).detach())


@pytest.mark.parametrize("chosen_by", ["student", "union", "intersection"])
def test_a_choice_in_which_the_student_has_a_part_needs_the_whole_teacher(chosen_by):
    for signal in (o.ReverseKL(support=o.TopK(k=2, chosen_by=chosen_by)), o.CandidateActions(k=2, chosen_by=chosen_by)):
        assert signal.needs == {"full"}
        problem = dense.problem()
        served = SampledSignal(sampled=torch.zeros(11, dtype=torch.float64))
        with pytest.raises(ConfigError, match="whole distribution"):
            dense.evaluate([o.Term(name="loss", signal=signal)], replace(problem, teachers={"teacher": served}))


def test_needs_of_the_supports_a_served_teacher_can_fill():
    assert o.TopK(k=2).needs == {"top_k"}
    assert o.TopK(k=2, include_sampled=True).needs == {"top_k", "sampled"}
    assert o.SampledToken().needs == {"sampled"}


def test_stop_gradient_top_k_lacks_the_gradient_that_pushes_mass_out_of_the_set():
    problem = dense.problem(lengths=(1,), seed=2)
    logits = problem.hidden @ problem.head.weight.T
    naive, held = (
        dense.gradients(dense.evaluate([o.Term(name="loss", signal=signal)], problem).loss, problem)
        for signal in (
            o.ReverseKL(support=o.TopK(k=3, chosen_by="student", rest="truncate")),
            o.CandidateActions(k=3, chosen_by="student"),
        )
    )
    kept = logits.softmax(-1).topk(3, dim=-1).values.sum()
    extra = torch.autograd.grad(kept, problem.leaves)
    for ours, without, difference in zip(naive, held, extra, strict=True):
        torch.testing.assert_close(ours - without, difference)


def test_stop_gradient_over_the_whole_vocabulary_has_the_gradient_of_the_reverse_kl():
    problem = dense.problem()
    whole, enumerated = (
        dense.gradients(dense.evaluate([o.Term(name="loss", signal=signal)], problem).loss, problem)
        for signal in (o.ReverseKL(), o.CandidateActions(k=11))
    )
    for ours, theirs in zip(enumerated, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_token_at_its_cap_has_the_caps_value_and_no_gradient():
    problem = dense.problem(lengths=(1,))
    free = dense.evaluate([o.Term(name="loss", signal=o.ReverseKL())], problem).loss.item()
    capped = dense.evaluate([o.Term(name="loss", signal=o.ReverseKL(token_cap=free / 2.0))], problem).loss
    assert capped.item() == pytest.approx(free / 2.0)
    assert all(gradient.abs().max() == 0.0 for gradient in dense.gradients(capped, problem))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.SkewKL(alpha=0.0), "SkewKL: A skew KL needs 0 < alpha < 1, got 0.0"),
        (lambda: o.SkewKL(alpha=1.0, direction="reverse"), "0 < alpha < 1, got 1.0"),
        (lambda: o.Alpha(alpha=inf), "Alpha: alpha needs a finite number, got inf"),
        (lambda: o.JensenShannon(beta=1.0), "JensenShannon: jensen_shannon needs 0 < beta < 1, got 1.0"),
        (lambda: o.ReverseKL(entry_cap=0.0), "ReverseKL needs entry_cap > 0 or none at all, got 0.0"),
        (lambda: o.ChiSquare(token_cap=-1.0), "ChiSquare needs token_cap > 0 or none at all, got -1.0"),
        (lambda: o.Hellinger(token_cap=float("nan")), "token_cap > 0"),
        (lambda: o.CandidateActions(k=0), "CandidateActions needs k >= 1, got 0"),
        (lambda: o.TopK(k=0), "TopK needs k >= 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused_with_what_was_found(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
