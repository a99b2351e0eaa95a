"""The fused head against the same objective with plain logits in float64: value, gradients, statistics."""

from dataclasses import replace

import pytest
import torch

import dense
from tutelage import objectives as o
from tutelage.errors import ConfigError, NumericsError
from tutelage.math.divergences import total_variation
from tutelage.objectives.fused import STATISTICS
from tutelage.types import Author, Capability, FullSignal, Head, SampledSignal, TopKSignal
from tutelage.types.schedules import Linear
from tutelage.weighting import EntropyAbove, Rows, TrustMask

SUPPORTS = [o.FullVocabulary()] + [
    o.TopK(k=k, chosen_by=chosen_by, rest=rest)
    for chosen_by in ("student", "teacher")
    for rest in ("tail", "renormalise", "truncate")
    for k in (3, 11)
]
SIGNALS: list[o.AnySignal] = [
    *[make(support=support) for make in (o.ReverseKL, o.ForwardKL, o.JensenShannon) for support in SUPPORTS],
    o.JensenShannon(beta=0.1),
    o.JensenShannon(beta=0.9),
    o.CrossEntropy(),
    o.ScoreFunction(),
    o.ScoreFunction(advantage=o.LogRatio(coefficient=0.3), ratio=o.NoRatio()),
    o.ScoreFunction(ratio=o.Importance(cap=1.1)),
    o.ScoreFunction(advantage=o.LogRatio(relative_to="student")),
    o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline(k=4))),
    o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline(k=0))),
    o.ScoreFunction(advantage=o.LogRatio(baseline=o.TopKLBaseline(k=4))),
]
WEIGHTS = {
    "none": (),
    "trusted": (TrustMask(),),
    "outliers": (TrustMask(inside=False),),
    "uncertain": (EntropyAbove(quantile=0.4),),
    "both": (EntropyAbove(quantile=0.3), TrustMask()),
}
REDUCTIONS = {"tokens": o.TokenMean(), "sequences": o.SequenceMean(), "constant": o.Constant(divisor=7.0)}


def name(signal: o.AnySignal) -> str:
    return repr(signal).replace("support=", "").replace("kind=", "")


def assert_same(terms: list[o.Term], given: dense.Problem, **options: object) -> o.Evaluation:
    """Value and gradients of the fused head are those of the dense computation."""
    expected = dense.loss(terms, given)
    found = dense.evaluate(terms, given, **options)
    torch.testing.assert_close(found.loss, expected.detach().to(found.loss.dtype), rtol=1e-9, atol=1e-12)
    assert sum(found.terms.values()) == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)
    return found


@pytest.mark.parametrize("signal", SIGNALS, ids=name)
def test_every_signal_is_what_the_dense_computation_gives(signal):
    assert_same([o.Term(name="loss", signal=signal)], dense.problem(bias=True))


@pytest.mark.parametrize("signal", SIGNALS, ids=name)
def test_the_fast_way_to_a_slope_is_what_differentiation_gives(signal):
    given = dense.problem(seed=3)
    plan = o.plan([o.Term(name="loss", signal=signal)], given.batch)
    fast = dense.gradients(dense.evaluate_plan(plan, given).loss, given)

    class Plain:
        """The signal without its own way."""

        needs = signal.needs

        def __call__(self, rows: Rows, *, teacher: str) -> torch.Tensor:
            return signal(rows, teacher=teacher)

    plain = replace(plan.terms[0])
    object.__setattr__(plain, "signal", Plain())
    slow = dense.gradients(dense.evaluate_plan(replace(plan, terms=(plain,)), given).loss, given)
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-13)


