"""The server's own weight-transfer engine in a real server, with gloo in the place of NCCL: see `gloo_engine.py`."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.serving.receiver import GlooGroup
from tests.serving.test_vllm import PROMPTS, client_of, place

from tutelage.models import LanguageModel, ModelSource, load
from tutelage.serving import Transport, engine
from tutelage.serving.control import Control
from tutelage.serving.engine import ByEngine

pytestmark = [pytest.mark.served, pytest.mark.timeout(600)]


@pytest.fixture
def control() -> Iterator[Control]:
    """Of the teacher's server, whose own weights are put back for the tests that come after."""
    found, folder = Control(Transport(place("teacher").url)), Path(place("teacher").folder)
    yield found
    found.load(folder)
    assert distance(load(ModelSource(path=str(folder)), role="teacher")) < 1e-5


def distance(model: LanguageModel) -> float:
    """Largest, between the server's log-probs and the model's."""
    worst = 0.0
    for prompt, said in zip(PROMPTS, client_of("teacher").score(PROMPTS, first=[1] * len(PROMPTS), k=0), strict=True):
        with torch.no_grad():
            own = model.model(torch.tensor([prompt])).logits[0, :-1].log_softmax(-1)
        own = own.gather(-1, torch.tensor(prompt[1:]).unsqueeze(-1)).squeeze(-1)
        worst = max(worst, float((own - said.sampled).abs().max()))
    return worst


@pytest.mark.parametrize("most", [20_000, 2**28], ids=["many packs", "one pack"])
def test_the_servers_engine_takes_what_is_broadcast(control, monkeypatch, most):
    monkeypatch.setattr(engine, "PACK_BYTES", most)
    moved, group = load(ModelSource(path=place("teacher").folder), role="student"), GlooGroup()
    way = ByEngine(control, group)
    for _ in range(2):
        with torch.no_grad():
            for parameter in moved.trainable_parameters():
                parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
        assert distance(moved) > 0.05, "or nothing is shown"
        way.give(moved)
        assert distance(moved) < 1e-5
    assert (len(group.sizes) == 2) == (most == 2**28)
