"""Whole runs with a served teacher."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair
from tests.serving.conftest import QUICK
from tests.serving.fake import fails

from tutelage.errors import Interrupted, PreflightError, ServerError
from tutelage.models import ModelSource, load
from tutelage.objectives import ForwardKL, TopK
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.teachers.parts import ServedTeacher


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def teacher_server(pair, start):
    return start(load(ModelSource(path=str(pair.teacher)), role="teacher"))


def served(config: RunConfig, server, **settings) -> RunConfig:
    part = ServedTeacher(url=server.url, model=server.model.name, patience=QUICK, **settings)
    return replace(config, recipe=replace(config.recipe, teacher=part))


def with_top_k(config: RunConfig, k: int) -> RunConfig:
    """The same run with a divergence on the teacher's likeliest entries."""
    term = replace(config.recipe.terms[0], signal=ForwardKL(support=TopK(k=k)))
    return replace(config, recipe=replace(config.recipe, terms=(term,)))


def assert_same_student(first, second) -> None:
    one, other = load_file(first.student / "model.safetensors"), load_file(second.student / "model.safetensors")
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=1e-4)


def test_a_run_with_a_served_teacher_trains_the_student_of_the_run_with_the_local_one(pair, teacher_server, tmp_path):
    config = pair.config("opd", tmp_path / "local", evaluation_data=None)
    local = api.train(config)
    remote = api.train(served(replace(config, output=str(tmp_path / "served")), teacher_server))
    assert_same_student(local, remote)


def test_a_divergence_on_the_teachers_top_entries_is_the_same_from_a_served_teacher(pair, teacher_server, tmp_path):
    config = with_top_k(pair.config("opd", tmp_path / "local"), 4)
    local = api.train(config)
    remote = api.train(served(replace(config, output=str(tmp_path / "served")), teacher_server, k=4))
    assert_same_student(local, remote)


def test_a_recipe_that_needs_the_whole_distribution_is_refused_before_anybody_is_asked(pair, teacher_server, tmp_path):
    for method in ("gkd", "vopd"):
        with pytest.raises(PreflightError, match=r"needs \['full'.*provides only"):
            api.train(served(pair.config(method, tmp_path / method), teacher_server, k=4))
    assert not teacher_server.requests


def test_a_support_larger_than_what_the_server_is_asked_for_is_refused_before_anybody_is_asked(pair, teacher_server, tmp_path):
    config = with_top_k(pair.config("opd", tmp_path / "run"), 5)
    with pytest.raises(PreflightError, match=r"takes the teacher's 5 likeliest.*--recipe\.teacher\.k 5"):
        api.train(served(config, teacher_server, k=4))
    assert not teacher_server.requests


def test_a_served_teacher_without_its_address_or_model_is_refused(pair, tmp_path):
    config = pair.config("opd", tmp_path / "run")
    for part, missing in ((ServedTeacher(model="somewhere"), "url"), (ServedTeacher(url="http://127.0.0.1:9"), "model")):
        with pytest.raises(PreflightError, match=f"a served teacher without its {missing}"):
            api.train(replace(config, recipe=replace(config.recipe, teacher=part)))


def test_rollouts_in_which_the_teacher_reads_along_are_refused(pair, teacher_server, tmp_path):
    with pytest.raises(PreflightError, match="takes a request for every token"):
        api.train(served(pair.config("trb", tmp_path / "run"), teacher_server, k=4))


def test_a_server_that_fails_in_the_middle_ends_the_run_and_it_can_be_resumed(pair, teacher_server, tmp_path):
    config = served(pair.config("opd", tmp_path / "whole", evaluation_data=None), teacher_server)
    whole = api.train(config)
    asked = sum(path == "/v1/completions" for path, _ in teacher_server.requests)
    teacher_server.faults.extend([None] * (asked - 5) + [fails(500)] * 3 * 8)
    with pytest.raises(ServerError, match="status 500"):
        api.train(replace(config, output=str(tmp_path / "parts")))
    teacher_server.faults.clear()
    resumed = api.resume(tmp_path / "parts")
    one, other = load_file(whole.student / "model.safetensors"), load_file(resumed.student / "model.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_resumed_with_another_model_behind_the_address_is_refused(
    pair, teacher_server, other_model, tmp_path, monkeypatch
):
    from tests.run.test_runs import stopping_after

    monkeypatch.setattr(api, "stop_on_signals", stopping_after(2))
    with pytest.raises(Interrupted):
        api.train(served(pair.config("opd", tmp_path / "run"), teacher_server))
    monkeypatch.undo()
    teacher_server.model = other_model
    with pytest.raises(ServerError, match="not those that answered before"):
        api.resume(tmp_path / "run")
