"""Known traps and identities, some with signals that are written here: the oracle takes anybody's."""

from dataclasses import dataclass
from math import log

import pytest
import torch

from enumeration import pair, reverse_kl_gradient
from tables import moments_by_hand, of_tables, recipe, rewards, world
from tutelage import objectives as o
from tutelage.lab.exact import Size, World, moments, sequence_level, token_level
from tutelage.lab.exact.comparison import bias
from tutelage.types import Capability
from tutelage.weighting import Rows


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def one_prefix(student: torch.Tensor, teacher: torch.Tensor) -> World:
    return of_tables(Size(vocab=len(student), length=1), student, teacher=teacher)


# ------------------------------------------------------------------------------------------------- k1, k2, k3, penalties


def test_k1_as_a_loss_has_no_mean_gradient_and_a_large_variance():
    given = world(4, 3)
    found = moments(given, recipe(o.SampledKL(estimator="k1")))
    assert found.gradient.norm() < 1e-15
    assert found.variance > moments(given, recipe(o.ReverseKL())).variance
    assert found.value == pytest.approx(token_level(given).value)  # its value is right, which is the trap


def test_k2_as_a_loss_is_the_reverse_kl_of_the_prefixes_response_by_response():
    given = world(4, 3)
    found, plain = moments(given, recipe(o.SampledKL(estimator="k2"))), moments(given, recipe(o.ScoreFunction()))
    close(found.gradient, token_level(given).gradient)
    assert found.variance == pytest.approx(plain.variance)  # its gradient is the score function's, token by token


def test_k3_as_a_loss_is_the_forward_kl_of_the_prefixes():
    given = world(4, 3)
    found = moments(given, recipe(o.SampledKL(estimator="k3")))
    close(found.gradient, moments(given, recipe(o.ForwardKL())).gradient)
    assert found.value == pytest.approx(token_level(given).value)
    assert bias(found.gradient, token_level(given).gradient).relative > 0.1


@dataclass(frozen=True)
class Penalty:
    """An amount that does not depend on the token, put into the token's advantage."""

    needs = frozenset[Capability]({"full"})

    def __call__(self, rows: Rows, *, teacher: str) -> torch.Tensor:
        whole = (rows.student.exp() * (rows.student - rows.teachers[teacher].full())).sum(-1)
        return -(-whole).detach() * rows.sampled


def test_a_penalty_that_no_token_can_change_moves_the_mean_gradient_by_nothing():
    given = world(4, 3)
    plain, penalised = (moments(given, recipe(*signals)) for signals in ([o.ScoreFunction()], [o.ScoreFunction(), Penalty()]))
    close(penalised.gradient, plain.gradient)
    assert penalised.variance > 1.05 * plain.variance


# ------------------------------------------------------------------------------------------------------- top-k supports


@pytest.mark.parametrize("seed", range(4))
def test_a_truncated_sum_adds_the_gradient_of_the_mass_that_it_keeps(seed):
    student, teacher = pair(6, seed=seed)
    support = o.TopK(k=3, chosen_by="teacher", rest="truncate")
    found = moments(one_prefix(student, teacher), recipe(o.ReverseKL(support=support))).gradient[0]
    own, kept = student.softmax(-1), torch.zeros(6, dtype=torch.float64)
    kept[teacher.topk(3).indices] = 1.0
    ratio = kept * (student.log_softmax(-1) - teacher.log_softmax(-1) + 1.0)  # the one is the sum of grad pi_S
    close(found, own * (ratio - (own * ratio).sum()))


