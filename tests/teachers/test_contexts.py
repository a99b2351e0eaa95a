"""The teacher's prompt: what is placed where, what is cut, what is skipped, and that data is inert."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.teachers.contexts import CUT_MARK, build, cut_middle, histogram
from tutelage.teachers.parts import NoContext, ReferenceSolution
from tutelage.types import Example


def words(text: str) -> int:
    return len(text.split())


def example(**columns) -> Example:
    return Example(**({"id": "row-7", "prompt": "What is 2+2?", "solution": "Two and two make four."} | columns))


def test_no_context_leaves_the_prompt_alone():
    result = build(NoContext(), example(), count_tokens=words)
    assert result.prompt == "What is 2+2?"
    assert result.reason.startswith("unchanged:")


def test_a_plain_prompt_gets_the_reference_by_the_plain_template():
    context = ReferenceSolution(plain_template="<{context}|{prompt}>")
    result = build(context, example(), count_tokens=words)
    assert result.prompt == "<Two and two make four.|What is 2+2?>"
    assert result.reason == "injected:solution"


def test_a_conversation_gets_the_reference_in_its_last_user_turn_only():
    turns = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "What is 2+2?", "name": "kim"},
    )
    result = build(ReferenceSolution(template="{prompt} [{context}]"), example(prompt=turns), count_tokens=words)
    assert result.prompt is not None
    assert result.prompt[:3] == turns[:3]
    assert result.prompt[3] == {"role": "user", "content": "What is 2+2? [Two and two make four.]", "name": "kim"}
    assert turns[3]["content"] == "What is 2+2?"  # the example itself is not touched


@pytest.mark.parametrize("column", ["solution", "answer", "privileged_context"])
def test_the_chosen_column_is_the_one_that_is_shown(column):
    shown = dict.fromkeys(("solution", "answer", "privileged_context"), "wrong") | {column: "right"}
    result = build(ReferenceSolution(column=column, plain_template="{context}{prompt}"), example(**shown), count_tokens=words)
    assert result.prompt == "rightWhat is 2+2?"
    assert result.reason == f"injected:{column}"


@pytest.mark.parametrize("missing", [None, "", " \n"])
def test_an_example_without_the_column_is_skipped_with_the_reason(missing):
    result = build(ReferenceSolution(), example(solution=missing), count_tokens=words)
    assert result.prompt is None
    assert result.reason == "skipped:no solution"


def test_an_example_without_the_column_can_be_refused():
    with pytest.raises(DataError, match=r"'row-7' has no 'solution'.*missing skip"):
        build(ReferenceSolution(missing="refuse"), example(solution=None), count_tokens=words)


def test_a_conversation_without_a_user_turn_is_refused_by_name():
    with pytest.raises(DataError, match=r"'row-7' has no user turn"):
        build(ReferenceSolution(), example(prompt=({"role": "system", "content": "x"},)), count_tokens=words)


def test_braces_and_template_words_in_the_data_stay_what_they_are():
    nasty = "{prompt} {context} {0} {{ 7*7 }} {% raw %} \\1 \\g<0>"
    context = ReferenceSolution(plain_template="A{context}B{prompt}C{other}")
    result = build(context, example(prompt=f"Q{nasty}", solution=f"S{nasty}"), count_tokens=words)
    assert result.prompt == f"AS{nasty}BQ{nasty}C{{other}}"


def test_a_long_reference_loses_its_middle_and_the_question_stays_whole():
    reference = " ".join(f"step{index}" for index in range(1000))
    question = " ".join(f"given{index}" for index in range(500))
    context = ReferenceSolution(max_context_tokens=40)
    result = build(context, example(prompt=question, solution=reference), count_tokens=words)
    assert isinstance(result.prompt, str)
    assert question in result.prompt
    assert "step0 step1" in result.prompt
    assert "step999" in result.prompt
    assert "step500" not in result.prompt
    assert result.reason == "injected:solution, cut in the middle"


def test_zero_never_cuts():
    text = "word " * 10_000
    assert cut_middle(text, max_tokens=0, count_tokens=words) == text


@given(text=st.text(min_size=1, max_size=200), max_tokens=st.integers(10, 60))
def test_what_is_kept_fits_and_is_a_beginning_and_an_end(text, max_tokens):
    kept = cut_middle(text, max_tokens=max_tokens, count_tokens=len)
    assert len(kept) <= max_tokens
    if kept != text:
        assert len(kept) >= max_tokens - 1  # nothing is thrown away that would have fitted
        head, tail = kept[: (max_tokens - len(CUT_MARK)) // 2], kept[-((max_tokens - len(CUT_MARK)) // 2) :]
        assert text.startswith(head)
        assert text.endswith(tail)


def test_the_histogram_counts_reasons_and_puts_the_most_frequent_first():
    assert histogram(["a", "b", "b"]) == "b (2), a (1)"
