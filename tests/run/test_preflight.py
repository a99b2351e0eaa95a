"""A student and its teacher before the first step: what fits, what is mended and said, what is refused and why."""

from dataclasses import replace

import pytest

from tutelage.errors import DataError, PreflightError
from tutelage.models import ModelSource, load
from tutelage.objectives import CrossEntropy, ReverseKL, Term, TopK
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import DatasetRollouts, MixedRollouts, Sampling, StudentRollouts
from tutelage.run.preflight import check_pair
from tutelage.teachers.parts import ModelTeacher, ReferenceSolution, SelfTeacher
from tutelage.types import Example

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = [Example(id="one", prompt="Once upon a time"), Example(id="two", prompt="There was a girl named Lily.")]
CHATS = [Example(id="chat", prompt=({"role": "user", "content": "What is 2+2?"},), solution="It is four.")]


def recipe_for(*, max_new_tokens: int = 64, **changes) -> Recipe:
    base = Recipe(
        name="plain",
        rollouts=StudentRollouts(sampling=Sampling(max_new_tokens=max_new_tokens)),
        teacher=ModelTeacher(model="folder"),
        terms=(Term(name="reverse", signal=ReverseKL()),),
    )
    return replace(base, **changes)


def note_about(report, word: str) -> str:
    found = [note for note in report.notes if word in note]
    assert len(found) == 1, report.notes
    return found[0]


def test_a_real_pair_fits(data_folder):
    models = data_folder / "models"
    student = load(ModelSource(path=str(models / "stories_student_40K")), role="student")
    teacher = load(ModelSource(path=str(models / "stories260K")), role="teacher")
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)
    assert report.vocab == 512
    assert report.end_token_id == 2
    assert report.stop_token_ids == {1, 2}  # the teacher's generation config also lists <s>
    assert "'<s>'" in note_about(report, "stop id")
    assert "'<unk>'" in note_about(report, "padding")
    assert student.tokenizer.pad_token == "<unk>"
    assert len(report.notes) == 2


def test_padded_heads_of_one_tokenizer_are_cut_to_the_ids_that_have_a_token(model_around):
    student, teacher = model_around("qwen3", rows=151_936), model_around("qwen3", rows=152_064)
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)
    assert report.vocab == len(student.tokenizer) == 151_669
    assert "151936 rows" in note_about(report, "cut to the first 151669")
    assert "152064 rows" in note_about(report, "cut to the first 151669")


def test_a_teacher_with_another_tokenizer_is_refused(model_around):
    student, teacher = model_around("mistral_v1", eos="</s>"), model_around("mistral_v3", eos="</s>")
    with pytest.raises(PreflightError, match=r"different tokenizers.*sft"):
        check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)


def test_an_end_of_sequence_of_its_own_is_refused_with_the_remedy(model_around):
    student, teacher = model_around("qwen3", eos="<|endoftext|>"), model_around("qwen3", eos="<|im_end|>")
    with pytest.raises(PreflightError, match=r"151643.*151645.*never to stop.*--student\.stop-token-ids '\[151645\]'"):
        check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)


def test_the_teachers_end_is_accepted_where_the_user_lets_the_student_stop_there(model_around):
    chosen = (1, 2)
    student = model_around("stories260K", eos="<s>", stop_token_ids=chosen)
    teacher = model_around("stories260K", eos="</s>")
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher, stop_token_ids=chosen)
    assert report.end_token_id == 2
    assert report.stop_token_ids == set(chosen)
    assert "as asked for" in note_about(report, "end of sequence")


def test_an_end_that_the_user_names_first_ends_responses_where_the_teacher_stops_there_too(model_around):
    student = model_around("stories260K", stop_token_ids=(1, 2))
    teacher = model_around("stories260K", stop_token_ids=(1, 2))
    assert check_pair(recipe_for(), PLAIN, student=student, teacher=teacher).end_token_id == 2
    named = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher, stop_token_ids=(1, 2))
    assert named.end_token_id == 1
    assert named.stop_token_ids == {1, 2}


def test_a_model_that_never_says_how_it_ends_is_refused(model_around):
    with pytest.raises(PreflightError, match=r"does not say what ends a response"):
        check_pair(recipe_for(teacher=SelfTeacher()), CHATS, student=model_around("gpt2", eos=None, template=CHATML))


