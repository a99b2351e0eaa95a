"""Two tiny models, and a server for one of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serving.fake import FakeServer

from tutelage.lab.tiny_models import Shape, make_model, make_tokenizer
from tutelage.models import LanguageModel, ModelSource, load
from tutelage.serving import Patience

ALPHABET = "0123456789+=;ab\n"
QUICK = Patience(timeout_seconds=30.0, connect_seconds=5.0, retries=2, first_wait_seconds=0.01, in_flight=4, sequences=2)
"""Short waits between tries; the time limit is one that a busy machine keeps."""
HASTY = replace(QUICK, timeout_seconds=1.5)
"""For servers that are silent on purpose."""


def _model(folder: Path, seed: int) -> LanguageModel:
    shape = Shape(hidden=16, initial_std=0.4)
    return load(
        ModelSource(path=str(make_model(folder, tokenizer=make_tokenizer(ALPHABET), shape=shape, seed=seed))), role="teacher"
    )


@pytest.fixture(scope="session")
def served_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return _model(tmp_path_factory.mktemp("served"), seed=2)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return _model(tmp_path_factory.mktemp("other"), seed=3)


@pytest.fixture
def start() -> Iterator[Callable[..., FakeServer]]:
    """Starts servers, and stops them after the test."""
    started: list[FakeServer] = []

    def begin(model: LanguageModel, *, port: int = 0, **settings: object) -> FakeServer:
        started.append(FakeServer(model, **settings).start(port))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for server in started:
        server.stop()


@pytest.fixture
def server(start: Callable[..., FakeServer], served_model: LanguageModel) -> FakeServer:
    return start(served_model)
