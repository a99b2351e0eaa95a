"""Moments of the package's recipes against sums on plain tables."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from enumeration import reverse_kl_gradient
from tables import chance, moments_by_hand, of_tables, recipe, rewards, scores, world
from tutelage import objectives as o
from tutelage.errors import ConfigError
from tutelage.lab.exact import Size, moments, outcomes, sequence_level, token_level
from tutelage.lab.exact.estimator import intervals
from tutelage.recipes import Recipe, gkd, opd, sft, tropd, vopd
from tutelage.rollouts.sources import Sampling, StudentRollouts, TeacherRollouts
from tutelage.types import FullSignal, Head
from tutelage.weighting import EntropyAbove


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def gradients_of(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of the forward KL with respect to the student's logits."""
    return student.softmax(-1) - target.softmax(-1)


@pytest.mark.parametrize("seed", range(3))
def test_opd_and_vopd_and_the_full_divergence_have_the_gradient_of_the_prefixes(seed):
    given = world(4, 3, seed=seed)
    for method in (opd(n=1), vopd(baseline_k=4), vopd(baseline_k=2), gkd(beta=1.0, student_fraction=1.0)):
        close(moments(given, method).gradient, token_level(given).gradient)


@pytest.mark.parametrize("end", [False, True])
def test_opd_has_the_mean_and_the_variance_of_the_sum_over_responses(end):
    given = world(3, 3, end=end, seed=1)
    mean, variance = moments_by_hand(given, {y: rewards(given, y) for y in range(len(given.responses))})
    found = moments(given, opd(n=1))
    close(found.gradient, mean)
    assert found.variance == pytest.approx(variance)
    assert found.signal_to_noise == pytest.approx(float(mean.square().sum()) / variance)


def test_a_table_as_the_head_and_prefixes_as_its_inputs_give_the_same_gradient():
    given = world(3, 2)
    mean, inputs = torch.zeros_like(given.student), torch.eye(len(given.student), dtype=torch.float64)
    for outcome in outcomes(given, opd(n=1).rollouts):
        batch, hidden = outcome.batch(), inputs[outcome.rows()]
        head = Head(weight=given.student.T.clone().requires_grad_())
        teacher = FullSignal(hidden=hidden, head=Head(weight=given.teachers["teacher"].T.contiguous()))
        loss = o.evaluate(o.plan(opd().terms, batch), batch, hidden=hidden, head=head, teachers={"teacher": teacher}).loss
        mean += outcome.probability * torch.autograd.grad(loss, head.weight)[0].T
    close(moments(given, opd(n=1)).gradient, mean)


def test_the_baseline_lowers_the_variance_and_the_whole_distribution_lowers_it_further():
    variances = []
    for seed in range(5):
        given = world(4, 2, seed=seed)
        methods = (opd(n=1), vopd(baseline_k=0), gkd(beta=1.0, student_fraction=1.0))
        variances.append([moments(given, method).variance for method in methods])
    raw, centred, full = zip(*variances, strict=True)
    assert sum(centred) < 0.95 * sum(raw)
    assert all(whole < 0.6 * sampled for whole, sampled in zip(full, raw, strict=True))


def test_the_full_divergence_varies_only_by_the_prefixes_that_are_visited():
    given = world(3, 1)
    found = moments(given, gkd(beta=1.0, student_fraction=1.0))
    assert found.variance == pytest.approx(0.0, abs=1e-16)  # one prefix, which every response passes
    assert found.signal_to_noise == float("inf")


def test_token_level_estimators_are_biased_for_whole_responses():
    given = world(4, 3)
    bias = (moments(given, opd(n=1)).gradient - sequence_level(given).gradient).norm()
    assert bias > 0.2 * sequence_level(given).gradient.norm()


def test_a_token_mean_over_few_responses_of_different_lengths_moves_the_mean_and_a_constant_does_not():
    given, tokens = world(3, 3, end=True), 3.0
    constant = o.Constant(divisor=tokens)
    mean_tokens = sum(chance(given, y) * len(given.responses[y]) for y in range(len(given.responses)))
    signals = (
        o.ScoreFunction(),
        o.ScoreFunction(advantage=o.LogRatio(baseline=o.StudentKLBaseline(k=0)), ratio=o.NoRatio()),
        o.ReverseKL(),
    )
    for signal in signals:
        found = moments(given, recipe(signal, reduction=constant)).gradient
        close(found, token_level(given).gradient * mean_tokens / tokens)
    one, two, three = (moments(given, recipe(signal)).gradient for signal in signals)
    assert (one - two).norm() > 0.01 * three.norm() < (one - three).norm()


