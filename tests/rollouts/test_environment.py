"""Conversations with an environment, by scripted and by real samplers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from tutelage.errors import ConfigError, RolloutError
from tutelage.rollouts import Aids, CachedSampler, Prompt, RolloutWriter, Sample, Text
from tutelage.rollouts.sources import EnvironmentRollouts, Sampling, StudentRollouts
from tutelage.types import Author, Example, Rollout, StepBatch
from tutelage.weighting.places import segments

STOPS = frozenset({8, 9})
TEXT = Text(
    decode=lambda ids: "".join(str(token) for token in ids if token not in STOPS),
    encode_response=lambda text: [*(int(digit) for digit in text), 9],
)
S, N = int(Author.STUDENT), int(Author.NONE)


class Scripted:
    """Writes given turns, one list of ids per prompt and call; notes what it read and how much room it had."""

    def __init__(self, *turns: Sequence[Sequence[int]]) -> None:
        self.turns, self.calls = list(turns), list[tuple[list[list[int]], list[int], int]]()

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        *,
        seed: int,
        max_new_tokens: Sequence[int] | None = None,
    ) -> list[Sample]:
        rooms = list(max_new_tokens or [sampling.max_new_tokens] * len(prompts))
        self.calls.append(([list(prompt) for prompt in prompts], rooms, seed))
        return [self._one(list(ids)[:room]) for ids, room in zip(self.turns[len(self.calls) - 1], rooms, strict=True)]

    def _one(self, ids: list[int]) -> Sample:
        ended = bool(ids) and ids[-1] in STOPS
        return Sample(
            token_ids=torch.tensor(ids, dtype=torch.long),
            log_probs=-torch.tensor(ids, dtype=torch.float32),
            finish="stop" if ended else "length",
        )


def counting(example: Example, turns: Sequence[str]) -> str | None:
    """Says how many turns there were, as often; after the third it is over."""
    return str(len(turns)) * len(turns) if len(turns) < 3 else None


def nothing(example: Example, turns: Sequence[str]) -> str | None:
    return None


def raising(example: Example, turns: Sequence[str]) -> str | None:
    raise LookupError("no such cell")


def of_another_kind(example: Example, turns: Sequence[str]) -> Any:
    return 7


def source(function: str = "counting", **changes: Any) -> EnvironmentRollouts:
    return EnvironmentRollouts(environment=f"{__name__}:{function}", **{"sampling": Sampling(max_new_tokens=20), **changes})


def prompts_of(*ids: list[int]) -> list[Prompt]:
    return [Prompt(example=Example(id=f"row {place}", prompt=""), token_ids=torch.tensor(one)) for place, one in enumerate(ids)]


def write(source: Any, student: Any, prompts: list[Prompt], *, step: int = 0, **aids: Any) -> list[Rollout]:
    return RolloutWriter(source, student=student, text=TEXT, seed=3, aids=Aids(**aids)).write(prompts, step=step)


def test_what_was_sampled_and_what_was_replied_stand_behind_one_another():
    student = Scripted([[4, 5, 9]], [[6, 9]], [[7, 0, 8]])
    [rollout] = write(source(), student, prompts_of([1, 2]), step=5)
    assert rollout.response_ids.tolist() == [4, 5, 9, 1, 6, 9, 2, 2, 7, 0, 8]
    assert rollout.authors.tolist() == [S, S, S, N, S, S, N, N, S, S, S]
    assert rollout.turns is not None
    assert rollout.turns.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    chosen = rollout.authors == S
    assert torch.equal(rollout.behaviour_log_probs[chosen], -rollout.response_ids[chosen].float())
    assert rollout.behaviour_log_probs[~chosen].isnan().all()
    assert (rollout.finish, rollout.text, rollout.policy_step) == ("stop", "451622" + "70", 5)
    assert [read for [read], _, _ in student.calls] == [[1, 2], [1, 2, 4, 5, 9, 1], [1, 2, 4, 5, 9, 1, 6, 9, 2, 2]]
    assert [room for _, [room], _ in student.calls] == [20, 16, 12]
    assert len({seed for _, _, seed in student.calls}) == 3, "a turn does not repeat the draws of another"


def test_the_environment_hears_the_students_turns_and_nothing_else():
    heard = list[tuple[str, ...]]()

    def listening(example: Example, turns: Sequence[str]) -> str | None:
        heard.append((example.id, *turns))
        return counting(example, turns)

    write(source(), Scripted([[4, 5, 9]], [[6, 8]], [[7, 9]]), prompts_of([1]), reply=listening)
    assert heard == [("row 0", "45"), ("row 0", "45", "6"), ("row 0", "45", "6", "7")]


def test_the_environments_tokens_have_no_row_and_each_turn_is_a_segment():
    rollouts = write(source(), Scripted([[4, 5, 9], [9]], [[6, 9], [5, 8]], [[7, 0, 8], [9]]), prompts_of([1], [2]))
    batch = StepBatch.of(rollouts)
    assert batch.num_rows == 8 + 4
    assert batch.token.tolist() == [4, 5, 9, 6, 9, 7, 0, 8, 9, 5, 8, 9]
    assert (batch.author == S).all()
    segment, first = segments(batch, torch.arange(batch.num_rows))
    assert segment.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 5]
    assert first.tolist() == [0, 0, 0, 3, 3, 3]


def test_a_turn_ends_even_where_the_environment_has_nothing_to_say():
    silent = write(
        source(), Scripted([[4, 9]], [[5, 9]]), prompts_of([1]), reply=lambda example, turns: ["", None][len(turns) - 1]
    )
    assert silent[0].response_ids.tolist() == [4, 9, 5, 9]
    assert segments(StepBatch.of(silent), torch.arange(4))[0].tolist() == [0, 0, 1, 1]


def test_a_template_stands_around_every_reply():
    [rollout] = write(source(template="0{reply}7"), Scripted([[4, 9]], [[5, 9]], [[6, 9]]), prompts_of([1]))
    assert rollout.response_ids.tolist() == [4, 9, 0, 1, 7, 5, 9, 0, 2, 2, 7, 6, 9]


def test_who_runs_out_of_turns_or_room_is_cut_before_a_reply_that_nobody_could_answer():
    of_turns = write(source(max_turns=2), Scripted([[4, 9]], [[5, 9]]), prompts_of([1]))[0]
    assert (of_turns.response_ids.tolist(), of_turns.finish) == ([4, 9, 1, 5, 9], "length")
    for room, expected in ((7, [4, 9, 1, 5, 9]), (8, [4, 9, 1, 5, 9, 2, 2, 6])):
        limited = source(sampling=Sampling(max_new_tokens=room))
        rollout = write(limited, Scripted([[4, 9]], [[5, 9]], [[6, 9]]), prompts_of([1]))[0]
        assert (rollout.response_ids.tolist(), rollout.finish) == (expected, "length")
    over = write(source(max_turns=3), Scripted([[4, 9]], [[5, 9]], [[6, 9]]), prompts_of([1]))[0]
    assert over.finish == "stop", "the environment ended it in the last turn that there was"


def test_a_conversation_that_is_over_takes_no_further_room_while_others_go_on():
    student = Scripted([[4, 9], [4, 4]], [[5, 9], []], [[6, 9], []])
    limited = source(sampling=Sampling(max_new_tokens=20))
    rollouts = write(limited, student, prompts_of([1], [2]))
    assert [rooms for _, rooms, _ in student.calls] == [[20, 20], [17, 0], [13, 0]]
    assert rollouts[1].response_ids.tolist() == [4, 4]
    assert rollouts[1].finish == "length"


def test_a_batch_of_conversations_equals_each_alone(make_model):
    student = CachedSampler(make_model(), vocab=12, stop_token_ids=frozenset({0, 2, 4, 6, 8}))
    greedy = source(sampling=Sampling(temperature=0.0, max_new_tokens=24))
    prompts = prompts_of(*([place % 10, (7 * place) % 10, (3 * place) % 10] for place in range(12)))
    together = write(greedy, student, prompts)
    assert len({len(rollout.response_ids) for rollout in together}) > 3
    assert any((rollout.authors == N).any() for rollout in together)
    for prompt, rollout in zip(prompts, together, strict=True):
        [alone] = write(greedy, student, [prompt])
        assert alone.response_ids.tolist() == rollout.response_ids.tolist()
        assert alone.authors.tolist() == rollout.authors.tolist()
        assert alone.finish == rollout.finish


def test_each_draw_has_the_probability_that_the_model_gives_it_behind_the_whole_conversation(make_model):
    model = make_model()
    student = CachedSampler(model, vocab=12, stop_token_ids=frozenset({0, 2, 4, 6, 8}))
    rollouts = write(source(), student, prompts_of(*([place] for place in range(10))))
    assert sum(int((rollout.authors == N).sum()) for rollout in rollouts) > 10
    for rollout in rollouts:
        ids = torch.cat([rollout.prompt_ids, rollout.response_ids])
        with torch.no_grad():
            expected = model.model(input_ids=ids[None]).logits[0].log_softmax(-1)[:-1].gather(-1, ids[1:, None]).squeeze(-1)
        chosen = rollout.authors == S
        torch.testing.assert_close(
            rollout.behaviour_log_probs[chosen], expected[len(rollout.prompt_ids) - 1 :][chosen], atol=1e-5, rtol=1e-4
        )


def test_an_environment_that_is_over_at_once_leaves_the_students_rollouts_to_the_bit(make_model):
    student = CachedSampler(make_model(), vocab=12, stop_token_ids=frozenset({0, 2, 4}))
    sampling, prompts = Sampling(n=3, max_new_tokens=8), prompts_of([1, 2], [3], [5, 5, 5])
    talking = write(source("nothing", sampling=sampling), student, prompts, step=4)
    alone = write(StudentRollouts(sampling=sampling), student, prompts, step=4)
    assert {rollout.finish for rollout in alone} == {"stop", "length"}
    for one, other in zip(talking, alone, strict=True):
        for column in ("response_ids", "authors", "behaviour_log_probs"):
            assert torch.equal(getattr(one, column), getattr(other, column))
        assert (one.finish, one.text, one.group, one.policy_step) == (other.finish, other.text, other.group, other.policy_step)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("raising", r":raising raised LookupError: no such cell \(on example 'row 0', turn 1: '4'\)"),
        ("of_another_kind", r":of_another_kind returned 7 \(on example 'row 0', turn 1: '4'\)"),
    ],
)
def test_an_environment_that_fails_is_named(function, says):
    with pytest.raises(RolloutError, match=says):
        write(source(function), Scripted([[4, 9]]), prompts_of([1]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"environment": "nothing_here"}, "names no function"),
        ({"max_turns": 0}, "max_turns >= 1"),
        ({"template": "no place"}, "once"),
        ({"template": "{reply}{reply}"}, "once"),
    ],
)
def test_settings_that_make_no_conversation_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        replace(source(), **changes)


def test_an_environment_that_does_not_exist_is_refused_before_anything_is_written():
    with pytest.raises(ConfigError, match=r"has no function 'countin' \(did you mean 'counting'\?\)"):
        write(source("countin"), Scripted(), prompts_of([1]))
    with pytest.raises(ConfigError, match=r"There is no file .* for the environment"):
        write(EnvironmentRollouts(environment="nowhere.py:reply"), Scripted(), prompts_of([1]))
