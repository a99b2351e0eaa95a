"""What is refused or said before any model is loaded."""

import inspect
from dataclasses import replace

import pytest

from tutelage.credit import GroupRelative
from tutelage.errors import DataError, PreflightError
from tutelage.objectives import (
    CandidateActions,
    CrossEntropy,
    ForwardKL,
    Hellinger,
    LogRatio,
    NoRatio,
    ReverseKL,
    ScoreFunction,
    StudentKLBaseline,
    Temperatures,
    Term,
    TopK,
)
from tutelage.recipes import Recipe, grpo
from tutelage.recipes.registry import REGISTRY
from tutelage.rollouts.sources import (
    DatasetRollouts,
    MixedRollouts,
    Sampling,
    StudentRollouts,
    TeacherPrefixRollouts,
    TeacherRollouts,
)
from tutelage.run.recipe_checks import check_data, check_recipe, check_vocabulary, response_limit, writers_of
from tutelage.teachers.context_parts import AttemptFeedback
from tutelage.teachers.parts import Live, ModelTeacher, NoContext, ReferenceSolution, SelfTeacher
from tutelage.types import Example
from tutelage.verifiers import ExactMatch, MathVerifier, NoVerifier

REVERSE = Recipe(
    name="plain",
    rollouts=StudentRollouts(),
    teacher=ModelTeacher(model="folder"),
    terms=(Term(name="reverse", signal=ReverseKL()),),
)
SCORE = replace(REVERSE, terms=(Term(name="score", signal=ScoreFunction()),))
ROW = Example(id="a", prompt="Q", response="R", solution="S")


def test_a_plain_recipe_gives_no_notes():
    assert check_recipe(REVERSE) == ()
    assert check_recipe(SCORE) == ()


def test_a_teacher_without_a_model_is_refused_with_the_flag():
    with pytest.raises(PreflightError, match=r"--recipe\.teacher\.model"):
        check_recipe(replace(REVERSE, teacher=ModelTeacher()))


def test_a_term_that_names_another_teacher_is_refused():
    recipe = replace(REVERSE, terms=(Term(name="reverse", signal=ReverseKL(), teacher="techer"),))
    with pytest.raises(PreflightError, match=r"'techer'.*'teacher'"):
        check_recipe(recipe)


@pytest.mark.parametrize(
    ("rollouts", "writers"),
    [
        (StudentRollouts(), {"student"}),
        (DatasetRollouts(), {"dataset"}),
        (TeacherRollouts(), {"teacher"}),
        (TeacherPrefixRollouts(), {"student", "teacher"}),
        (MixedRollouts(student_fraction=0.5), {"student", "dataset"}),
        (MixedRollouts(student_fraction=1.0), {"student"}),
        (MixedRollouts(student_fraction=0.0, otherwise="teacher"), {"teacher"}),
    ],
)
def test_a_term_on_tokens_that_nobody_writes_is_refused(rollouts, writers):
    assert writers_of(rollouts) == writers
    for author in ("student", "teacher", "dataset"):
        recipe = replace(REVERSE, rollouts=rollouts, terms=(Term(name="lonely", signal=ReverseKL(), on=(author,)),))
        if author in writers:
            check_recipe(recipe)
        else:
            with pytest.raises(PreflightError, match=r"'lonely'.*would never act"):
                check_recipe(recipe)


def test_tokens_of_a_writer_that_no_term_acts_on_are_said():
    notes = check_recipe(replace(REVERSE, rollouts=MixedRollouts()))
    assert any("['dataset']" in note for note in notes)


def test_a_score_function_on_greedy_samples_is_refused():
    with pytest.raises(PreflightError, match="temperature 0"):
        check_recipe(replace(SCORE, rollouts=StudentRollouts(sampling=Sampling(temperature=0.0))))


@pytest.mark.parametrize("sampling", [Sampling(top_p=0.95), Sampling(top_k=20)])
def test_filtered_samples_are_said_to_bias_a_score_function_and_nothing_else(sampling):
    rollouts = StudentRollouts(sampling=sampling)
    assert any("biased" in note for note in check_recipe(replace(SCORE, rollouts=rollouts)))
    assert check_recipe(replace(REVERSE, rollouts=rollouts)) == ()


def test_temperatures_that_differ_are_said():
    sampled = check_recipe(replace(REVERSE, rollouts=StudentRollouts(sampling=Sampling(temperature=0.7))))
    assert any("sampled at temperature 0.7" in note for note in sampled)
    sides = check_recipe(replace(REVERSE, temperatures=Temperatures(student=1.0, teacher=2.0)))
    assert any("2.0" in note for note in sides)