def test_n_independent_responses_have_the_same_mean_and_an_nth_of_the_variance():
    given = world(3, 2)
    for make in (opd, vopd):
        knobs = {"baseline_k": 3} if make is vopd else {}
        one, two = (moments(given, make(n=n, **knobs)) for n in (1, 2))
        close(two.gradient, one.gradient)
        assert two.variance == pytest.approx(one.variance / 2)


def test_several_prompts_are_one_step():
    given = world(3, 2, num_prompts=2)
    found = moments(given, opd(n=1))
    close(found.gradient, token_level(given).gradient)
    rows, parts = given.size.num_prefixes, []
    for prompt in range(2):
        mine = slice(prompt * rows, (prompt + 1) * rows)
        alone = of_tables(Size(vocab=3, length=2), given.student[mine], teacher=given.teachers["teacher"][mine])
        parts.append(moments(alone, opd(n=1)).variance)
    assert found.variance == pytest.approx(sum(parts) / 4)


def test_importance_weights_undo_a_tempered_sampler_at_every_prefix_but_not_which_prefixes_it_visits():
    worth, source = o.LogRatio(relative_to="student"), StudentRollouts(sampling=Sampling(temperature=1.7))
    tempered = recipe(o.ScoreFunction(advantage=worth), rollouts=source)
    ignored = recipe(o.ScoreFunction(advantage=worth, ratio=o.NoRatio()), rollouts=source)
    given = world(4, 1)
    close(moments(given, tempered).gradient, token_level(given).gradient)
    assert (moments(given, ignored).gradient - token_level(given).gradient).norm() > 0.1 * token_level(given).gradient.norm()
    given = world(3, 2)
    hot = replace(given, student=given.student / 1.7)  # who visits; the first prefix is the empty one
    expected = torch.zeros_like(given.student)
    for y in range(len(given.responses)):
        for row in given.path(0, y).tolist():
            expected[row] += chance(hot, y) * reverse_kl_gradient(given.student[row], given.teachers["teacher"][row]) / 2
    close(moments(given, tempered).gradient, expected)
    assert (expected - token_level(given).gradient)[0].norm() < 1e-12 < (expected - token_level(given).gradient).norm()


def test_a_nucleus_biases_the_score_function_and_leaves_the_full_divergence_of_a_prefix_alone():
    given = world(4, 1)
    source = StudentRollouts(sampling=Sampling(top_p=0.6))
    truth = token_level(given).gradient
    for ratio in (o.NoRatio(), o.Importance()):
        signal = o.ScoreFunction(advantage=o.LogRatio(relative_to="student"), ratio=ratio)
        assert (moments(given, recipe(signal, rollouts=source)).gradient - truth).norm() > 0.2 * truth.norm()
    close(moments(given, recipe(o.ReverseKL(), rollouts=source)).gradient, truth)


def test_supervised_training_on_the_teachers_responses_is_the_forward_kl_of_whole_responses():
    given = world(3, 3, seed=4)
    expected = torch.zeros_like(given.student)
    theirs = replace(given, student=given.teachers["teacher"])
    for y in range(len(given.responses)):
        for row in given.path(0, y).tolist():
            expected[row] += chance(theirs, y) * gradients_of(given.student[row], given.teachers["teacher"][row]) / 3
    close(moments(given, sft(source="teacher")).gradient, expected)
    close(moments(given, sft()).gradient, expected)  # the data are distributed as the teacher


def test_a_mixture_is_the_mean_of_its_two_halves_and_varies_between_them():
    given = world(3, 2)
    own, data = (moments(given, gkd(student_fraction=share)) for share in (1.0, 0.0))
    mixed = moments(given, gkd(student_fraction=0.3))
    close(mixed.gradient, 0.3 * own.gradient + 0.7 * data.gradient)
    between = 0.3 * 0.7 * float((own.gradient - data.gradient).square().sum())
    assert mixed.variance == pytest.approx(0.3 * own.variance + 0.7 * data.variance + between)