def test_a_signal_from_outside_needs_no_more_than_its_values():
    class Distance:
        """A divergence of somebody else."""

        needs = frozenset[Capability]({"full"})

        def __call__(self, rows: Rows, *, teacher: str) -> torch.Tensor:
            return total_variation(rows.student, rows.teachers[teacher].full())

    term = o.Term(name="loss", signal=o.ReverseKL(), on=("student", "dataset"))
    object.__setattr__(term, "signal", Distance())
    given = dense.problem(authors=(Author.STUDENT, Author.TEACHER, Author.DATASET))
    student, teacher = dense.tables(given)
    acting = given.batch.author != int(Author.TEACHER)
    expected = (0.5 * (student.exp() - teacher.exp()).abs().sum(-1))[acting].mean()
    found = dense.evaluate([term], given, statistics=True)
    torch.testing.assert_close(found.loss, expected.detach())
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("reduction", REDUCTIONS.values(), ids=REDUCTIONS.keys())
def test_weights_and_reductions_are_what_the_dense_computation_gives(weights, reduction):
    given = dense.problem(
        lengths=(5, 1, 8, 3), authors=(Author.STUDENT, Author.STUDENT, Author.TEACHER, Author.STUDENT), seed=5
    )
    signals = [o.ReverseKL(), o.ScoreFunction(), o.ForwardKL(support=o.TopK(k=3))]
    terms = [
        o.Term(name=f"term-{i}", signal=signal, weights=weights, reduction=reduction, scale=0.5 + i)
        for i, signal in enumerate(signals)
    ]
    assert_same(terms, given)


def test_terms_on_different_authors_add_up_and_each_counts_its_own_tokens():
    authors = (Author.STUDENT, Author.DATASET, Author.TEACHER)
    given = dense.problem(lengths=(5, 4, 6), authors=authors)
    terms = [
        o.Term(name="own", signal=o.ScoreFunction()),
        o.Term(name="written", signal=o.CrossEntropy(), on=("dataset",), scale=Linear(start=0.0, end=2.0, steps=4)),
        o.Term(name="prefix", signal=o.ForwardKL(), on=("teacher", "dataset"), reduction=o.SequenceMean()),
    ]
    expected = dense.loss(terms, given, step=3)
    found = dense.evaluate(terms, given, step=3)
    torch.testing.assert_close(found.loss, expected.detach())
    for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
        torch.testing.assert_close(ours, theirs)
    for term in terms:
        assert found.terms[term.name] == pytest.approx(dense.loss([term], given, step=3).item())


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("temperatures", [o.Temperatures(), o.Temperatures(student=1.7, teacher=0.6)], ids=["one", "other"])
@pytest.mark.parametrize("signal", [o.ReverseKL(), o.CrossEntropy(), o.JensenShannon(support=o.TopK(k=4))], ids=name)
def test_scale_softcap_bias_and_temperatures_enter_value_and_gradient(softcap, scale, temperatures, signal):
    given = dense.problem(bias=True, softcap=softcap, scale=scale, teacher_scale=1.3, temperatures=temperatures)
    assert_same([o.Term(name="loss", signal=signal)], given)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 11, 100])
def test_the_size_of_a_panel_or_a_tile_changes_nothing(rows, monkeypatch):
    terms = [o.Term(name="a", signal=o.ReverseKL()), o.Term(name="b", signal=o.CrossEntropy(), weights=(TrustMask(),))]
    given = dense.problem()
    whole = dense.evaluate(terms, given, statistics=True)
    expected = dense.gradients(whole.loss, given)
    monkeypatch.setattr(
        o.Budget, "panels", lambda self, total, **_: [slice(i, min(i + rows, total)) for i in range(0, total, rows)]
    )
    monkeypatch.setattr("tutelage.objectives.panels._TILE_BYTES", 0)
    monkeypatch.setattr("tutelage.objectives.panels._TILE_ROWS", 2)
    parts = dense.evaluate(terms, given, statistics=True)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-13, atol=0.0)
    for ours, theirs in zip(dense.gradients(parts.loss, given), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)
    for statistic in STATISTICS:
        torch.testing.assert_close(parts.statistics[statistic], whole.statistics[statistic])


@pytest.mark.parametrize(("total", "vocab", "sides"), [(0, 10, 2), (1, 10, 1), (1000, 151_936, 2), (37, 1 << 19, 2)])
def test_panels_cover_all_rows_once_within_the_budget(total, vocab, sides):
    panels = o.Budget(chunk_mib=64).panels(total, vocab=vocab, sides=sides)
    assert [row for panel in panels for row in range(panel.start, panel.stop)] == list(range(total))
    for panel in panels:
        rows = panel.stop - panel.start
        assert rows == 1 or rows * vocab * sides * 4 <= 64 << 20


