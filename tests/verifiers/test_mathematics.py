import gc
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tutelage.errors import ConfigError, VerifierError
from tutelage.types import Verdict
from tutelage.verifiers import MathVerifier, build

pytest.importorskip("math_verify", reason="needs the extra 'math'")


@pytest.fixture(scope="module")
def verifier():
    return build(MathVerifier())


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("72", "48 + 24 = 72, so she sold 72 clips.\n#### 72"),
        ("\\frac{1}{2}", "The share is $0.5$."),
        ("1,000", "The answer is \\boxed{1000}."),
        ("\\boxed{4}", "Two and two are $4$."),
        ("x^2+2x+1", "Thus \\boxed{(x+1)^2}"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "It is \\boxed{(3, \\pi/2)}."),
        ("\\text{Evelyn}", "The winner is \\boxed{\\text{Evelyn}}."),
        ("5", "First I thought 3, but it is 5"),
    ],
)
def test_what_is_equal_as_mathematics_is_right(verifier, rollout, answer, text):
    assert verifier.judge([rollout(text, answer=answer)]) == [Verdict(reward=1.0, correct=True)]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("72", "The answer is 73."),
        ("\\frac{1}{2}", "\\boxed{2}"),
        ("(3, 4)", "\\boxed{(4, 3)}"),
        ("72", ""),
        ("72", "I do not know."),
        ("72", "\ud800 \\boxed{"),
        ("72", "72 divided by 0 is \\boxed{\\frac{72}{0}}"),
    ],
)
def test_what_is_not_equal_is_wrong(verifier, rollout, answer, text):
    assert verifier.judge([rollout(text, answer=answer)]) == [Verdict(reward=0.0, correct=False)]


def test_the_solution_serves_where_there_is_no_answer(verifier, rollout):
    solution = "1 + 1 = \\boxed{2}"
    assert [v.correct for v in verifier.judge([rollout("$2$", solution=solution), rollout("$3$", solution=solution)])] == [
        True,
        False,
    ]


def test_without_a_reference_nothing_is_said(verifier, rollout):
    assert verifier.judge([rollout("72"), rollout("72", solution="No number stands here.")]) == [Verdict(), Verdict()]


def test_a_response_that_takes_too_long_is_wrong_and_the_next_one_is_judged(rollout):
    verifier = build(MathVerifier(timeout_seconds=1.0))
    hard = rollout("$9^{9^{9^{9}}}$", answer="1", identity="hard")
    started = time.monotonic()
    slow, fine = verifier.judge([hard, rollout("$1$", answer="1")])
    assert (slow.reward, slow.correct) == (0.0, False)
    assert "could not be compared" in str(slow.feedback)
    assert fine.correct is True
    assert time.monotonic() - started < 30.0


def test_judging_works_in_threads(verifier, rollout):
    rollouts = [rollout(f"so ${number}$", answer=str(number - number % 2)) for number in range(24)]
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(verifier.judge, [rollouts] * 4))
    assert all([said.correct for said in batch] == [number % 2 == 0 for number in range(24)] for batch in batches)


def test_judging_leaves_the_alarms_of_this_process_alone(verifier, rollout):
    handler = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 1000.0)
    try:
        verifier.judge([rollout("$1$", answer="1")])
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 900.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    assert signal.getsignal(signal.SIGALRM) == handler


def test_the_process_ends_with_its_verifier(rollout):
    verifier = build(MathVerifier())
    verifier.judge([rollout("$1$", answer="1")])
    process = verifier._worker._process
    assert process.poll() is None
    del verifier
    gc.collect()
    assert process.poll() is not None


def test_a_process_that_was_killed_from_outside_is_started_again(rollout):
    verifier = build(MathVerifier())
    verifier.judge([rollout("$1$", answer="1")])
    os.kill(verifier._worker._process.pid, signal.SIGKILL)
    verifier._worker._process.wait()
    verdicts = verifier.judge([rollout("$1$", answer="1")] * 2)
    assert [said.correct for said in verdicts] == [True, True]


def test_a_process_that_cannot_start_is_an_error_and_no_verdict(rollout, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(VerifierError, match="verifier 'math' did not start"):
        build(MathVerifier()).judge([rollout("$1$", answer="1")])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ConfigError, match=r"pip install 'tutelage\[math\]'"):
        build(MathVerifier())


@pytest.mark.parametrize("bad", [{"timeout_seconds": 0.0}, {"memory_mib": 100}])
def test_limits_that_nothing_could_keep_are_refused(bad):
    with pytest.raises(ConfigError, match="timeout_seconds > 0 and memory_mib >= 512"):
        MathVerifier(**bad)


def test_real_solutions_are_right_and_those_of_other_problems_are_not(verifier, rollout, data_folder):
    lines = (data_folder / "math" / "math500.jsonl").read_text(encoding="utf-8").splitlines()[:150]
    rows = [json.loads(line) for line in lines]
    right = verifier.judge([rollout(row["solution"], answer=row["answer"]) for row in rows])
    assert all(said.correct for said in right)
    pairs = pairwise(rows)
    apart = [(a, b) for a, b in pairs if a["answer"] not in b["answer"] and b["answer"] not in a["answer"]]  # 5 is x=5
    wrong = verifier.judge([rollout(b["solution"], answer=a["answer"]) for a, b in apart])
    assert len(apart) > 100
    assert not any(said.correct for said in wrong)
