"""One tree from recipe, file and flags: what wins, what is refused, and in which words."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import ConfigError
from tutelage.objectives import ForwardKL, Importance, ReverseKL, ScoreFunction, TopK
from tutelage.recipes import REGISTRY, get
from tutelage.rollouts.sources import StudentRollouts, TeacherPrefixRollouts
from tutelage.run.config import RunConfig
from tutelage.run.overrides import changed, from_flags, from_tree, merged, read_file, to_tree
from tutelage.teachers.parts import Average, Frozen, ModelTeacher, NoContext, ReferenceSolution, SelfTeacher
from tutelage.types.schedules import Cosine, Linear
from tutelage.verifiers import ExactMatch

BASE = RunConfig(recipe=get("tropd").recipe(teacher="T"))


def flagged(*flags: str, base: RunConfig = BASE) -> RunConfig:
    return changed(base, from_flags(flags))


def refusal(*flags: str, base: RunConfig = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        flagged(*flags, base=base)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", REGISTRY)
def test_a_configuration_survives_the_way_to_json_and_back(name):
    config = RunConfig(recipe=get(name).recipe())
    assert from_tree(json.loads(json.dumps(to_tree(config)))) == config


@given(
    steps=st.integers(1, 10**6),
    rate=st.floats(1e-12, 1.0),
    columns=st.dictionaries(st.sampled_from(["prompt", "answer", "solution"]), st.text(min_size=1)),
    scale=st.one_of(
        st.floats(0.0, 10.0), st.builds(Linear, start=st.floats(0, 1), end=st.floats(0, 1), steps=st.integers(1, 9))
    ),
    path=st.text(),
)
def test_any_setting_survives_the_way_to_json_and_back(steps, rate, columns, scale, path):
    recipe = replace(BASE.recipe, terms=(replace(BASE.recipe.terms[0], scale=scale), *BASE.recipe.terms[1:]))
    config = replace(
        BASE,
        recipe=recipe,
        training=replace(BASE.training, num_steps=steps),
        optimiser=replace(BASE.optimiser, learning_rate=rate),
        data=replace(BASE.data, path=path, columns=columns),
    )
    assert from_tree(json.loads(json.dumps(to_tree(config)))) == config


# ----------------------------------------------------------------------------------------------------------- precedence


def test_a_file_beats_the_recipe_and_a_flag_beats_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("seed = 3\n[recipe.rollouts.sampling]\nn = 7\ntemperature = 0.8\n[optimiser]\nlearning_rate = 1e-4\n")
    config = changed(BASE, read_file(file), from_flags(["--recipe.rollouts.sampling.n", "9", "--seed=5"]))
    assert config.recipe.rollouts.sampling == replace(BASE.recipe.rollouts.sampling, n=9, temperature=0.8)
    assert (config.seed, config.optimiser.learning_rate) == (5, 1e-4)
    assert config.recipe.terms == BASE.recipe.terms, "what nobody mentions stays"


def test_of_the_same_flag_the_last_one_holds():
    assert flagged("--seed", "1", "--seed", "2").seed == 2


def test_toml_and_json_say_the_same(tmp_path):
    toml, plain = tmp_path / "run.toml", tmp_path / "run.json"
    toml.write_text("[recipe.terms.1.signal.support]\nk = 8\n[student.lora]\nrank = 4\n")
    plain.write_text('{"recipe": {"terms": {"1": {"signal": {"support": {"k": 8}}}}}, "student": {"lora": {"rank": 4}}}')
    assert changed(BASE, read_file(toml)) == changed(BASE, read_file(plain)) != BASE


def test_without_a_change_nothing_changes():
    assert changed(BASE) == changed(BASE, {}) == BASE


# ---------------------------------------------------------------------------------------------------------------- flags


def test_dashes_and_equals_signs_are_both_understood():
    assert flagged("--training.num-steps", "7") == flagged("--training.num_steps=7")
    assert flagged("--output=a=b").output == "a=b"
    assert flagged("--seed=-1").seed == flagged("--seed", "-1").seed == -1


def test_short_flags_stand_for_the_settings_that_every_run_names():
    config = flagged("--student", "S", "--teacher", "U", "--data", "d.jsonl", "--evaluation-data", "e.jsonl")
    assert (config.student.path, config.data.path) == ("S", "d.jsonl")
    assert config.evaluation_data is not None
    assert config.evaluation_data.path == "e.jsonl"
    assert isinstance(config.recipe.teacher, ModelTeacher)
    assert config.recipe.teacher.model == "U"


def test_a_recipe_without_a_teacher_can_be_given_one():
    config = flagged("--teacher", "U", base=RunConfig(recipe=get("sft").recipe()))
    assert config.recipe.teacher == ModelTeacher(model="U")


def test_entries_of_a_tuple_are_changed_by_index():
    signal = flagged("--recipe.terms.1.signal.support.k", "8").recipe.terms[1].signal
    assert isinstance(signal, ForwardKL)
    assert signal.support == TopK(k=8, chosen_by="teacher", rest="renormalise")


def test_a_list_or_an_object_is_json():
    config = flagged("--student.stop-token-ids", "[1, 2]", "--recipe.terms.1.signal", '{"kind": "reverse_kl"}')
    assert config.student.stop_token_ids == (1, 2)
    assert config.recipe.terms[1].signal == ReverseKL()


def test_null_takes_an_optional_part_away():
    with_lora = flagged("--student.lora.rank", "4")
    assert with_lora.student.lora is not None
    assert flagged("--student.lora", "null", base=with_lora).student.lora is None


def test_a_switch_is_true_or_false():
    assert flagged("--training.gradient-checkpointing", "true").training.gradient_checkpointing is True
    assert flagged("--student.template-options.enable_thinking", "false").student.template_options == {"enable_thinking": False}


def test_a_text_that_looks_like_something_else_stays_a_text():
    config = flagged("--verifier.kind", "exact_match", "--verifier.pattern", "[0-9]+", "--output", "true", "--data", "{x}")
    assert isinstance(config.verifier, ExactMatch)
    assert (config.verifier.pattern, config.output, config.data.path) == ("[0-9]+", "true", "{x}")
    assert flagged("--verifier.pattern", "null", base=config).verifier == ExactMatch()


@pytest.mark.parametrize(("text", "value"), [("512", 512), ("0.5", 0.5), ("true", True), ("high", "high"), ('["a"]', ["a"])])
def test_where_anything_goes_a_value_is_what_it_looks_like(text, value):
    assert flagged("--student.template-options.effort", text).student.template_options == {"effort": value}


def test_columns_are_mapped_by_flags():
    assert flagged("--data.columns.prompt", "question").data.columns == {"prompt": "question"}


# ------------------------------------------------------------------------------------------------------ kinds of a part


def test_another_kind_starts_from_its_own_defaults():
    config = flagged("--recipe.rollouts.kind", "student")
    assert isinstance(BASE.recipe.rollouts, TeacherPrefixRollouts)
    assert config.recipe.rollouts == StudentRollouts(), "nothing of the old kind is left"


def test_the_same_kind_keeps_what_it_had():
    assert flagged("--recipe.rollouts.kind", "teacher_prefix") == BASE


def test_a_file_reaches_a_part_inside_another_kind(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[recipe.teacher]\nkind = "self"\n[recipe.teacher.update]\nkind = "average"\nrate = 0.5\n')
    config = changed(BASE, read_file(file), from_flags(["--recipe.teacher.context.column", "answer"]))
    assert config.recipe.teacher == SelfTeacher(update=Average(rate=0.5), context=ReferenceSolution(column="answer"))


def test_a_setting_below_a_part_keeps_the_parts_kind():
    base = RunConfig(recipe=get("opsd").recipe(average_rate=0.1))
    teacher = flagged("--recipe.teacher.context.kind", "none", "--recipe.teacher.update.rate", "0.2", base=base).recipe.teacher
    assert teacher == SelfTeacher(update=Average(rate=0.2), context=NoContext())
    assert flagged("--recipe.teacher.update.kind", "frozen", base=base).recipe.teacher == replace(
        teacher, update=Frozen(), context=ReferenceSolution()
    )  # type: ignore[type-var]


def test_a_number_becomes_a_schedule_and_back():
    config = flagged("--recipe.terms.0.scale", '{"kind": "linear", "start": 0, "end": 1, "steps": 5}')
    assert config.recipe.terms[0].scale == Linear(start=0.0, end=1.0, steps=5)
    assert flagged("--recipe.terms.0.scale", "2", base=config).recipe.terms[0].scale == 2.0
    rollouts = flagged("--recipe.rollouts.prefix-fraction.steps", "9").recipe.rollouts
    assert isinstance(rollouts, TeacherPrefixRollouts)
    assert rollouts.prefix_fraction == Cosine(start=1.0, end=0.0, steps=9)


# ----------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--optimiser.learning-rat", "optimiser.learning_rate"),
        ("--optimizer.learning-rate", "optimiser"),
        ("--learning-rate", "optimiser.learning_rate"),
        ("--num-steps", "training.num_steps"),
        ("--recipe.terms.1.signal.support.kk", "recipe.terms.1.signal.support.k"),
        ("--recipe.rollouts.sampling.temperatur", "recipe.rollouts.sampling.temperature"),
        ("--recipe.teacher.modl", "recipe.teacher.model"),
        ("--trainig.num_step", "training"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_valid_name(flag, nearest):
    given_name = flag.removeprefix("--").replace("-", "_")
    unknown = given_name if "." in nearest else given_name.partition(".")[0]
    assert refusal(flag, "1").startswith(f"There is no setting {unknown!r} (did you mean {nearest!r}?).")


def test_the_same_misspelling_in_a_file_is_refused_in_the_same_words(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[optimiser]\nlearning_rat = 1e-4\n")
    with pytest.raises(ConfigError) as caught:
        changed(BASE, read_file(file))
    assert str(caught.value) == refusal("--optimiser.learning-rat", "1e-4")


def test_a_name_that_several_groups_have_is_offered_for_each():
    assert "(did you mean 'recipe.rollouts.sampling.max_new_tokens' or 'evaluation.max_new_tokens'?)" in refusal(
        "--max-new-tokens", "5"
    )


def test_a_setting_of_another_kind_is_refused_with_that_kind():
    assert "where verifier.kind is 'none'; it belongs to exact_match. Set verifier.kind" in refusal("--verifier.pattern", "x")
    base = RunConfig(recipe=get("opsd").recipe())
    assert "where recipe.teacher.kind is 'self'; it belongs to model and served." in refusal("--teacher", "x", base=base)


def test_all_findings_are_reported_at_once():
    found = refusal("--seed", "x", "--device", "gpu", "--training.nmu-steps", "3").splitlines()
    assert [line.split(" ", 1)[0] for line in found] == ["There", "seed:", "device:"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--recipe.terms.0.signal.kind", "reverse"],
            "recipe.terms.0.signal.kind: there is no kind 'reverse' (did you mean 'r",
        ),
        (["--recipe.terms.9.scale", "1"], "recipe.terms has 3 entries, so there is no entry 9 to change."),
        (["--recipe.terms.0.scale", "much"], "recipe.terms.0.scale: Input should be a valid number"),
        (["--recipe.terms.0.scale.kind", "linear"], "recipe.terms.0.scale.start has no value, and no default."),
        (["--recipe.terms.1.signal.support.k", "0"], "recipe.terms.1.signal.support: TopK needs k >= 1, got 0."),
        (["--student.lora", '{"rnk": 4}'], "There is no setting 'student.lora.rnk' (did you mean 'student.lora.rank'?)"),
        (["--optimiser", "adam"], "optimiser is a group of settings (learning_rate, warmup_steps"),
        (["--student.stop-token-ids", "4"], "student.stop_token_ids is a list, such as [1, 2]"),
        (["--training.num-steps", "2.5"], "training.num_steps: Input should be a valid integer"),
        (["--training.num-steps", "0"], "training: Training needs num_steps"),
        (["--device", "gpu"], "device: Input should be 'auto', 'cpu' or 'cuda', got 'gpu'."),
        (["--evaluation-data.split", "x"], "evaluation_data.path has no value, and no default."),
        (["--recipe.terms.0.weights", "[{}]"], "recipe.terms.0.weights.0 comes in several kinds. Say which, "),
        (["--data.columns.promt", "q"], "data: DataSource.columns maps 'promt', which is no canonical column"),
        (["--verifier.kind", "exact_match", "--verifier.pattern", "("], "verifier: ExactMatch.pattern '(' is no regular"),
        (["--recipe.temperatures", "1", "--recipe.temperatures.student", "2"], "--recipe.temperatures.student is a part of"),
        (["--student.lora", "{rank: 4}"], "'{rank: 4}' looks like JSON but is not"),
        (["--seed"], "--seed has no value. Give one: --seed VALUE"),
        (["--seed", "--device"], "--seed has no value."),
        (["seed", "1"], "'seed' is neither a flag nor a flag's value."),
        (["--recipe.terms", "[]"], "recipe: Recipe 'tropd' needs terms with different names"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(flags, message):
    assert message in refusal(*flags)


def test_a_part_of_no_recipe_is_refused_by_the_part_itself():
    with pytest.raises(ConfigError, match=r"beta must be in \[0, 1\], got 2\.0"):
        get("gkd").recipe(beta="2")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.toml", "seed = = 1", "is not valid TOML: "),
        ("run.json", '{"seed": 1,}', "is not valid JSON: "),
        ("run.json", "[1]", "holds list, not settings by their names"),
        ("run.toml", "\udcff", "is not valid TOML"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        read_file(file)
    assert f"The configuration file {str(file)!r} {message}" in str(caught.value)


def test_a_missing_file_is_refused_with_its_name():
    with pytest.raises(ConfigError, match=r"'nowhere\.toml' cannot be read: No such file"):
        read_file(Path("nowhere.toml"))


# -------------------------------------------------------------------------------------------------------------- merging


def test_merging_leaves_both_trees_as_they_were():
    base, change = {"a": [{"x": 1}, {"x": 2}]}, {"a": {"1": {"x": 3}}}
    assert merged(base, change) == {"a": [{"x": 1}, {"x": 3}]}
    assert (base, change) == ({"a": [{"x": 1}, {"x": 2}]}, {"a": {"1": {"x": 3}}})


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("ab", min_size=1, max_size=2), inner), max_leaves=8))
def test_merging_a_tree_with_itself_changes_nothing(tree):
    assert merged(tree, tree) == tree


def test_a_flag_can_name_what_a_recipe_function_made():
    signal = (
        flagged("--recipe.terms.0.signal.ratio.kind", "importance", "--recipe.terms.0.signal.ratio.cap", "3")
        .recipe.terms[0]
        .signal
    )
    assert isinstance(signal, ScoreFunction)
    assert signal.ratio == Importance(cap=3.0)
