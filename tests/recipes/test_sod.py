from statistics import fmean

import pytest
import torch

import steps
from tutelage.recipes import grpo, opd, sod
from tutelage.recipes.costs import cost_of
from tutelage.types import Author

VOCAB = 6
STUDENT, TOOL = Author.STUDENT, Author.NONE
THREE_STEPS = [STUDENT, STUDENT, TOOL, STUDENT, STUDENT, STUDENT, TOOL, TOOL, STUDENT]
"""Of two, three and one tokens; what the tool wrote belongs to nobody."""
PARTS = [slice(0, 2), slice(2, 5), slice(5, 6)]


def one_response(*, distance: float = 1.0, seed: int = 0):
    student = steps.logits(6, seed=seed)
    teacher = student + distance * steps.logits(6, seed=seed + 100)
    ids = [time % VOCAB for time in range(len(THREE_STEPS))]
    return steps.step(ids, student=student, teacher=teacher, authors=THREE_STEPS)


def weights(given, **knobs) -> torch.Tensor:
    """What the distillation has more than opd, row by row."""
    found, plain = (steps.gradient(recipe, given)[:, 0] for recipe in (sod(**knobs), opd()))
    return found / plain


def disagreement(given) -> list[float]:
    size = (steps.log_prob(given, given.hidden) - steps.log_prob(given, given.teachers["teacher"].hidden)).abs()
    return [float(size[part].mean()) for part in PARTS]


def test_in_one_step_it_is_grpo_and_opd_together():
    responses, groups, rewards = [[0, 1, 2], [3, 4], [5]], [0, 0, 1], [1.0, 0.0, 1.0]
    given = steps.step(*responses, student=steps.logits(6), teacher=steps.logits(6, seed=1), groups=groups, rewards=rewards)
    deviation, mean = 0.5**0.5 + 1e-4, 0.5  # of the rewards 1 and 0, with the epsilon of GRPO
    worth = torch.tensor([(1.0 - mean) / deviation] * 3 + [-mean / deviation] * 2 + [0.0], dtype=torch.float64)
    reward = -steps.by_row(worth, steps.score(given)) / 6
    torch.testing.assert_close(steps.gradient(sod(), given), reward + steps.gradient(opd(), given))
    torch.testing.assert_close(steps.gradient(sod(coefficient=0.0), given), reward)
    assert steps.gradient(grpo(), given)[5].abs().max() == 0.0, "a group of one has no reward in grpo either"


@pytest.mark.parametrize("seed", range(5))
def test_a_steps_weight_is_the_papers_product_cut_at_one_plus_delta(seed):
    given = one_response(seed=seed)
    d, expected = disagreement(given), torch.ones(6, dtype=torch.float64)
    for index, part in enumerate(PARTS):
        product = 1.0
        for earlier in range(index):
            product *= (d[earlier] + 1e-6) / (d[earlier + 1] + 1e-6)
        expected[part] = min(product, 1.2)
    torch.testing.assert_close(weights(given), expected)
    assert (weights(given, delta=0.0) <= 1.0 + 1e-12).all()


def test_a_steps_disagreement_is_the_mean_over_its_tokens():
    given = one_response(seed=1)
    own, theirs = steps.log_prob(given, given.hidden), steps.log_prob(given, given.teachers["teacher"].hidden)
    first, second = (fmean((own - theirs)[part].abs().tolist()) for part in PARTS[:2])
    assert weights(given, delta=1e6)[2] == pytest.approx((first + 1e-6) / (second + 1e-6))


def test_scaling_all_disagreements_changes_no_weight():
    given = one_response()
    own, theirs = steps.log_prob(given, given.hidden), steps.log_prob(given, given.teachers["teacher"].hidden)
    drift = sod(delta=1e6, epsilon=1e-12).terms[1].weights[0]
    everybody = torch.ones(6, dtype=torch.bool)

    def drawn(factor: float) -> torch.Tensor:
        measured = {"student_log_prob": factor * own, "teacher_log_prob": factor * theirs}
        return drift(given.batch, measured, everybody, step=0, gather=lambda local: local)

    torch.testing.assert_close(drawn(100.0), drawn(1.0))


def test_turns_part_a_response_as_tool_outputs_do():
    student, teacher = steps.logits(6), steps.logits(6, seed=1)
    ids = [0, 1, 2, 3, 4, 5]
    turned = steps.step(ids, student=student, teacher=teacher, turns=[[0, 0, 1, 1, 1, 2]])
    authors = [STUDENT, STUDENT, TOOL, STUDENT, STUDENT, STUDENT, TOOL, STUDENT]
    parted = steps.step([0, 1, 9, 2, 3, 4, 9, 5], student=student, teacher=teacher, authors=authors)
    torch.testing.assert_close(steps.gradient(sod(), turned), steps.gradient(sod(), parted))
    assert not torch.allclose(steps.gradient(sod(), turned), steps.gradient(opd(), parted))


def test_every_response_has_a_first_step_of_its_own():
    student, teacher = steps.logits(4), steps.logits(4, seed=1)
    both = steps.step([0, 1], [2, 3], student=student, teacher=teacher, groups=[0, 1])
    torch.testing.assert_close(steps.gradient(sod(), both), steps.gradient(opd(), both))


def test_with_an_environment_the_student_talks_and_everything_else_stays():
    talking = sod(environment="tools.py:reply", n=4, max_new_tokens=64)
    assert talking.rollouts.kind == "environment"
    assert talking.rollouts.sampling == sod(n=4, max_new_tokens=64).rollouts.sampling
    assert talking.terms == sod().terms
    assert any(f"{talking.rollouts.max_turns} turns" in told for told in cost_of(talking).generation)
    assert cost_of(sod()).generation == ()