def test_statistics_are_those_of_the_distributions():
    given = dense.problem(bias=True, temperatures=o.Temperatures(student=1.3, teacher=0.8))
    found = dense.evaluate([o.Term(name="loss", signal=o.CrossEntropy())], given, statistics=True).statistics
    student, teacher = dense.tables(given)
    own, theirs = torch.distributions.Categorical(logits=student), torch.distributions.Categorical(logits=teacher)
    expected = {
        "student_entropy_nats": own.entropy(),
        "student_log_prob": own.log_prob(given.batch.token),
        "teacher_entropy_nats": theirs.entropy(),
        "teacher_log_prob": theirs.log_prob(given.batch.token),
        "forward_kl_nats": torch.distributions.kl_divergence(theirs, own),
        "reverse_kl_nats": torch.distributions.kl_divergence(own, theirs),
    }
    assert set(STATISTICS) == set(expected)
    assert found.pop("token_weight").tolist() == [1.0] * given.batch.num_rows  # one term without weights
    assert set(found) == set(expected)
    measured = o.measure(
        given.batch, hidden=given.hidden, head=given.head, teachers=given.teachers, temperatures=given.temperatures
    )
    for statistic, values in expected.items():
        torch.testing.assert_close(found[statistic], values.detach())
        torch.testing.assert_close(measured[statistic], values.detach())
        assert not found[statistic].requires_grad


def test_small_divergences_in_the_statistics_keep_their_digits_in_float32_and_are_never_negative():
    given = dense.problem(vocab=5000, width=16, lengths=(60,), dtype=torch.float32, spread=8.0)
    near = given.head.weight.detach() + 1e-4 * torch.randn(5000, 16)
    teachers = {"teacher": FullSignal(hidden=given.hidden.detach(), head=Head(weight=near))}
    given = replace(given, teachers=teachers)
    found = o.measure(given.batch, hidden=given.hidden, head=given.head, teachers=teachers)["reverse_kl_nats"]
    hidden = given.hidden.detach().double()
    own, theirs = ((hidden @ weight.detach().double().T).log_softmax(-1) for weight in (given.head.weight, near))
    exact = (own.exp() * (own - theirs)).sum(-1)
    assert exact.max() < 1e-6
    assert (found >= 0.0).all()
    torch.testing.assert_close(found.double(), exact, rtol=5e-2, atol=1e-9)


def test_statistics_of_a_teacher_that_gives_little_are_nan_where_it_gives_nothing():
    given = dense.problem()
    _, teacher = dense.tables(given)
    sampled = teacher.gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    some = o.measure(given.batch, hidden=given.hidden, head=given.head, teachers={"teacher": SampledSignal(sampled=sampled)})
    torch.testing.assert_close(some["teacher_log_prob"], sampled)
    assert some["reverse_kl_nats"].isnan().all()
    none = o.measure(given.batch, hidden=given.hidden, head=given.head, teachers={})
    assert none["teacher_log_prob"].isnan().all()
    assert none["student_entropy_nats"].isfinite().all()