# ------------------------------------------------------------------------------------------- advantages of a whole step


def score_function(**advantage: object) -> o.ScoreFunction:
    return o.ScoreFunction(advantage=o.LogRatio(**advantage))  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [False, True])
def test_discount_one_is_unbiased_for_whole_responses(end):
    given = world(3, 3, end=end)
    mean_tokens = sum(chance(given, y) * len(given.responses[y]) for y in range(len(given.responses)))
    found = moments(given, recipe(score_function(discount=1.0), reduction=o.Constant(divisor=mean_tokens)))
    close(found.gradient, sequence_level(given).gradient)


def test_other_responses_are_an_unbiased_baseline_and_the_mean_of_all_tokens_is_not():
    given, pairs = world(3, 2), StudentRollouts(sampling=Sampling(n=2))
    plain, others, everything = (
        moments(given, recipe(score_function(baseline=baseline), rollouts=pairs))
        for baseline in (o.NoBaseline(), o.LeaveOneOut(), o.BatchMean())
    )
    close(others.gradient, plain.gradient)
    # Of four tokens each is a quarter of its own baseline, and its score meets the other tokens of its own response.
    assert 0.05 < (everything.gradient - plain.gradient).norm() / plain.gradient.norm() < 1.0


@pytest.mark.parametrize(("baseline", "factor"), [("others", 1.0), ("mean", 0.5)])
def test_a_reward_less_that_of_others_has_the_gradient_of_its_mean_and_the_group_mean_shrinks_it(baseline, factor):
    given = world(3, 2, seed=1)
    advantage = o.GroupRelative(scale="none", baseline=baseline)
    found = moments(
        given, recipe(o.ScoreFunction(advantage=advantage), rollouts=StudentRollouts(sampling=Sampling(n=2)))
    ).gradient
    expected = torch.zeros_like(given.student)
    for y in range(len(given.responses)):
        expected += chance(given, y) * float(given.rewards[0, y]) * scores(given, y).sum(0)
    close(found, -factor * expected / 2)  # two tokens share the loss; of two responses each is half of the group's mean


def test_a_clipped_ratio_is_the_score_function_where_the_sampler_is_the_student():
    given = world(3, 2)
    clipped = o.ScoreFunction(ratio=o.Clipped())
    close(moments(given, recipe(clipped)).gradient, token_level(given).gradient)


@pytest.mark.parametrize(("kind", "needs"), [(o.HiddenMatch(), "hidden"), (o.SpanLikelihood(), "spans")])
def test_what_no_table_has_is_refused(kind, needs):
    with pytest.raises(ConfigError, match=needs):
        moments(world(3, 2), recipe(kind))


# ------------------------------------------------------------------------------------------------------- random masks


def test_the_trust_mask_is_integrated_to_its_closed_form():
    given, k = world(4, 2, seed=5), 2
    expected = torch.zeros_like(given.student)
    visits = torch.zeros(len(given.student), dtype=torch.float64)
    for y in range(len(given.responses)):
        for row in given.path(0, y).tolist():
            visits[row] += chance(given, y)
    for row, (student, teacher) in enumerate(zip(given.student, given.teachers["teacher"], strict=True)):
        own, theirs = student.softmax(-1), teacher.softmax(-1)
        accept = (theirs / own).clamp(max=1.0)
        worth = accept * (theirs.log() - own.log())
        trusted = -own * (worth - (own * worth).sum())
        kept, outlier = theirs.topk(k).indices, torch.zeros_like(own)
        outlier[kept] = student[kept].softmax(-1) - teacher[kept].softmax(-1)
        expected[row] = visits[row] * (trusted + (own * (1.0 - accept)).sum() * outlier) / 2
    close(moments(given, tropd(k=k, n=1), step=200).gradient, expected)


