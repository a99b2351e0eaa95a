"""Rows of a step: which tokens get one, in which order, and what randomness they carry."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dense
from tutelage.types import Author, Rollout, StepBatch, Verdict

NONE, STUDENT, TEACHER = Author.NONE, Author.STUDENT, Author.TEACHER


def rollout(ids: list[int], authors: list[Author], group: int = 0) -> Rollout:
    return dense.rollout(ids, authors, -torch.arange(1.0, len(ids) + 1.0), group=group)


FIRST = rollout([5, 6, 7, 8], [TEACHER, NONE, STUDENT, STUDENT])
SECOND = rollout([9, 3], [NONE, NONE], group=1)
THIRD = rollout([4], [STUDENT], group=2)


def test_only_tokens_that_somebody_chose_get_a_row_in_the_order_of_rollouts_and_time():
    batch = StepBatch.of([FIRST, SECOND, THIRD])
    assert batch.num_rows == 4
    assert batch.rollout.tolist() == [0, 0, 0, 2]
    assert batch.position.tolist() == [0, 2, 3, 0]
    assert batch.token.tolist() == [5, 7, 8, 4]
    assert batch.author.tolist() == [2, 1, 1, 1]
    assert batch.behaviour_log_probs.tolist() == [-1.0, -3.0, -4.0, -1.0]
    assert batch.verdicts == (Verdict(), Verdict(), Verdict())


def test_rows_are_found_by_author_and_by_rollout():
    batch = StepBatch.of([FIRST, SECOND, THIRD])
    assert batch.rows_by([STUDENT]).tolist() == [False, True, True, True]
    assert batch.rows_by([STUDENT, TEACHER]).all()
    assert batch.rows_of([2, 0]).tolist() == [0, 1, 2, 3]
    assert batch.rows_of([1]).tolist() == []
    assert batch.rows_of([]).tolist() == []


def test_selecting_rows_keeps_columns_aligned_and_rollouts_whole():
    batch = StepBatch.of([FIRST, SECOND, THIRD])
    part = batch.select(torch.tensor([3, 1]))
    assert (part.token.tolist(), part.rollout.tolist()) == ([4, 7], [2, 0])
    assert part.rollouts == batch.rollouts
    assert batch.select(slice(1, 3)).token.tolist() == [7, 8]
    assert batch.to(torch.device("cpu")).token.tolist() == batch.token.tolist()


@given(seed=st.integers(0, 2**40), step=st.integers(0, 10**6))
def test_noise_is_uniform_repeatable_and_another_for_every_seed_step_and_rollout(seed, step):
    def noise(**place: int) -> torch.Tensor:
        return StepBatch.of([THIRD, THIRD], **place).noise

    found = noise(seed=seed, step=step)
    assert ((found >= 0.0) & (found < 1.0)).all()
    assert found.tolist() == noise(seed=seed, step=step).tolist()
    assert found[0] != found[1]
    assert found.tolist() != noise(seed=seed + 1, step=step).tolist()
    assert found.tolist() != noise(seed=seed, step=step + 1).tolist()


def test_noise_does_not_depend_on_which_process_holds_a_rollout():
    whole = StepBatch.of([FIRST, SECOND, THIRD, FIRST], seed=3, step=5)
    second = StepBatch.of([THIRD, FIRST], seed=3, step=5, first=2)
    assert second.noise.tolist() == whole.noise[whole.rollout >= 2].tolist()


def test_noise_has_the_moments_of_a_uniform_draw_over_many_steps():
    draws = torch.cat([StepBatch.of([FIRST, THIRD], step=step).noise for step in range(1_000)])
    assert draws.mean().item() == pytest.approx(0.5, abs=0.02)
    assert draws.var().item() == pytest.approx(1.0 / 12.0, abs=0.004)