@pytest.mark.parametrize("rest", ["tail", "renormalise", "truncate"])
@pytest.mark.parametrize("k", [1, 4, 11])
@pytest.mark.parametrize("make", [o.ReverseKL, o.ForwardKL, o.JensenShannon])
def test_a_teacher_that_gives_its_top_entries_equals_a_whole_one_on_that_support(rest, k, make):
    given = dense.problem()
    _, teacher = dense.tables(given)
    ids = teacher.topk(k, dim=-1).indices
    sampled = teacher.gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    served = replace(given, teachers={"teacher": TopKSignal(ids=ids, log_probs=teacher.gather(-1, ids), sampled=sampled)})
    terms = [o.Term(name="loss", signal=make(support=o.TopK(k=k, rest=rest)))]
    whole, part = dense.evaluate(terms, given).loss, dense.evaluate(terms, served).loss
    torch.testing.assert_close(part, whole)
    for ours, theirs in zip(dense.gradients(part, served), dense.gradients(whole, given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_teacher_that_gives_its_top_entries_has_bounds_of_its_forward_kl_among_the_statistics():
    given = dense.problem()
    _, teacher = dense.tables(given)
    top = teacher.topk(4, dim=-1)
    sampled = teacher.gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    served = replace(given, teachers={"teacher": TopKSignal(ids=top.indices, log_probs=top.values, sampled=sampled)})
    found = dense.evaluate([o.Term(name="loss", signal=o.ScoreFunction())], served, statistics=True).statistics
    whole = dense.evaluate([o.Term(name="loss", signal=o.ScoreFunction())], given, statistics=True).statistics[
        "forward_kl_nats"
    ]
    lower, error = found["forward_kl_lower_nats"], found["forward_kl_error_nats"]
    assert bool((lower <= whole + 1e-12).all())
    assert bool((whole <= lower + error + 1e-12).all())
    assert found["forward_kl_nats"].isnan().all()


def test_a_teacher_that_gives_sampled_tokens_equals_a_whole_one_for_a_score_function():
    given = dense.problem()
    _, teacher = dense.tables(given)
    sampled = teacher.gather(-1, given.batch.token.unsqueeze(-1)).squeeze(-1)
    served = replace(given, teachers={"teacher": SampledSignal(sampled=sampled)})
    terms = [o.Term(name="loss", signal=o.ScoreFunction(), weights=(TrustMask(),))]
    whole, part = dense.evaluate(terms, given).loss, dense.evaluate(terms, served).loss
    torch.testing.assert_close(part, whole)
    torch.testing.assert_close(dense.gradients(part, served), dense.gradients(whole, given))


def test_rounded_entries_of_a_served_teacher_leave_a_finite_loss():
    given = dense.problem(dtype=torch.float32)
    rows = given.batch.num_rows
    ids = torch.arange(3).expand(rows, 3)
    kept = torch.tensor([0.7, 0.2, 0.1]).log().expand(rows, 3) + 1e-5
    served = replace(given, teachers={"teacher": TopKSignal(ids=ids, log_probs=kept, sampled=kept[:, 0])})
    found = dense.evaluate([o.Term(name="loss", signal=o.ReverseKL(support=o.TopK(k=3)))], served)
    assert found.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in dense.gradients(found.loss, served))


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (o.ReverseKL(), "whole distribution"),
        (o.ForwardKL(support=o.TopK(k=2)), "top 2 entries"),
        (o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline(k=3))), "whole distribution"),
    ],
)
def test_a_term_that_asks_for_more_than_the_teacher_gives_is_refused(signal, message):
    given = dense.problem()
    served = replace(given, teachers={"teacher": SampledSignal(sampled=torch.zeros(11, dtype=torch.float64))})
    with pytest.raises(ConfigError, match=message):
        dense.evaluate([o.Term(name="loss", signal=signal)], served)


def test_a_served_teacher_cannot_be_asked_for_another_temperature():
    given = dense.problem(temperatures=o.Temperatures(teacher=2.0))
    served = replace(given, teachers={"teacher": SampledSignal(sampled=torch.zeros(11, dtype=torch.float64))})
    with pytest.raises(ConfigError, match="cannot be rescaled"):
        dense.evaluate([o.Term(name="loss", signal=o.ScoreFunction())], served)


def test_two_teachers_serve_their_own_terms():
    given = dense.problem()
    other = dense.problem(seed=9)
    both = replace(given, teachers={"teacher": given.teachers["teacher"], "second": other.teachers["teacher"]})
    terms = [o.Term(name="a", signal=o.ReverseKL()), o.Term(name="b", signal=o.ForwardKL(), teacher="second")]
    expected = dense.loss(terms[:1], given) + dense.loss(
        terms[1:], replace(given, teachers={"second": other.teachers["teacher"]})
    )
    found = dense.evaluate(terms, both)
    torch.testing.assert_close(found.loss, expected.detach())
    torch.testing.assert_close(dense.gradients(found.loss, both), dense.gradients(expected, both))


def test_a_frozen_head_gets_no_gradient_and_none_is_computed():
    given = dense.problem(bias=True)
    frozen = Head(weight=given.head.weight.detach(), bias=given.head.bias.detach())
    held = replace(given, head=frozen)
    found = dense.evaluate([o.Term(name="loss", signal=o.ReverseKL())], held)
    assert [kept.shape for kept in found.loss.grad_fn.saved_tensors if kept is not None] == [given.hidden.shape]
    expected = dense.gradients(dense.loss([o.Term(name="loss", signal=o.ReverseKL())], given), given)[0]
    torch.testing.assert_close(torch.autograd.grad(found.loss, given.hidden)[0], expected)


