import importlib.util
from pathlib import Path
from typing import ClassVar

import pytest

from tutelage.errors import ConfigError
from tutelage.tracking import RunFolder, Tracker, open_sinks
from tutelage.tracking.sinks import flat

KL = "signal/reverse_kl_nats"
CONFIG = {"seed": 1, "student": {"path": "a", "lora": None}, "terms": [{"scale": 0.5}], "trackers": []}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", config=CONFIG, environment={})


def logged_to_tensorboard(folder: RunFolder, name: str) -> dict[int, float]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    read.Reload()
    return {event.step: event.value for event in read.Scalars(name)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_tensorboard_gets_every_finite_metric(folder: RunFolder):
    pytest.importorskip("tensorboard")
    tracker = Tracker(folder, sinks=open_sinks(["tensorboard"], folder, config=CONFIG))
    tracker.log(1, {KL: 0.5})
    tracker.log(2, {KL: 0.25, "train/loss_nats": float("nan")})
    tracker.close()
    assert logged_to_tensorboard(folder, KL) == {1: 0.5, 2: 0.25}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_replaces_what_tensorboard_knew_of_later_steps(folder: RunFolder):
    pytest.importorskip("tensorboard")
    for start, value in ((None, 1.0), (1, 2.0)):
        sinks = open_sinks(["tensorboard"], folder, config=CONFIG, resumed_step=start)
        tracker = Tracker(folder, sinks=sinks, resumed_step=start)
        for step in range((start or 0) + 1, 4):
            tracker.log(step, {KL: value})
        tracker.close()
    assert logged_to_tensorboard(folder, KL) == {1: 1.0, 2: 2.0, 3: 2.0}


@pytest.mark.parametrize("name", ["trackio", "wandb", "tensorboard"])
def test_a_tracker_without_its_package_is_refused_with_the_remedy(folder: RunFolder, name, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        open_sinks([name], folder, config=CONFIG)


class Recorded:
    """Stands in for a tracker of accelerate's."""

    made: ClassVar[list["Recorded"]] = []

    def __init__(self, project: str, **given: object):
        self.project, self.given, self.calls = project, given, []
        self.made.append(self)

    def start(self) -> None:
        self.calls.append("start")

    def store_init_configuration(self, values: dict) -> None:
        self.calls.append(values)

    def log(self, values: dict, step: int) -> None:
        self.calls.append((step, values))

    def finish(self) -> None:
        self.calls.append("finish")


@pytest.mark.parametrize(("name", "kind"), [("wandb", "WandBTracker"), ("trackio", "TrackioTracker")])
def test_other_trackers_get_settings_metrics_and_the_end(folder, name, kind, monkeypatch: pytest.MonkeyPatch):
    from accelerate import tracking

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(tracking, kind, Recorded)
    tracker = Tracker(folder, sinks=open_sinks([name], folder, config=CONFIG))
    tracker.log(1, {KL: 0.5})
    tracker.close()
    made = Recorded.made.pop()
    settings = {"seed": 1, "student.path": "a", "student.lora": "none", "terms.0.scale": 0.5, "trackers": "[]"}
    assert made.calls == ["start", settings, (1, {KL: 0.5}), "finish"]
    assert made.given["name"] == "run"


def test_settings_are_flattened_to_the_names_of_their_flags():
    assert flat(CONFIG) == {
        "seed": 1,
        "student.path": "a",
        "student.lora": None,
        "terms.0.scale": 0.5,
        "trackers": "[]",
    }
