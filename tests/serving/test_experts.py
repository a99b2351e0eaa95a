"""Experts behind servers of their own: the truth is the same experts in this process."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.pairs import ALPHABET, Pair, make_pair
from tests.serving.conftest import QUICK
from tests.serving.fake import FakeServer
from tests.serving.test_runs import assert_same_student, with_top_k

from tutelage.errors import ConfigError, Interrupted, PreflightError, ServerError
from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import ModelSource, load
from tutelage.objectives import ForwardKL
from tutelage.run import api
from tutelage.run.config import RunConfig
from tutelage.run.overrides import from_tree, to_tree
from tutelage.scores import ScoreCache
from tutelage.teachers.parts import ModelTeacher, RoutedTeacher, ServedTeacher
from tutelage.tracking import events


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """With examples that name an expert each; the last one names nobody."""
    pair = make_pair(tmp_path_factory.mktemp("pair"))
    rows = [json.loads(line) for line in pair.data.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["teacher_id"] = ("even", "odd")[number % 2] if number != 7 else None
    pair.data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pair


@pytest.fixture(scope="module")
def folders(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    other = tmp_path_factory.mktemp("experts") / "odd"
    return {
        "even": pair.teacher,
        "odd": make_model(other, tokenizer=make_tokenizer(ALPHABET), shape=Shape(hidden=16, initial_std=0.4), seed=5),
    }


@pytest.fixture
def servers(folders, start) -> dict[str, FakeServer]:
    return {name: start(load(ModelSource(path=str(folder)), role="teacher")) for name, folder in folders.items()}


def local(pair: Pair, folders: dict[str, Path], output: Path, **changes) -> RunConfig:
    experts = {name: ModelTeacher(model=str(folder)) for name, folder in folders.items()}
    config = pair.config("mopd", output, evaluation_data=None, **changes)
    return replace(config, recipe=replace(config.recipe, teacher=RoutedTeacher(experts=experts, default="odd")))


def served(config: RunConfig, servers: dict[str, FakeServer], output: Path, *, k: int = 0) -> RunConfig:
    experts = {
        name: ServedTeacher(url=server.url, model=server.model.name, patience=QUICK, k=k) for name, server in servers.items()
    }
    recipe = replace(config.recipe, teacher=RoutedTeacher(experts=experts, default="odd"))
    return replace(config, recipe=recipe, output=str(output))


def test_a_run_with_served_experts_trains_the_student_of_the_run_with_local_ones(pair, folders, servers, tmp_path):
    config = local(pair, folders, tmp_path / "local")
    first, second = api.train(config), api.train(served(config, servers, tmp_path / "served"))
    assert_same_student(first, second)
    found = [event.metrics for event in events.read(second.folder / "metrics.jsonl") if "train/loss_nats" in event.metrics]
    assert all(metrics["serving/teacher_gap_nats"] < 1e-5 for metrics in found)


def test_a_divergence_on_each_experts_top_entries_is_the_same_from_servers(pair, folders, servers, tmp_path):
    config = with_top_k(local(pair, folders, tmp_path / "local"), 4)
    assert_same_student(api.train(config), api.train(served(config, servers, tmp_path / "served", k=4)))


def test_a_resumed_run_knows_each_of_its_servers_again(pair, folders, servers, other_model, tmp_path, monkeypatch):
    from tests.run.test_runs import stopping_after

    monkeypatch.setattr(api, "stop_on_signals", stopping_after(2))
    with pytest.raises(Interrupted):
        api.train(served(local(pair, folders, tmp_path), servers, tmp_path / "run"))
    monkeypatch.undo()
    servers["odd"].model = load(ModelSource(path=str(folders["even"])), role="teacher")
    with pytest.raises(ServerError, match="not those that answered before"):
        api.resume(tmp_path / "run")


def test_what_several_servers_cannot_give_is_refused_before_anybody_is_asked(pair, folders, servers, tmp_path):
    config = served(local(pair, folders, tmp_path), servers, tmp_path / "run", k=4)
    term = config.recipe.terms[0]
    whole = replace(config.recipe, terms=(replace(term, signal=ForwardKL()),))
    with pytest.raises(PreflightError, match=r"needs \['full'"):
        api.train(replace(config, recipe=whole))
    with pytest.raises(PreflightError, match=r"--recipe\.teacher\.experts\.even\.k 5"):
        api.train(with_top_k(config, 5))
    with pytest.raises(ConfigError, match="what several servers say is not kept"):
        api.train(replace(config, scores=ScoreCache(folder=str(tmp_path / "scores"))))
    nowhere = RoutedTeacher(experts={"even": ServedTeacher(url="http://127.0.0.1:9")})
    with pytest.raises(
        PreflightError, match=r"--recipe\.teacher\.experts\.even\.url .* --recipe\.teacher\.experts\.even\.model"
    ):
        api.train(replace(config, recipe=replace(config.recipe, teacher=nowhere)))
    assert not any(server.requests for server in servers.values())


def test_experts_of_several_kinds_or_sizes_are_refused():
    server = ServedTeacher(url="http://127.0.0.1:9", model="there")
    for other in (ModelTeacher(model="here"), replace(server, k=4)):
        with pytest.raises(ConfigError, match="serve all of them and ask each for the same k"):
            RoutedTeacher(experts={"one": server, "two": other})


def test_an_expert_that_does_not_say_its_kind_lies_in_this_process(pair, folders, tmp_path):
    config = local(pair, folders, tmp_path)
    tree = to_tree(config)
    for expert in tree["recipe"]["teacher"]["experts"].values():
        del expert["kind"]
    assert from_tree(tree) == config