def test_nothing_that_asks_for_a_gradient_leaves_a_plain_value():
    given = dense.problem()
    term = o.Term(name="loss", signal=o.ReverseKL())
    with torch.no_grad():
        found = dense.evaluate([term], given)
    assert not found.loss.requires_grad
    torch.testing.assert_close(found.loss, dense.loss([term], given).detach())


def test_a_head_that_is_tied_to_the_embedding_gets_both_gradients():
    given = dense.problem(width=5)
    tokens = given.batch.token
    terms = [o.Term(name="loss", signal=o.JensenShannon())]

    def total(evaluate) -> torch.Tensor:
        embedding = given.head.weight.detach().clone().requires_grad_()
        tied = replace(given, hidden=torch.tanh(embedding[tokens]), head=Head(weight=embedding))
        return torch.autograd.grad(evaluate(terms, tied), embedding)[0]

    torch.testing.assert_close(total(lambda terms, given: dense.evaluate(terms, given).loss), total(dense.loss))


def test_a_head_cut_to_the_first_ids_passes_its_gradient_to_the_whole_weight():
    given = dense.problem(vocab=11)
    padded = torch.cat([given.head.weight.detach(), torch.ones(3, 5, dtype=torch.float64)]).requires_grad_()
    cut = replace(given, head=Head(weight=padded[:11]))
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    gradient = torch.autograd.grad(dense.evaluate(terms, cut).loss, padded)[0]
    expected = dense.gradients(dense.loss(terms, given), given)[1]
    torch.testing.assert_close(gradient[:11], expected)
    assert gradient[11:].abs().max() == 0.0


def test_an_upstream_factor_scales_the_gradient():
    given = dense.problem()
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    single = dense.gradients(dense.evaluate(terms, given).loss, given)
    scaled = dense.gradients(dense.evaluate(terms, given).loss * 3.0, given)
    torch.testing.assert_close(scaled, [3.0 * gradient for gradient in single])


def test_a_second_use_of_the_gradient_is_refused():
    given = dense.problem()
    loss = dense.evaluate([o.Term(name="loss", signal=o.ReverseKL())], given).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="taken already"):
        loss.backward()


def test_a_gradient_of_the_gradient_is_refused():
    given = dense.problem()
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = factor * dense.evaluate([o.Term(name="loss", signal=o.ReverseKL())], given).loss
    (gradient,) = torch.autograd.grad(loss, given.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("signal", [o.ReverseKL(), o.CrossEntropy(), o.ReverseKL(support=o.TopK(k=3))], ids=name)
def test_a_nan_names_its_rollout_and_position(signal):
    given = dense.problem(lengths=(4, 5))
    hidden = given.hidden.detach().clone()
    hidden[6] = torch.nan
    with pytest.raises(NumericsError, match=r"rollout 1 \(example 'example-1'\), position 2"):
        dense.evaluate([o.Term(name="loss", signal=signal)], replace(given, hidden=hidden.requires_grad_()))


def test_a_teacher_that_rules_out_what_the_student_may_write_is_an_error_for_reverse_kl_and_none_for_forward():
    given = dense.problem()
    signal = given.teachers["teacher"]
    barred = torch.zeros(11, dtype=torch.float64)
    barred[4] = -torch.inf
    ruled = replace(given, teachers={"teacher": replace(signal, head=replace(signal.head, bias=barred))})
    with pytest.raises(NumericsError, match="rollout 0"):
        dense.evaluate([o.Term(name="loss", signal=o.ReverseKL())], ruled)
    for signal in (o.ForwardKL(), o.JensenShannon()):
        found = dense.evaluate([o.Term(name="loss", signal=signal)], ruled, statistics=True)
        assert found.loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in dense.gradients(found.loss, ruled))
        assert found.statistics["reverse_kl_nats"].isposinf().all()
        assert found.statistics["forward_kl_nats"].isfinite().all()


