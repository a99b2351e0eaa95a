"""The teacher's prompt: what is placed where, what is cut, what is skipped, and that data is inert."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dense import rollout
from tutelage.errors import ConfigError, DataError
from tutelage.teachers.context_parts import AttemptFeedback, FirstAvailable, PeerSolution, columns_of
from tutelage.teachers.contexts import CUT_MARK, attempts, build, cut_middle, histogram
from tutelage.teachers.parts import NoContext, ReferenceSolution
from tutelage.types import Author, Example, Verdict


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


def shown(context, verdicts: list[Verdict], *, groups: list[int] | None = None) -> list[str | None]:
    """What the teacher reads for each response of a step; the responses' texts are letters."""
    letters = "abcdefgh"[: len(verdicts)]
    places = groups or [0] * len(verdicts)
    written = [
        replace(rollout([0], [Author.STUDENT], torch.zeros(1), group=group), text=letter)
        for letter, group in zip(letters, places, strict=True)
    ]
    found = [build(context, example(), count_tokens=words, attempt=attempt) for attempt in attempts(written, verdicts)]
    return [result.prompt for result in found]


RIGHT, WRONG, UNJUDGED = Verdict(correct=True), Verdict(correct=False), Verdict()
PEER = PeerSolution(plain_template="{context}{prompt}", template="{context}{prompt}")
QUESTION = "What is 2+2?"


def test_a_peer_is_right_of_the_same_prompt_and_never_the_response_itself():
    assert shown(PEER, [RIGHT, WRONG, RIGHT]) == [f"c{QUESTION}", f"c{QUESTION}", f"a{QUESTION}"]
    assert shown(PEER, [RIGHT, WRONG, WRONG]) == [None, f"a{QUESTION}", f"a{QUESTION}"]
    assert shown(PEER, [RIGHT, WRONG, RIGHT, WRONG], groups=[0, 1, 0, 1]) == [f"c{QUESTION}", None, f"a{QUESTION}", None]


def test_a_response_that_was_not_judged_is_no_peer():
    assert shown(PEER, [UNJUDGED, WRONG]) == [None, None]


@given(st.lists(st.sampled_from([RIGHT, WRONG, UNJUDGED]), min_size=1, max_size=8))
def test_whoever_has_a_right_peer_reads_one_and_nobody_else_does(verdicts):
    for place, prompt in enumerate(shown(PEER, verdicts)):
        others = ["abcdefgh"[other] for other, verdict in enumerate(verdicts) if verdict.correct and other != place]
        assert (prompt is not None) == bool(others)
        assert prompt is None or prompt[0] in others


def test_what_a_peer_should_not_show_is_taken_out_first():
    peer = replace(PEER, remove="<think>.*?</think>")
    written = [
        replace(rollout([0], [Author.STUDENT], torch.zeros(1)), text=text) for text in ("", "<think>\nhm\n</think>so <4>")
    ]
    attempt = attempts(written, [WRONG, RIGHT])[0]
    assert build(peer, example(), count_tokens=words, attempt=attempt).prompt == f"so <4>{QUESTION}"
    with pytest.raises(ConfigError, match="no regular expression"):
        PeerSolution(remove="(")


def test_feedback_is_what_was_said_of_the_very_response():
    context = AttemptFeedback(plain_template="{context}|{prompt}")
    said = [Verdict(feedback="too short"), Verdict(feedback=" "), Verdict()]
    assert shown(context, said) == [f"too short|{QUESTION}", None, None]


def test_the_first_context_that_a_response_has_is_the_one():
    context = FirstAvailable(contexts=(PEER, AttemptFeedback(plain_template="{context}|{prompt}")))
    verdicts = [Verdict(correct=True, feedback="fine"), Verdict(correct=False, feedback="no"), WRONG]
    assert shown(context, verdicts) == [f"fine|{QUESTION}", f"a{QUESTION}", f"a{QUESTION}"]
    assert shown(context, [WRONG, Verdict(correct=False, feedback="no")]) == [None, f"no|{QUESTION}"]
    alone = build(context, example(), count_tokens=words)
    assert (alone.prompt, alone.reason) == (None, "skipped:no right peer, no feedback")


def test_a_chain_of_contexts_asks_for_what_its_first_needs_and_reads_what_any_reads():
    reference = ReferenceSolution(column="hints")
    chain = FirstAvailable(contexts=(reference, PeerSolution(), AttemptFeedback()))
    assert (chain.reads, chain.verdicts, columns_of(chain)) == ("step", {"correct"}, ("hints",))
    assert (FirstAvailable(contexts=(reference,)).reads, columns_of(PeerSolution())) == ("example", ())
    with pytest.raises(ConfigError, match="at least one context"):
        FirstAvailable(contexts=())


@pytest.mark.parametrize(("share", "expected"), [(1.0, "abcdefghij"), (0.5, "abcde"), (0.25, "abc"), (1e-9, "a")])
def test_a_share_of_the_reference_is_its_beginning(share, expected):
    context = ReferenceSolution(share=share, plain_template="{context}{prompt}")
    assert build(context, example(solution="abcdefghij"), count_tokens=words).prompt == f"{expected}{QUESTION}"


def test_any_further_column_can_be_shown():
    context = ReferenceSolution(column="hints", plain_template="{context}{prompt}")
    assert build(context, example(extra={"hints": "try 4"}), count_tokens=words).prompt == f"try 4{QUESTION}"
    assert build(context, example(extra={"hints": 4}), count_tokens=words).reason == "skipped:no hints"


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(share):
    with pytest.raises(ConfigError, match="0 < share <= 1"):
        ReferenceSolution(share=share)