def test_a_stop_id_outside_the_shared_ids_is_refused(model_around):
    student, teacher = model_around("stories260K"), model_around("stories260K")
    for model in (student, teacher):
        model.tokenizer.add_tokens(["<done>"], special_tokens=True)
        model.tokenizer.eos_token = "<done>"
    with pytest.raises(PreflightError, match=r"stop ids \[512\] lie outside the 512"):
        check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)


def test_added_tokens_of_one_side_are_said(model_around):
    student, teacher = model_around("stories260K"), model_around("stories260K")
    teacher.tokenizer.add_tokens(["<tool>"], special_tokens=True)
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)
    assert report.vocab == 512
    assert "<tool>" in note_about(report, "added tokens")


def test_more_entries_than_ids_are_refused(model_around):
    wide = recipe_for(terms=(Term(name="wide", signal=ReverseKL(support=TopK(k=600))),))
    with pytest.raises(PreflightError, match="'wide' keeps the 600"):
        check_pair(wide, PLAIN, student=model_around("stories260K"), teacher=model_around("stories260K"))


def test_a_student_without_a_template_reads_the_teachers(model_around):
    student, teacher = model_around("stories260K"), model_around("stories260K", template=CHATML)
    report = check_pair(recipe_for(), CHATS, student=student, teacher=teacher)
    assert student.tokenizer.chat_template == CHATML
    assert "is saved with, the teacher's" in note_about(report, "no chat template")


def test_a_teacher_without_a_template_reads_the_students(model_around):
    student, teacher = model_around("stories260K", template=CHATML), model_around("stories260K")
    report = check_pair(recipe_for(), CHATS, student=student, teacher=teacher)
    assert teacher.tokenizer.chat_template == CHATML
    assert "base model" in note_about(report, "no chat template")


def test_templates_that_differ_are_said_with_the_place(model_around):
    student = model_around("stories260K", template=CHATML)
    teacher = model_around("stories260K", template="<|im_start|>system\nBe kind.<|im_end|>\n" + CHATML)
    report = check_pair(recipe_for(), CHATS, student=student, teacher=teacher)
    assert "user" in note_about(report, "own format")
    assert "Be kind." in note_about(report, "own format")


def test_a_reasoning_block_that_only_one_side_has_closed_is_refused_unless_asked_for(model_around, data_folder):
    template = data_folder / "chat_templates" / "qwen3_30b.jinja"
    closing = CHATML.replace("assistant\n", "assistant\n<think>\n\n</think>\n\n")
    student, teacher = model_around("stories260K", template=closing), model_around("stories260K", template=template)
    with pytest.raises(PreflightError, match=r"student's reasoning is closed, the teacher's is not begun"):
        check_pair(recipe_for(), CHATS, student=student, teacher=teacher)
    alike = recipe_for(teacher=ModelTeacher(model="folder", template_options={"enable_thinking": False}))
    assert not [note for note in check_pair(alike, CHATS, student=student, teacher=teacher).notes if "format" in note]
    meant = recipe_for(teacher=ModelTeacher(model="folder", template_options={"enable_thinking": True}))
    assert "<think>" in note_about(check_pair(meant, CHATS, student=student, teacher=teacher), "own format")


def test_the_students_template_options_hold_for_the_teacher_too(model_around, data_folder):
    template = data_folder / "chat_templates" / "qwen3_30b.jinja"
    student = model_around("stories260K", template=template, template_options={"enable_thinking": False})
    report = check_pair(recipe_for(), CHATS, student=student, teacher=model_around("stories260K", template=template))
    assert not [note for note in report.notes if "format" in note]


def test_a_template_option_that_does_nothing_is_refused(model_around, data_folder):
    template = data_folder / "chat_templates" / "qwen3_30b.jinja"
    student = model_around("stories260K", template=template, template_options={"enable_thinkng": False})
    with pytest.raises(PreflightError, match=r"'enable_thinkng' \(did you mean 'enable_thinking'\?\)"):
        check_pair(recipe_for(), CHATS, student=student, teacher=model_around("stories260K", template=template))
    student = model_around("stories260K", template=template, template_options={"enable_thinking": False})
    with pytest.raises(PreflightError, match=r"\['enable_thinking'\].*plain text"):
        check_pair(recipe_for(), PLAIN, student=student, teacher=model_around("stories260K", template=template))


