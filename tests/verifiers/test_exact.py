import pytest

from tutelage.errors import ConfigError
from tutelage.types import Verdict
from tutelage.verifiers import ExactMatch, NoVerifier, build


def judge(part, *rollouts):
    return [said.correct for said in build(part).judge(rollouts)]


def test_a_response_is_right_if_it_is_the_answer(rollout):
    right, wrong = build(ExactMatch()).judge([rollout("72", answer="72"), rollout("72.0", answer="72")])
    assert (right.reward, right.correct) == (1.0, True)
    assert (wrong.reward, wrong.correct) == (0.0, False)


def test_blanks_count_only_if_asked_for(rollout):
    assert judge(ExactMatch(), rollout(" 72\n", answer="72 ")) == [True]
    assert judge(ExactMatch(strip=False), rollout(" 72\n", answer="72")) == [False]


def test_case_counts_unless_it_is_said_not_to(rollout):
    assert judge(ExactMatch(), rollout("Paris", answer="paris")) == [False]
    assert judge(ExactMatch(ignore_case=True), rollout("STRASSE", answer="straße")) == [True]


def test_removed_characters_count_on_neither_side(rollout):
    assert judge(ExactMatch(remove=",$"), rollout("$1,000", answer="1000"), rollout("1000", answer="$1,000")) == [True, True]


def test_the_last_match_of_the_pattern_is_the_answer(rollout):
    part = ExactMatch(pattern=r"#### *(\S+)")
    assert judge(part, rollout("#### 3, no: #### 4", answer="4"), rollout("#### 4, no: #### 3", answer="4")) == [True, False]


def test_a_pattern_without_a_group_is_the_answer_as_a_whole(rollout):
    assert judge(ExactMatch(pattern=r"[A-D]\b"), rollout("A or B", answer="B")) == [True]


def test_a_group_that_took_no_part_in_the_match_is_an_empty_answer(rollout):
    assert judge(ExactMatch(pattern=r"=(\d+)?"), rollout("x=", answer="4")) == [False]


def test_a_response_without_a_match_is_wrong_and_says_why(rollout):
    (said,) = build(ExactMatch(pattern="#### (.*)")).judge([rollout("4", answer="4")])
    assert said.correct is False
    assert "####" in str(said.feedback)


def test_without_an_answer_nothing_is_said(rollout):
    assert build(ExactMatch()).judge([rollout("72")]) == [Verdict()]


def test_no_verifier_says_nothing(rollout):
    assert build(NoVerifier()).judge([rollout("72", answer="72")] * 2) == [Verdict(), Verdict()]


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ConfigError, match=r"no regular expression: .*unterminated"):
        ExactMatch(pattern="(")
