"""Shared by all tests: one thread, no network, warnings as errors, and the folder of real inputs."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client, which reads it once
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import random
from pathlib import Path

import pytest
import torch
from beartype._check.code import codemain as type_checks
from hypothesis import settings

# torch's first call breaks hypothesis' limit of 200 ms; the same examples in every run make a failure repeatable.
settings.register_profile("tutelage", deadline=None, derandomize=True, database=None)
settings.load_profile("tutelage")
# Which item of a list is type-checked is drawn at random: from a generator of its own, or the checks would move the one that
# tests of reproducible runs compare.
type_checks.getrandbits = random.Random(0).getrandbits

torch.set_num_threads(1)  # the tests run in several processes


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that let in what is left out by default."""
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes")
    parser.addoption("--network", action="store_true", help="also run tests that need the internet")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine or command line does not allow."""
    reasons = {
        "slow": None if config.getoption("--slow") else "takes minutes: give --slow",
        "network": None if config.getoption("--network") else "needs the internet: give --network",
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "served": None if os.environ.get("TUTELAGE_SERVERS") else "needs vLLM servers: make serve-test starts them",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason is not None and item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real models and data sets; without it the test is skipped."""
    folder = os.environ.get("TUTELAGE_DATA")
    if not folder:
        pytest.skip("needs real models and data sets: set TUTELAGE_DATA to their folder")
    if not Path(folder).is_dir():
        pytest.fail(f"TUTELAGE_DATA names {folder!r}, which is no folder: mend it, or unset it to skip these tests")
    return Path(folder)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Tests that draw without a generator of their own draw the same each time."""
    torch.manual_seed(0)
