"""A served teacher behind a score cache: who is asked, and who is believed."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tests.pairs import Pair, make_pair
from tests.serving.conftest import QUICK

from tutelage.errors import ServerError
from tutelage.models import ModelSource, load
from tutelage.objectives import ForwardKL, Term, TopK
from tutelage.recipes import Recipe
from tutelage.rollouts.sources import DatasetRollouts
from tutelage.run import api
from tutelage.scores import ScoreCache
from tutelage.teachers.parts import ServedTeacher


@pytest.fixture
def pair(tmp_path) -> Pair:
    return make_pair(tmp_path / "pair")


@pytest.fixture
def teacher_server(pair, start):
    return start(load(ModelSource(path=str(pair.teacher)), role="teacher"))


@pytest.fixture
def config(pair, teacher_server, tmp_path):
    """A run on the data set's responses, whose teacher is served and whose scores are kept."""
    recipe = Recipe(
        name="fixed",
        rollouts=DatasetRollouts(max_tokens=6),
        teacher=ServedTeacher(url=teacher_server.url, model=str(pair.teacher), patience=QUICK, k=4),
        terms=(Term(name="divergence", signal=ForwardKL(support=TopK(k=4)), on=("dataset",)),),
    )
    scores = ScoreCache(folder=str(tmp_path / "scores"))
    return pair.config("lightning", tmp_path / "first", recipe=recipe, scores=scores, evaluation_data=None)


def same(one, other) -> bool:
    first, second = (load_file(result.student / "model.safetensors") for result in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_without_any_server_ends_where_the_run_that_asked_it_ended(config, pair, teacher_server, tmp_path):
    online = api.train(config)
    teacher_server.stop()
    (pair.teacher / "model.safetensors").unlink()
    offline = api.train(replace(config, scores=replace(config.scores, mode="offline"), output=str(tmp_path / "second")))
    assert same(online, offline)


def test_scores_of_other_weights_behind_the_same_name_are_refused(config, teacher_server, other_model, tmp_path):
    api.train(config)
    asked = len(teacher_server.requests)
    again = api.train(replace(config, output=str(tmp_path / "again")))
    assert again.student.is_dir()
    teacher_server.model = other_model
    with pytest.raises(ServerError, match=r"holds scores of other weights.*--scores\.folder"):
        api.train(replace(config, output=str(tmp_path / "others")))
    assert asked > 0
