"""What runs inside the server, with a stand-in for the server's worker."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import torch

from tutelage.vllm_worker import RebuildHead


class Packing:
    """A layer's method as vLLM has them: packs the weight, and multiplies by the packed copy."""

    def process_weights_after_loading(self, layer: Any) -> None:
        layer.cpu_linear = layer.weight.detach().clone()


class Layer(torch.nn.Module):
    def __init__(self, weight: torch.Tensor, *, packs: bool = True) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        if packs:
            self.quant_method = Packing()
            self.quant_method.process_weights_after_loading(self)


class Worker(RebuildHead):
    def __init__(self) -> None:
        self.model = torch.nn.ModuleList([Layer(torch.zeros(2)), Layer(torch.zeros(0)), Layer(torch.zeros(2), packs=False)])
        self.read: list[SimpleNamespace] = []

    def get_model(self) -> torch.nn.Module:
        return self.model

    def reload_weights(self, **settings: str) -> None:
        """Moves a weight, and leaves its packed copy."""
        self.read.append(SimpleNamespace(**settings))
        self.model[0].weight.data = torch.ones(2)


def test_packed_copies_are_made_again_from_weights_that_are_still_there():
    worker = Worker()
    assert worker.reload_and_rebuild(weights_path="somewhere") == {"rebuilt": 1}
    assert torch.equal(worker.model[0].cpu_linear, torch.ones(2))
    assert worker.read == [SimpleNamespace(weights_path="somewhere")]
    worker.reload_and_rebuild()
    assert worker.read[1] == SimpleNamespace()


def test_the_servers_environment_needs_none_of_the_trainers_packages():
    code = "import sys, tutelage.vllm_worker; sys.exit(bool({'torch', 'jaxtyping', 'pydantic', 'httpx2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
