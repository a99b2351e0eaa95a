"""Terms, signals and supports as values: what they need, and what they refuse."""

import pytest

from tutelage import objectives as o
from tutelage.errors import ConfigError
from tutelage.types import Author
from tutelage.weighting import EntropyAbove, TrustMask


@pytest.mark.parametrize(
    ("signal", "needs"),
    [
        (o.ReverseKL(), {"full"}),
        (o.ForwardKL(support=o.TopK(k=3)), {"top_k"}),
        (o.JensenShannon(support=o.TopK(k=3, chosen_by="student")), {"full"}),
        (o.ScoreFunction(), {"sampled"}),
        (o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline())), {"sampled", "full"}),
        (o.ScoreFunction(advantage=o.LogRatio(baseline=o.TopKLBaseline())), {"sampled", "top_k"}),
        (o.CrossEntropy(), set()),
    ],
)
def test_a_signal_needs_what_its_formula_reads(signal, needs):
    assert o.Term(name="a", signal=signal).needs == needs


def test_weights_add_their_needs():
    term = o.Term(name="a", signal=o.CrossEntropy(), weights=(TrustMask(), EntropyAbove()))
    assert term.needs == {"sampled"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: o.TopK(k=0), "k >= 1"),
        (lambda: o.JensenShannon(beta=0.0), "0 < beta < 1"),
        (lambda: o.JensenShannon(beta=1.0), "0 < beta < 1"),
        (lambda: o.ForwardKL(entry_cap=0.0), "entry_cap > 0"),
        (lambda: o.Importance(cap=-1.0), "cap > 0"),
        (lambda: o.Clipped(low=1.5), "0 <= low <= 1"),
        (lambda: o.Clipped(dual=0.5), "dual > 1"),
        (lambda: o.Band(low=2.0, high=1.0), "0 <= low < high"),
        (lambda: o.LogRatio(discount=1.5), "0 <= discount <= 1"),
        (lambda: o.LogRatio(bound=0.0), "bound > 0"),
        (lambda: o.LogRatio(shape=0.5), "reverse_kl has none"),
        (lambda: o.LogRatio(divergence="alpha"), "divergence alpha and shape None"),
        (lambda: o.LogRatio(divergence="jensen_shannon", shape=1.0), "0 < beta < 1"),
        (lambda: o.LogRatio(divergence="forward_kl", baseline=o.StudentKLBaseline()), "mean of the reverse KL"),
        (lambda: o.LogRatio(discount=0.5, baseline=o.StudentKLBaseline()), "not of a return"),
        (lambda: o.LogRatio(divergence="forward_kl", baseline=o.TopKLBaseline()), "mean of the reverse KL"),
        (lambda: o.LogRatio(discount=0.5, baseline=o.TopKLBaseline()), "not of a return"),
        (lambda: o.TopKLBaseline(k=0), "k >= 1"),
        (lambda: o.CrossEntropy(smoothing=1.0), "0 <= smoothing < 1"),
        (lambda: o.Preference(beta=0.0), "beta > 0"),
        (lambda: o.Term(name="a", signal=o.Preference()), "reduction sum"),
        (lambda: o.Term(name="a", signal=o.ReverseKL(), reduction=o.Sum()), "needs a mean"),
        (lambda: o.StudentKLBaseline(k=-1), "k >= 0"),
        (lambda: o.Constant(divisor=0.0), "divisor > 0"),
        (lambda: EntropyAbove(quantile=1.0), "no token is left"),
        (lambda: EntropyAbove(quantile=-0.1), "quantile"),
        (lambda: o.Term(name="a", signal=o.CrossEntropy(), on=()), "nobody's tokens"),
        (lambda: o.Term(name="a", signal=o.ScoreFunction(), on=("student", "dataset")), "only the student's own"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_names_of_authors_become_their_values():
    assert o.Term(name="a", signal=o.CrossEntropy(), on=("teacher", "dataset")).authors == (Author.TEACHER, Author.DATASET)


def test_equal_settings_are_equal_values_with_equal_hashes():
    first, second = (o.Term(name="a", signal=o.ReverseKL(support=o.TopK(k=3)), weights=(TrustMask(),)) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert first != o.Term(name="a", signal=o.ReverseKL(support=o.TopK(k=4)), weights=(TrustMask(),))