def by_combinations(given, method: Recipe) -> tuple[torch.Tensor, float]:
    """Mean and variance with every combination of trusted and distrusted tokens taken one by one."""
    mean, second = torch.zeros_like(given.student), 0.0
    head = Head(weight=torch.eye(given.size.vocab, dtype=torch.float64))
    for outcome in outcomes(given, method.rollouts):
        batch, rows = outcome.batch(), outcome.rows()
        own = given.student[rows].log_softmax(-1).gather(-1, batch.token.unsqueeze(-1)).squeeze(-1)
        theirs = given.teachers["teacher"][rows].log_softmax(-1).gather(-1, batch.token.unsqueeze(-1)).squeeze(-1)
        accept = (theirs - own).exp().clamp(max=1.0)
        for trusted in product([True, False], repeat=len(rows)):
            trust = torch.tensor(trusted)
            share = outcome.probability * float(torch.where(trust, accept, 1.0 - accept).prod())
            if share == 0.0:
                continue
            drawn = replace(batch, noise=torch.where(trust, accept / 2, (1.0 + accept) / 2))
            hidden = given.student[rows].clone().requires_grad_()
            loss = o.evaluate(
                o.plan(method.terms, drawn),
                drawn,
                hidden=hidden,
                head=head,
                teachers={"teacher": FullSignal(hidden=given.teachers["teacher"][rows], head=head)},
            ).loss
            table = torch.zeros_like(given.student)
            table.index_add_(0, rows, torch.autograd.grad(loss, hidden)[0])
            mean += share * table
            second += share * float(table.square().sum())
    return mean, second - float(mean.square().sum())


def test_its_variance_is_that_of_all_combinations_of_trusted_tokens():
    given = world(3, 2, seed=6)
    method = tropd(k=2, n=1, prefix_steps=0)
    mean, variance = by_combinations(given, method)
    found = moments(given, method)
    close(found.gradient, mean)
    assert found.variance == pytest.approx(variance)
    assert found.num_outcomes == 9


def test_thresholds_cut_the_noise_into_intervals_that_fill_it():
    thresholds = torch.tensor([[0.3, 0.8], [1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    noise, share = intervals(thresholds)
    torch.testing.assert_close(share.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(share[0], torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64))
    torch.testing.assert_close(noise[0], torch.tensor([0.15, 0.55, 0.9], dtype=torch.float64))
    assert intervals(torch.zeros(2, 0, dtype=torch.float64))[1].tolist() == [[1.0], [1.0]]


def test_weights_of_the_whole_step_are_measured_first():
    given = world(3, 2, seed=2)
    masked = recipe(o.ScoreFunction())
    object.__setattr__(masked.terms[0], "weights", (EntropyAbove(quantile=0.5),))
    expected = torch.zeros_like(given.student)
    entropy = -(given.student.softmax(-1) * given.student.log_softmax(-1)).sum(-1)
    for y in range(len(given.responses)):
        rows = given.path(0, y)
        row = int(rows[entropy[rows].argmax()])  # of two tokens the quantile keeps the less certain one
        token = given.responses[y][rows.tolist().index(row)]
        score = -given.student[row].softmax(-1)
        score[token] += 1.0
        worth = given.teachers["teacher"][row].log_softmax(-1)[token] - given.student[row].log_softmax(-1)[token]
        expected[row] -= chance(given, y) * worth * score / 2
    close(moments(given, masked).gradient, expected)


def test_a_student_equal_to_its_teacher_gets_no_gradient_and_the_ratio_is_no_number():
    table = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    same = of_tables(Size(vocab=3, length=2), table, teacher=table)
    found = moments(same, gkd(beta=1.0, student_fraction=1.0))
    assert found.gradient.norm() < 1e-15
    assert found.variance < 1e-30
    assert found.signal_to_noise != found.signal_to_noise


def test_too_many_outcomes_are_refused():
    with pytest.raises(ConfigError, match="at most 10 are enumerated"):
        moments(world(3, 3), opd(n=1), most=10)
    with pytest.raises(ConfigError, match="n 3"):
        moments(world(4, 4), opd())


def test_the_teachers_sampling_is_respected_where_it_writes():
    given = world(3, 1)
    written = recipe(o.CrossEntropy(), rollouts=TeacherRollouts(sampling=Sampling(temperature=2.0)))
    object.__setattr__(written.terms[0], "on", ("teacher",))
    close(moments(given, written).gradient[0], gradients_of(given.student[0], given.teachers["teacher"][0] / 2.0))
