import sys
from textwrap import dedent

import pytest

from tutelage.errors import ConfigError, VerifierError
from tutelage.types import Verdict
from tutelage.verifiers import FunctionVerifier, build


@pytest.fixture
def verifier(tmp_path):
    def make(code: str, *, name: str = "reward", **settings):
        path = tmp_path / "rewards.py"
        path.write_text(dedent(code))
        return build(FunctionVerifier(path=f"{path}:{name}", **settings))

    return make


def test_the_function_gets_prompts_completions_ids_and_columns(verifier, rollout):
    made = verifier("""
        def reward(prompts, completions, completion_ids, trainer_state, **columns):
            reward.seen = (prompts, completions, completion_ids, trainer_state.global_step, columns)
            return [1.0, 0.0]
    """)
    made.judge(
        [
            rollout("yes", prompt="p1", ids=(5, 6), identity="a", policy_step=7, answer="2", extra={"level": 3}),
            rollout("no", prompt="p2", ids=(5,), identity="b", policy_step=7, extra={"tags": ["x"]}),
        ]
    )
    prompts, completions, ids, step, columns = sys.modules["verifier_rewards"].reward.seen
    assert (prompts, completions, ids, step) == (["p1", "p2"], ["yes", "no"], [[5, 6], [5]], 7)
    assert columns == {"id": ["a", "b"], "answer": ["2", None], "level": [3, None], "tags": [None, ["x"]]}


def test_conversations_arrive_as_turns(verifier, rollout):
    made = verifier("""
        def reward(prompts, completions, **_):
            return [float(p[-1]["role"] == "user" and c == [{"role": "assistant", "content": "2"}])
                    for p, c in zip(prompts, completions)]
    """)
    assert made.judge([rollout("2", prompt=({"role": "user", "content": "1+1"},))]) == [Verdict(reward=1.0, correct=True)]


def test_a_function_gets_only_what_it_takes(verifier, rollout):
    made = verifier("""
        def reward(completions, answer, strict=True):
            return [float(c == a) and strict for c, a in zip(completions, answer)]
    """)
    verdicts = made.judge([rollout("2", answer="2", extra={"level": 1}), rollout("3", answer="2")])
    assert [said.reward for said in verdicts] == [1.0, 0.0]


def test_none_is_not_applicable_and_the_threshold_decides_what_is_correct(verifier, rollout):
    made = verifier("def reward(completions): return [None, 0.69, 0.7, True]", correct_from=0.7)
    assert made.judge([rollout("x")] * 4) == [
        Verdict(),
        Verdict(reward=0.69, correct=False),
        Verdict(reward=0.7, correct=True),
        Verdict(reward=1.0, correct=True),
    ]


def test_a_verdict_stays_what_it_is_and_an_open_question_is_decided_by_the_threshold(verifier, rollout):
    made = verifier(
        """
        from tutelage.types import Verdict
        def reward(completions):
            said = Verdict(reward=0.2, correct=True, feedback="odd", marks={"steps": 2.0})
            return [said, Verdict(reward=0.2), Verdict(), 1.0]
    """,
        correct_from=0.7,
    )
    assert made.judge([rollout("x")] * 4) == [
        Verdict(reward=0.2, correct=True, feedback="odd", marks={"steps": 2.0}),
        Verdict(reward=0.2, correct=False),
        Verdict(),
        Verdict(reward=1.0, correct=True),
    ]


def test_a_verdict_whose_reward_is_no_number_is_refused(verifier, rollout):
    made = verifier("""
        from tutelage.types import Verdict
        def reward(completions): return [Verdict(reward=float("nan"))]
    """)
    with pytest.raises(VerifierError, match="a reward is a finite number"):
        made.judge([rollout("x")])


def test_rewards_may_be_array_scalars(verifier, rollout):
    made = verifier("""
        import numpy, torch
        def reward(completions): return [numpy.float32(0.5), torch.tensor(0.25)]
    """)
    assert [said.reward for said in made.judge([rollout("x")] * 2)] == [0.5, 0.25]