def test_plain_prompts_for_a_chat_model_are_said_and_wrapped_ones_are_not(model_around, data_folder):
    template = data_folder / "chat_templates" / "qwen3_30b.jinja"
    student, teacher = (model_around("stories260K", template=template) for _ in range(2))
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)
    assert "not used" in note_about(report, "plain text")
    report = check_pair(recipe_for(), PLAIN, student=student, teacher=teacher, wrap="always")
    assert not [note for note in report.notes if "plain text" in note]


def test_a_prompt_that_leaves_no_room_is_refused_by_name(model_around):
    long = [*PLAIN, Example(id="novel", prompt="word " * 200)]
    with pytest.raises(DataError, match=r"'novel' has \d+ tokens, and 'stories260K' reads at most 100"):
        check_pair(recipe_for(teacher=SelfTeacher()), long, student=model_around("stories260K", max_context=100))


def test_a_response_that_would_not_fit_is_refused_with_the_length_that_does(model_around):
    recipe = recipe_for(max_new_tokens=100)
    student, teacher = model_around("stories260K", max_context=100), model_around("stories260K")
    length = max(len(student.tokenizer(example.prompt)["input_ids"]) for example in PLAIN)
    with pytest.raises(PreflightError, match=rf"Lower the length of a response to {100 - length}"):
        check_pair(recipe, [PLAIN[1]], student=student, teacher=teacher)
    assert check_pair(recipe_for(max_new_tokens=100 - length), PLAIN, student=student, teacher=teacher).vocab == 512


def test_only_real_responses_of_a_data_set_need_room(model_around):
    sft = Recipe(
        name="sft",
        rollouts=DatasetRollouts(max_tokens=1024),
        terms=(Term(name="ce", signal=CrossEntropy(), on=("dataset",)),),
    )
    rows = [replace(example, response="and they lived happily") for example in PLAIN]
    student = model_around("stories260K", max_context=100)
    report = check_pair(sft, rows, student=student)
    assert report.vocab == 512
    assert report.end_token_id == 2
    with pytest.raises(PreflightError, match="Lower the length"):
        check_pair(sft, [replace(rows[0], response="and so on " * 100)], student=student)


def test_a_teacher_that_reads_less_than_the_student_writes_is_refused(model_around):
    student, teacher = model_around("stories260K"), model_around("stories260K", max_context=60)
    with pytest.raises(PreflightError, match=r"2 of the 2 prompts .* do not fit into the 60 tokens"):
        check_pair(recipe_for(), PLAIN, student=student, teacher=teacher)


def test_contexts_that_sometimes_do_not_fit_are_said_and_always_are_refused(model_around):
    recipe = recipe_for(teacher=ModelTeacher(model="folder", context=ReferenceSolution()))
    student, teacher = model_around("stories260K"), model_around("stories260K", max_context=150)
    rows = [replace(PLAIN[0], solution="Short."), replace(PLAIN[1], solution="word " * 100)]
    report = check_pair(recipe, rows, student=student, teacher=teacher)
    assert "example 'two'" in note_about(report, "1 of the 2 prompts")
    with pytest.raises(PreflightError, match="max-context-tokens"):
        check_pair(recipe, rows[1:], student=student, teacher=teacher)


def test_a_student_that_is_its_own_teacher_needs_no_comparison(model_around):
    student = model_around("qwen3", rows=151_936)
    report = check_pair(recipe_for(teacher=SelfTeacher()), CHATS, student=student)
    assert report.vocab == 151_669
    assert [note for note in report.notes if "cut to the first" not in note] == []


def test_a_given_response_with_a_token_that_nobody_scores_is_refused(model_around):
    student, teacher = model_around("stories260K"), model_around("stories260K")
    student.tokenizer.add_tokens(["<tool>"], special_tokens=True)
    rows = [replace(PLAIN[0], response="fine"), replace(PLAIN[1], response="call <tool> now")]
    mixed = recipe_for(
        rollouts=MixedRollouts(sampling=Sampling(max_new_tokens=32)),
        terms=(Term(name="reverse", signal=ReverseKL(), on=("student", "dataset")),),
    )
    assert check_pair(mixed, rows[:1], student=student, teacher=teacher).vocab == 512
    with pytest.raises(PreflightError, match=r"response of example 'two' holds '<tool>'"):
        check_pair(mixed, rows, student=student, teacher=teacher)


def test_a_tokenizer_of_other_weights_is_refused(model_around):
    student = model_around("stories260K", rows=300)
    with pytest.raises(PreflightError, match="has only 300 rows"):
        check_pair(recipe_for(teacher=SelfTeacher()), PLAIN, student=student)