def test_a_score_function_without_importance_weights_needs_one_temperature():
    rollouts = StudentRollouts(sampling=Sampling(temperature=0.7))
    plain = replace(SCORE, rollouts=rollouts, terms=(Term(name="score", signal=ScoreFunction(ratio=NoRatio())),))
    assert any("without importance weights" in note for note in check_recipe(plain))
    assert check_recipe(replace(SCORE, rollouts=rollouts)) == ()


def test_a_student_that_teaches_itself_the_same_prompt_is_said_to_learn_nothing():
    assert any(
        "zero" in note for note in check_recipe(replace(REVERSE, teacher=SelfTeacher(update=Live(), context=NoContext())))
    )
    assert check_recipe(replace(REVERSE, teacher=SelfTeacher(update=Live()))) == ()


@pytest.mark.parametrize(
    "signal",
    [
        ReverseKL(support=TopK(k=513)),
        ForwardKL(support=TopK(k=513, chosen_by="student")),
        Hellinger(support=TopK(k=513, chosen_by="union")),
        CandidateActions(k=513),
        ScoreFunction(advantage=LogRatio(baseline=StudentKLBaseline(k=513))),
    ],
)
def test_more_entries_than_the_vocabulary_has_are_refused(signal):
    recipe = replace(REVERSE, terms=(Term(name="wide", signal=signal),))
    check_vocabulary(recipe, 513)
    with pytest.raises(PreflightError, match=r"'wide' keeps the 513 .* only 512"):
        check_vocabulary(recipe, 512)


@pytest.mark.parametrize("rollouts", [DatasetRollouts(), MixedRollouts()])
def test_a_missing_response_is_refused_by_name_and_count(rollouts):
    recipe = Recipe(name="sft", rollouts=rollouts, terms=(Term(name="ce", signal=CrossEntropy(), on=("student", "dataset")),))
    assert check_data(recipe, [ROW]) == ()
    with pytest.raises(DataError, match="1 of 2 examples have no 'response', the first is 'b'"):
        check_data(recipe, [ROW, replace(ROW, id="b", response=None)])


def test_a_context_that_reaches_nobody_is_refused_and_a_partial_one_is_said():
    recipe = replace(REVERSE, teacher=SelfTeacher())
    bare = replace(ROW, id="b", solution=None)
    assert check_data(recipe, [ROW]) == ()
    assert check_data(recipe, [ROW, bare])[0].startswith("1 of 2 examples have no 'solution'")
    with pytest.raises(PreflightError, match="none of the 2 examples has it"):
        check_data(recipe, [bare, bare])
    with pytest.raises(DataError, match="'b' has no 'solution'"):
        check_data(replace(recipe, teacher=SelfTeacher(context=ReferenceSolution(missing="refuse"))), [ROW, bare])


REWARDED = replace(REVERSE, terms=(Term(name="reward", signal=ScoreFunction(advantage=GroupRelative())),))


def test_a_verifier_that_gives_what_a_part_asks_passes_and_one_that_does_not_is_refused():
    for verifier in (ExactMatch(), MathVerifier()):
        check_recipe(REWARDED, verifier=verifier)
    check_recipe(REVERSE, verifier=NoVerifier())
    with pytest.raises(PreflightError, match=r"needs reward from a verifier.*\('none'\) gives nothing.*exact_match, math"):
        check_recipe(REWARDED, verifier=NoVerifier())


def test_words_that_only_a_function_gives_are_asked_of_one():
    teacher = SelfTeacher(context=AttemptFeedback())
    with pytest.raises(PreflightError, match=r"needs feedback .* gives correct, reward.*kind function\."):
        check_recipe(replace(REVERSE, teacher=teacher), verifier=ExactMatch())


def test_without_a_known_verifier_nothing_is_said_of_it():
    assert check_recipe(REWARDED) == check_recipe(REWARDED, verifier=ExactMatch())


def test_a_reference_needs_no_teacher_beside_it():
    check_recipe(grpo(kl=0.04), verifier=ExactMatch())


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_recipe_passes_with_a_teacher_and_says_nothing_but_its_own_choices(name):
    make = REGISTRY[name].make
    recipe = make("folder") if "teacher" in inspect.signature(make).parameters else make()
    notes = check_recipe(recipe)
    assert not [note for note in notes if "No term acts" in note or "zero" in note]
    assert response_limit(recipe.rollouts) > 0