def test_entries_that_both_sides_rule_out_change_nothing():
    given = dense.problem(bias=True)
    signal = given.teachers["teacher"]

    def widen(head: Head) -> Head:
        weight = torch.cat([head.weight.detach(), torch.ones(2, head.weight.shape[1], dtype=torch.float64)])
        bias = torch.cat([head.bias.detach(), torch.full((2,), -torch.inf, dtype=torch.float64)])
        return Head(weight=weight.requires_grad_(), bias=bias.requires_grad_())

    wide = replace(given, head=widen(given.head), teachers={"teacher": replace(signal, head=widen(signal.head))})
    for term in (o.ReverseKL(), o.ForwardKL(), o.JensenShannon(), o.ScoreFunction(), o.ReverseKL(support=o.TopK(k=3))):
        terms = [o.Term(name="loss", signal=term)]
        ours, theirs = dense.evaluate(terms, wide, statistics=True), dense.evaluate(terms, given, statistics=True)
        torch.testing.assert_close(ours.loss, theirs.loss)
        for statistic in STATISTICS:
            torch.testing.assert_close(ours.statistics[statistic], theirs.statistics[statistic])
        torch.testing.assert_close(dense.gradients(ours.loss, wide)[0], dense.gradients(theirs.loss, given)[0])


def test_an_infinite_value_that_a_mask_weighs_out_does_no_harm():
    given = dense.problem(seed=2)
    signal = given.teachers["teacher"]
    barred = torch.zeros(11, dtype=torch.float64)
    barred[int(given.batch.token[0])] = -torch.inf
    ruled = replace(given, teachers={"teacher": replace(signal, head=replace(signal.head, bias=barred))})
    term = o.Term(name="loss", signal=o.ScoreFunction(), weights=(TrustMask(),))
    found = dense.evaluate([term], ruled)
    assert found.loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in dense.gradients(found.loss, ruled))


def test_a_term_without_rows_and_a_batch_without_rows_are_zero():
    given = dense.problem(authors=(Author.TEACHER,))
    found = dense.evaluate([o.Term(name="own", signal=o.ScoreFunction())], given, statistics=True)
    assert found.loss == 0.0
    assert found.weights == {"own": 0.0}
    assert all(gradient.abs().max() == 0.0 for gradient in dense.gradients(found.loss, given))
    nothing = dense.select(given, torch.arange(0))
    empty = dense.evaluate([o.Term(name="own", signal=o.ReverseKL(), on=("teacher",))], nothing, statistics=True)
    assert empty.loss == 0.0
    assert empty.statistics["reverse_kl_nats"].shape == (0,)
    assert torch.autograd.grad(empty.loss, given.head.weight)[0].abs().max() == 0.0


def test_rows_on_which_nothing_acts_are_not_even_multiplied(monkeypatch):
    given = dense.problem(authors=(Author.STUDENT, Author.TEACHER), lengths=(6, 4))
    seen: list[int] = []
    panels = o.Budget.panels
    monkeypatch.setattr(o.Budget, "panels", lambda self, total, **sizes: seen.append(total) or panels(self, total, **sizes))
    plan = o.plan([o.Term(name="own", signal=o.ReverseKL())], given.batch)
    loss = dense.evaluate_plan(plan, given).loss
    assert seen == [5]
    gradient = torch.autograd.grad(loss, given.hidden)[0]
    assert gradient[given.batch.author == int(Author.TEACHER)].abs().max() == 0.0


def test_the_mean_weight_is_the_share_that_a_mask_keeps():
    given = dense.problem(lengths=(20, 30), seed=4)
    masks = {"trusted": (TrustMask(),), "outliers": (TrustMask(inside=False),), "uncertain": (EntropyAbove(quantile=0.8),)}
    terms = [o.Term(name=key, signal=o.CrossEntropy(), weights=weights) for key, weights in masks.items()]
    found = dense.evaluate(terms, given).weights
    assert found["trusted"] + found["outliers"] == pytest.approx(1.0)
    assert 0.0 < found["trusted"] < 1.0
    assert found["uncertain"] == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("head_dtype", [None, torch.float32])