def test_a_function_may_be_async(verifier, rollout):
    made = verifier("""
        import asyncio
        async def reward(completions):
            await asyncio.sleep(0)
            return [float(len(c)) for c in completions]
    """)
    assert [said.reward for said in made.judge([rollout("ab"), rollout("abc")])] == [2.0, 3.0]


def test_a_function_is_not_called_for_nothing(verifier):
    assert verifier("def reward(completions): raise RuntimeError").judge([]) == []


def test_an_error_names_the_function_the_example_and_the_response(verifier, rollout):
    made = verifier("def reward(completions): return [float(c) for c in completions]")
    rollouts = [rollout("1", identity="row-1"), rollout("one", identity="row-2"), rollout("two", identity="row-3")]
    with pytest.raises(VerifierError, match=r"rewards\.py:reward raised ValueError: .*example 'row-2', response 'one'"):
        made.judge(rollouts)


def test_an_error_that_no_response_causes_alone_is_said_to_be_one(verifier, rollout):
    made = verifier("""
        def reward(completions):
            if len(completions) > 1:
                raise RuntimeError("too many")
            return [0.0]
    """)
    with pytest.raises(VerifierError, match=r"RuntimeError: too many .*together, though on none of them alone"):
        made.judge([rollout("1"), rollout("2")])


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("[1.0]", "returned 1 values for 2 completions"),
        ("None", "returned NoneType for 2 completions"),
        ("'ab'", "returned str for 2 completions"),
        ("{1: 1.0, 2: 2.0}", "returned dict for 2 completions"),
        ("[1.0, float('nan')]", "returned nan for example 'second'"),
        ("[1.0, '1']", "returned '1' for example 'second'"),
        ("[1.0, [1.0]]", r"returned \[1\.0\] for example 'second'"),
    ],
)
def test_what_is_no_list_of_rewards_is_refused(verifier, rollout, returned, says):
    made = verifier(f"def reward(completions): return {returned}")
    with pytest.raises(VerifierError, match=says):
        made.judge([rollout("1", identity="first"), rollout("2", identity="second")])


def test_a_column_that_the_data_lack_is_named_with_the_nearest(verifier, rollout):
    made = verifier("def reward(completions, anser): return [0.0]")
    with pytest.raises(VerifierError, match=r"takes 'anser' \(did you mean 'answer'\?\), which example 'row-1' does not have"):
        made.judge([rollout("1", answer="1")])


def test_a_function_of_an_importable_module_is_found(tmp_path, monkeypatch, rollout):
    (tmp_path / "importable_rewards.py").write_text("def reward(completions): return [0.75 for _ in completions]")
    monkeypatch.syspath_prepend(tmp_path)
    assert build(FunctionVerifier(path="importable_rewards:reward")).judge([rollout("x")])[0].reward == 0.75


def test_an_unknown_function_is_refused_with_the_nearest(verifier):
    with pytest.raises(ConfigError, match=r"has no function 'rewards' \(did you mean 'reward'\?\)"):
        verifier("def reward(completions): return []", name="rewards")


def test_a_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="There is no file"):
        build(FunctionVerifier(path=f"{tmp_path / 'none.py'}:reward"))


@pytest.mark.parametrize("code", ["import nothing_like_this", "def reward(:", "1 / 0"])
def test_a_module_that_cannot_be_imported_is_refused_with_its_error(verifier, code):
    with pytest.raises(ConfigError, match=r"cannot be imported: (ModuleNotFoundError|SyntaxError|ZeroDivisionError)"):
        verifier(code)


@pytest.mark.parametrize("path", ["rewards.py", "rewards.py:", ":reward", "module:not a name"])
def test_a_path_without_a_function_is_refused(path):
    with pytest.raises(ConfigError, match="names no function"):
        FunctionVerifier(path=path)