def test_a_truncated_sum_can_point_uphill():
    student = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    teacher = torch.tensor([0.8, 0.2], dtype=torch.float64).log()  # 0.5 lies between 0.8 / e and 0.8
    truncated = o.ReverseKL(support=o.TopK(k=1, chosen_by="teacher", rest="truncate"))
    found = moments(one_prefix(student, teacher), recipe(truncated)).gradient[0]
    assert bias(found.unsqueeze(0), reverse_kl_gradient(student, teacher).unsqueeze(0)).cosine == pytest.approx(-1.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_tail_gives_the_gradient_of_the_merged_events_and_never_more_than_the_whole(seed):
    student, teacher = pair(6, seed=seed)
    support = o.TopK(k=3, chosen_by="student", rest="tail")
    found = moments(one_prefix(student, teacher), recipe(o.ReverseKL(support=support)))
    own, theirs = student.softmax(-1), teacher.softmax(-1)
    kept = student.topk(3).indices
    rest = [entry for entry in range(6) if entry not in kept.tolist()]
    ratio = (own / theirs).log()
    ratio[rest] = float((own[rest].sum() / theirs[rest].sum()).log())
    close(found.gradient[0], own * (ratio - (own * ratio).sum()))
    assert 0.0 <= found.value <= token_level(one_prefix(student, teacher)).value


@pytest.mark.parametrize("seed", range(4))
def test_a_renormalised_support_forgets_the_mass_outside(seed):
    student, teacher = pair(6, seed=seed)
    support = o.TopK(k=3, chosen_by="student", rest="renormalise")
    found = moments(one_prefix(student, teacher), recipe(o.ReverseKL(support=support))).gradient[0]
    kept, expected = student.topk(3).indices, torch.zeros(6, dtype=torch.float64)
    expected[kept] = reverse_kl_gradient(student[kept], teacher[kept])
    close(found, expected)
    single = o.ReverseKL(support=o.TopK(k=1, rest="renormalise"))
    assert moments(one_prefix(student, teacher), recipe(single)).gradient.norm() < 1e-15


@dataclass(frozen=True)
class TwoServedNumbers:
    """The reverse KL on three events: the teacher's likeliest token, the sampled one, the rest."""

    needs = frozenset[Capability]({"top_k"})

    def __call__(self, rows: Rows, *, teacher: str) -> torch.Tensor:
        theirs = rows.teachers[teacher].full()
        chosen = torch.nn.functional.one_hot(theirs.argmax(-1), theirs.shape[-1]).bool()
        sampled = torch.nn.functional.one_hot(rows.batch.token, theirs.shape[-1]).bool() & ~chosen
        total = torch.zeros(len(theirs), dtype=theirs.dtype)
        for event in (chosen, sampled, ~(chosen | sampled)):
            own, other = (torch.where(event, side.exp(), 0.0).sum(-1) for side in (rows.student, theirs))
            safe = own.clamp(min=1e-300)
            total = total + torch.where(own > 0.0, own * (safe.log() - other.clamp(min=1e-300).log()), 0.0)
        return total


def test_two_served_numbers_hold_only_a_part_of_the_divergence_and_their_score_function_all_of_its_gradient():
    shares = []
    for seed in range(10):
        student, teacher = pair(6, seed=seed)
        given = one_prefix(student, teacher)
        found, truth = moments(given, recipe(TwoServedNumbers())), token_level(given)
        shares.append(found.value / truth.value)
        assert bias(found.gradient, truth.gradient).relative > 0.05
        close(moments(given, recipe(o.ScoreFunction())).gradient, truth.gradient)
    assert all(0.0 < share < 1.0 for share in shares)
    # where the sides agree on the likeliest token and differ by trading places in a long tail, little is left
    vocab, likely = 64, 0.5
    tail = torch.linspace(1.0, 9.0, vocab - 1, dtype=torch.float64)
    own, theirs = tail / tail.sum() * (1.0 - likely), tail.flip(0) / tail.sum() * (1.0 - likely)
    head = torch.tensor([likely], dtype=torch.float64)
    given = one_prefix(torch.cat([head, own]).log(), torch.cat([head, theirs]).log())
    assert moments(given, recipe(TwoServedNumbers())).value < 0.1 * token_level(given).value


# ----------------------------------------------------------------------------------------------------- several teachers


def several(student: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> World:
    return of_tables(Size(vocab=len(student), length=2), student, teacher=first, a=first, b=second)


def weighed(signal: object, share: float) -> object:
    return recipe(signal, signal, teachers=("a", "b"), scales=(share, 1.0 - share))


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_several_teachers_under_the_reverse_kl_are_a_product_of_experts_under_the_forward_kl_a_mixture(share):
    first, second = pair(5, seed=3)
    product = (share * first.log_softmax(-1) + (1.0 - share) * second.log_softmax(-1)).log_softmax(-1)
    mixture = (share * first.softmax(-1) + (1.0 - share) * second.softmax(-1)).log()
    reverse, forward = weighed(o.ReverseKL(), share), weighed(o.ForwardKL(), share)
    assert moments(several(product, first, second), reverse).gradient.norm() < 1e-15
    assert moments(several(mixture, first, second), forward).gradient.norm() < 1e-15
    assert moments(several(mixture, first, second), reverse).gradient.norm() > 1e-3
    assert moments(several(product, first, second), forward).gradient.norm() > 1e-3


def test_what_is_left_at_the_product_is_minus_the_log_of_its_mass():
    share, (first, second) = 0.3, pair(5, seed=4)
    unnormalised = share * first.log_softmax(-1) + (1.0 - share) * second.log_softmax(-1)
    found = moments(several(unnormalised, first, second), weighed(o.ReverseKL(), share))
    assert found.value == pytest.approx(-float(unnormalised.logsumexp(-1)))
    assert found.value > 0.0


# -------------------------------------------------------------------------------------------- whole returns and lengths


@dataclass(frozen=True)
class Returns:
    """A score function whose advantage is the log-ratio of the whole response, or of what is still to come."""

    given: World
    whole: bool
    needs = frozenset[Capability]({"sampled"})

    def worth(self, response: int) -> torch.Tensor:
        found = rewards(self.given, response)
        return found.sum().expand(len(found)) if self.whole else found.flip(0).cumsum(0).flip(0)

    def __call__(self, rows: Rows, *, teacher: str) -> torch.Tensor:
        batch, advantages = rows.batch, []
        for place, position in zip(batch.rollout.tolist(), batch.position.tolist(), strict=True):
            response = self.given.responses.index(tuple(batch.rollouts[place].response_ids.tolist()))
            advantages.append(self.worth(response)[position])
        return -torch.stack(advantages) * rows.sampled


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_returns_are_unbiased_for_whole_responses_where_single_tokens_are_not(whole, seed):
    given = world(3, 3, seed=seed)
    signal = Returns(given, whole)
    found = moments(given, recipe(signal))
    close(found.gradient, sequence_level(given).gradient)
    mean, variance = moments_by_hand(given, {y: signal.worth(y) for y in range(len(given.responses))})
    close(found.gradient, mean)
    assert found.variance == pytest.approx(variance)
    assert bias(moments(given, recipe(o.ScoreFunction())).gradient, sequence_level(given).gradient).relative > 0.05


def test_what_is_still_to_come_has_less_variance_than_the_whole_return():
    totals = dict.fromkeys((True, False), 0.0)
    for seed in range(4):
        given = world(3, 3, seed=seed)
        for whole in totals:
            totals[whole] += moments(given, recipe(Returns(given, whole))).variance
    assert totals[False] < 0.8 * totals[True]


def every_prefix_alike(length: int, student: torch.Tensor, teacher: torch.Tensor) -> dict[str, float]:
    """Variance of the sum over tokens of a response whose prefixes all have the same two distributions, in closed form.

    With log-ratios r_t, scores s_t of different prefixes at right angles, K = -E r, M = E r^2, S = E |s|^2:
    single tokens give T E[r^2 |s|^2], whole returns add T (T-1) (M S - 2 K E[r |s|^2]) + T (T-1) (T-2) K^2 S; from both the
    squared norm of the mean is taken away, which is the same: what comes later has the same mean whatever is written now.
    """
    own, r = student.softmax(-1), teacher.log_softmax(-1) - student.log_softmax(-1)
    scores = torch.eye(len(student), dtype=torch.float64) - own
    size = scores.square().sum(-1)
    mean = (own * r) @ scores
    drift, spread, room = -float((own * r).sum()), float((own * r * r).sum()), float((own * size).sum())
    both = float((own * r * size).sum())
    t = float(length)
    taken = float(mean.square().sum()) * sum(float((own**2).sum()) ** depth for depth in range(length))
    single = t * float((own * r * r * size).sum())
    whole = single + t * (t - 1) * (spread * room - 2 * drift * both) + t * (t - 1) * (t - 2) * drift**2 * room
    return {"single": single - taken, "whole": whole - taken}


def variances(length: int, student: torch.Tensor, teacher: torch.Tensor) -> dict[str, float]:
    given = of_tables(Size(vocab=len(student), length=length), student, teacher=teacher)
    one = o.Constant(divisor=1.0)
    return {
        "single": moments(given, recipe(o.ScoreFunction(), reduction=one)).variance,
        "whole": moments(given, recipe(Returns(given, True), reduction=one)).variance,
        "to come": moments(given, recipe(Returns(given, False), reduction=one)).variance,
    }


def growth(found: list[float], first: int, last: int) -> float:
    """The exponent of the length between two lengths."""
    return log(found[last - 1] / found[first - 1]) / log(last / first)


def test_with_prefixes_alike_single_tokens_vary_like_the_length_and_whole_returns_like_its_cube():
    """One power less than the worst cases T^2 and T^4, and the same ratio.

    The worst cases bound one sum of T terms, and a product of two such sums, by T terms that all point the same way. In a table
    the scores of different prefixes are at right angles, so the sum of scores has a squared norm of order T.
    """
    student, teacher = pair(3, seed=2)
    measured = [variances(length, student, teacher) for length in range(1, 6)]
    for length, found in enumerate(measured, start=1):
        expected = every_prefix_alike(length, student, teacher)
        assert found["single"] == pytest.approx(expected["single"])
        assert found["whole"] == pytest.approx(expected["whole"])
    single, whole, to_come = ([found[name] for found in measured] for name in ("single", "whole", "to come"))
    assert 1.0 < growth(single, 2, 5) < 1.4  # on its way to 1, see below
    assert 2.5 < growth(to_come, 2, 5) < growth(whole, 2, 5) < 3.1
    assert all(a < b < c for a, b, c in zip(single[1:], to_come[1:], whole[1:], strict=True))
    far = [every_prefix_alike(length, student, teacher) for length in (10_000, 20_000)]
    assert log(far[1]["single"] / far[0]["single"]) / log(2) == pytest.approx(1.0, abs=0.01)
    assert log(far[1]["whole"] / far[0]["whole"]) / log(2) == pytest.approx(3.0, abs=0.01)
    ratio = [one["whole"] / one["single"] for one in far]
    assert log(ratio[1] / ratio[0]) / log(2) == pytest.approx(2.0, abs=0.01)  # as T^4 over T^2
