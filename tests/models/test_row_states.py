from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from tutelage.models.row_states import Backbone, microbatches, row_states
from tutelage.types import Author, Example, Rollout, StepBatch


def _rollout(prompt: list[int], response: list[int], authors: list[int] | None = None) -> Rollout:
    return Rollout(
        example=Example(id="0", prompt=""),
        group=0,
        prompt_ids=torch.tensor(prompt),
        response_ids=torch.tensor(response),
        authors=torch.tensor(authors or [int(Author.STUDENT)] * len(response)),
        behaviour_log_probs=torch.zeros(len(response)),
        finish="length",
        text="",
    )


@given(lengths=st.lists(st.integers(1, 50), max_size=30), budget_tokens=st.integers(1, 200))
def test_every_sequence_is_in_one_group_and_every_group_within_the_budget(lengths, budget_tokens):
    groups = microbatches(lengths, budget_tokens=budget_tokens)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget_tokens


@given(lengths=st.lists(st.integers(1, 900), max_size=80))
def test_large_groups_hold_hardly_any_padding_and_small_ones_are_filled_up(lengths):
    groups = microbatches(lengths, budget_tokens=16384)
    padded = [len(group) * max(lengths[index] for index in group) for group in groups]
    for group, size in zip(groups, padded, strict=True):
        assert size <= 512 or sum(lengths[index] for index in group) >= 0.95 * size or len(group) == 1
    for group, later in pairwise(groups):
        grown = (len(group) + 1) * max(lengths[index] for index in group)
        assert grown > 512, "a small group was left while there was more to take"
        assert max(lengths[index] for index in later) <= min(lengths[index] for index in group)


def test_responses_of_very_different_lengths_are_read_with_hardly_any_padding_at_the_default():
    from tutelage.lab.bench.settings import StepBench

    lengths = [64 + length for length in StepBench(ragged=0.8, accumulation=8).lengths()]
    groups = microbatches(lengths, budget_tokens=16384)
    padded = sum(len(group) * max(lengths[index] for index in group) for group in groups)
    assert sum(lengths) / padded >= 0.95
    assert len(groups) < len(lengths) / 3


def test_a_language_model_is_a_backbone(of_family):
    assert isinstance(of_family("llama"), Backbone)


def test_each_row_gets_the_state_that_predicts_its_token_also_under_another_prompt(of_family):
    model = of_family("llama")
    nobody, student = int(Author.NONE), int(Author.STUDENT)
    rollouts = [
        _rollout([3, 4], [5, 6, 7], [student, nobody, student]),
        _rollout([8], [9]),
        _rollout([10, 11, 12, 13], [14, 15], [nobody, student]),
    ]
    batch, chosen = StepBatch.of(rollouts), [0, 2]
    prompts = [torch.tensor([20, 21, 22, 23, 24]), torch.tensor([25])]
    with torch.no_grad():
        log_probs = model.logits(row_states(model, batch, chosen, prompts=prompts)).log_softmax(-1)
        rows = batch.rows_of(chosen)
        assert log_probs.shape[0] == len(rows) == 3
        for row, found in zip(rows.tolist(), log_probs, strict=True):
            index, position = int(batch.rollout[row]), int(batch.position[row])
            before = rollouts[index].response_ids[:position]
            ids = torch.cat([prompts[chosen.index(index)], before]).unsqueeze(0)
            expected = model.model(input_ids=ids, use_cache=False).logits[0, -1].log_softmax(-1)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