def test_float32_is_close_to_float64(head_dtype):
    terms = [o.Term(name="a", signal=o.ReverseKL()), o.Term(name="b", signal=o.JensenShannon(support=o.TopK(k=4)))]
    single = dense.problem(dtype=torch.float32, bias=True)
    expected = dense.loss(terms, single)
    found = dense.evaluate(terms, single, budget=o.Budget(head_dtype=head_dtype))
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(dense.gradients(found.loss, single), dense.gradients(expected, single), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [7, 20])
def test_products_that_read_bfloat16_give_exact_logits_and_gradients_within_its_rounding(rows, monkeypatch):
    monkeypatch.setattr(
        o.Budget, "panels", lambda self, total, **_: [slice(i, min(i + rows, total)) for i in range(0, total, rows)]
    )
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    single = dense.problem(vocab=64, width=32, lengths=(20,), dtype=torch.float32)
    signal = single.teachers["teacher"]
    rounded = replace(
        single,
        hidden=single.hidden.detach().bfloat16().float().requires_grad_(),
        head=Head(weight=single.head.weight.detach().bfloat16().float().requires_grad_()),
        teachers={"teacher": FullSignal(hidden=signal.hidden.bfloat16(), head=Head(weight=signal.head.weight.bfloat16()))},
    )
    exact = replace(
        rounded,
        teachers={
            "teacher": FullSignal(
                hidden=signal.hidden.bfloat16().float(), head=Head(weight=signal.head.weight.bfloat16().float())
            )
        },
    )
    expected = dense.loss(terms, exact)
    found = dense.evaluate(terms, rounded, budget=o.Budget(head_dtype=torch.bfloat16), statistics=True)
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(dense.gradients(found.loss, rounded), dense.gradients(expected, exact), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.01 * theirs.norm()


def test_autocast_around_it_changes_nothing():
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    given = dense.problem(dtype=torch.float32)
    plain = dense.evaluate(terms, given, statistics=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = dense.evaluate(terms, given, statistics=True)
    torch.testing.assert_close(cast.loss, plain.loss, rtol=0.0, atol=0.0)
    torch.testing.assert_close(dense.gradients(cast.loss, given), dense.gradients(plain.loss, given), rtol=0.0, atol=0.0)
    torch.testing.assert_close(dict(cast.statistics), dict(plain.statistics), rtol=0.0, atol=0.0)


def test_hidden_states_in_bfloat16_get_a_gradient_of_their_type_and_a_loss_in_float32():
    terms = [o.Term(name="loss", signal=o.ReverseKL())]
    given = dense.problem(dtype=torch.float32)
    states = given.hidden.detach().bfloat16().requires_grad_()
    found = dense.evaluate(terms, replace(given, hidden=states))
    expected = dense.loss(terms, replace(given, hidden=states.detach().float()))
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-5, atol=1e-6)
    to_hidden, to_weight = torch.autograd.grad(found.loss, [states, given.head.weight])
    assert (to_hidden.dtype, to_weight.dtype) == (torch.bfloat16, torch.float32)
    assert to_hidden.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperatures_that_are_not_positive_are_refused(temperature):
    with pytest.raises(ConfigError, match="Temperatures must be > 0"):
        o.Temperatures(student=temperature)
    with pytest.raises(ConfigError, match="Temperatures must be > 0"):
        o.Temperatures(teacher=temperature)


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="chunk_mib >= 1"):
        o.Budget(chunk_mib=0)


@pytest.mark.gpu
def test_on_a_gpu_the_numbers_are_those_of_the_processor():
    terms = [o.Term(name="a", signal=o.ReverseKL()), o.Term(name="b", signal=o.ScoreFunction(), weights=(TrustMask(),))]
    given = dense.problem(vocab=300, width=64, lengths=(20,), dtype=torch.float32)
    signal = given.teachers["teacher"]
    moved = replace(
        given,
        batch=given.batch.to(torch.device("cuda")),
        hidden=given.hidden.detach().cuda().requires_grad_(),
        head=Head(weight=given.head.weight.detach().cuda().requires_grad_()),
        teachers={"teacher": FullSignal(hidden=signal.hidden.cuda(), head=Head(weight=signal.head.weight.cuda()))},
    )
    for head_dtype, tolerance in ((None, 1e-4), (torch.bfloat16, 3e-2)):
        ours = dense.evaluate(terms, moved, budget=o.Budget(head_dtype=head_dtype))
        theirs = dense.evaluate(terms, given, budget=o.Budget(head_dtype=head_dtype))
        torch.testing.assert_close(ours.loss.cpu(), theirs.loss, rtol=tolerance, atol=tolerance)
        for mine, other in zip(dense.gradients(ours.loss, moved), dense.gradients(theirs.loss, given), strict=True):
            assert (mine.cpu() - other).norm() < tolerance * other.norm()
