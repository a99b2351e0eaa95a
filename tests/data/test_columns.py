import logging

import pytest

from tutelage.data.columns import examples_of
from tutelage.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}


def read(*rows, **columns):
    return examples_of(rows, name="rows", columns=columns)


def test_messages_are_split_before_the_last_assistant_turn():
    again, four = {"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}
    (example,) = read({"messages": [USER, ASSISTANT, again, four]})
    assert example.prompt == (USER, ASSISTANT, again)
    assert example.response == "4"


def test_messages_that_end_with_the_user_are_all_prompt():
    (example,) = read({"messages": [USER, ASSISTANT, USER]})
    assert example.prompt == (USER, ASSISTANT, USER)
    assert example.response is None


def test_a_prompt_may_be_a_conversation():
    system = {"role": "system", "content": "Add."}
    assert read({"prompt": [system, USER]})[0].prompt == (system, USER)


def test_a_response_is_a_text_or_one_assistant_turn():
    plain, turns = read(
        {"prompt": "1+1", "completion": "2"}, {"prompt": [USER], "completion": [ASSISTANT]}, response="completion"
    )
    assert plain.response == turns.response == "2"


def test_a_response_of_several_turns_is_refused():
    with pytest.raises(DataError, match=r"row 0, column 'response': .*2 turns, the first by 'user'"):
        read({"prompt": "1+1", "response": [USER, ASSISTANT]})


def test_an_assistant_turn_of_tool_calls_alone_has_no_response_text():
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add"}]}
    (example,) = read({"messages": [USER, call]})
    assert example.prompt == (USER,)
    assert example.response is None


def test_keys_without_a_value_are_left_out_of_turns():
    assert read({"prompt": [{**USER, "tool_calls": None}]})[0].prompt == (USER,)


@pytest.mark.parametrize(
    ("turns", "says"),
    [
        ([], "expected a list of turns"),
        (["1+1"], "turn 1: expected an object"),
        ([{"content": "1+1"}], "turn 1: .*no 'role'"),
        ([USER, {"role": "assistant"}], "turn 2: .*no 'content'"),
        ([{"role": "user", "contents": "1+1"}], r"no 'content' .*\(did you mean 'contents'\?\)"),
        ([{"from": "human", "value": "1+1"}], "'human' and 'gpt' to 'user' and 'assistant'"),
        ([{"role": "user", "content": 3}], "'content' is int"),
        ([ASSISTANT], "one assistant turn, so there is no prompt"),
    ],
)
def test_a_conversation_that_is_none_is_refused_with_row_and_turn(turns, says):
    with pytest.raises(DataError, match=f"rows, row 1, column 'messages'.*{says}"):
        read({"messages": [USER, ASSISTANT]}, {"messages": turns})


def test_a_prompt_that_ends_with_the_assistant_is_refused():
    with pytest.raises(DataError, match="ends with the assistant's turn"):
        read({"prompt": [USER, ASSISTANT]})


def test_two_columns_that_could_be_the_prompt_are_refused_until_one_is_chosen():
    row = {"prompt": "1+1", "messages": [USER, ASSISTANT]}
    with pytest.raises(DataError, match="both 'prompt' and 'messages'"):
        read(row)
    assert read(row, prompt="prompt")[0].response is None
    assert read(row, messages="messages")[0].response == "2"


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_a_blank_prompt_is_refused(blank):
    with pytest.raises(DataError, match="row 1, column 'prompt': the prompt is blank"):
        read({"prompt": "1+1"}, {"prompt": blank})


def test_a_row_without_a_prompt_is_refused():
    with pytest.raises(DataError, match="row 1, column 'prompt': there is no prompt"):
        read({"prompt": "1+1"}, {"answer": "2"})


@pytest.mark.parametrize(
    ("value", "text"), [(72, "72"), (72.0, "72"), (0.5, "0.5"), ("72", "72"), (float("nan"), None), (None, None)]
)
def test_numbers_are_written_out_as_people_write_them(value, text):
    assert read({"prompt": "p", "answer": value})[0].answer == text


@pytest.mark.parametrize("value", [True, ["2"], {"value": 2}])
def test_an_answer_that_is_no_text_is_refused(value):
    with pytest.raises(DataError, match="row 0, column 'answer': expected a text or a number"):
        read({"prompt": "p", "answer": value})


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(DataError, match=r"row 0, column 'prompt': .*surrogate"):
        read({"prompt": "smile \ud83d"})


def test_a_column_that_is_mapped_does_not_also_serve_under_its_own_name():
    (example,) = read({"prompt": "p", "answer": "working", "final": "2"}, answer="final", solution="answer")
    assert (example.answer, example.solution, dict(example.extra)) == ("2", "working", {})


def test_a_column_whose_name_is_taken_by_another_is_passed_on():
    (example,) = read({"question": "1+1", "prompt": "Add: 1+1"}, prompt="question")
    assert (example.prompt, dict(example.extra)) == ("1+1", {"prompt": "Add: 1+1"})


def test_every_further_column_is_passed_on_as_it_is():
    (example,) = read({"prompt": "p", "tests": ["a", "b"], "limits": {"seconds": 1}, "none": None})
    assert dict(example.extra) == {"tests": ["a", "b"], "limits": {"seconds": 1}}


def test_ids_that_are_repeated_are_made_unique_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        examples = read(*({"prompt": "p", "id": identity} for identity in ("a", "a", "a#2", "a", 7)))
    assert [example.id for example in examples] == ["a", "a#3", "a#2", "a#4", "7"]
    assert "2 of 5 rows share an id" in caplog.text


def test_how_a_response_ended_is_read_from_a_column():
    stopped, cut, unknown = read(
        {"prompt": "1", "response": "2", "finish_reason": "stop"},
        {"prompt": "2", "response": "3", "finish_reason": "length"},
        {"prompt": "3", "response": "4"},
    )
    assert [example.finish_reason for example in (stopped, cut, unknown)] == ["stop", "length", None]


def test_a_response_that_ended_in_another_way_is_refused():
    with pytest.raises(DataError, match=r"row 0, column 'reason': .*'stop'.*'length'.*'content_filter'"):
        read({"prompt": "1+1", "reason": "content_filter"}, finish_reason="reason")
