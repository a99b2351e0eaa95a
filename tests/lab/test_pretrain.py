from collections.abc import Callable
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

from tutelage.data import load as load_data
from tutelage.errors import ConfigError
from tutelage.lab.pretrain import Pretraining, pretrain, write_problems
from tutelage.lab.tasks import chain
from tutelage.lab.tiny_models import Shape
from tutelage.models import ModelSource, load
from tutelage.recipes.baselines import sft
from tutelage.run.api import evaluate
from tutelage.run.config import RunConfig
from tutelage.types import Example

SMALL = Pretraining(shape=Shape(), num_steps=30, prompts_per_step=16, num_problems=64, learning_rate=1e-2)


def learn(folder: Path, name: str, settings: Pretraining = SMALL, accuracy_of: Callable[[Path], float] | None = None) -> None:
    pretrain(
        folder,
        settings,
        lessons=chain.problems(SMALL.num_problems, seed=0),
        characters=chain.CHARACTERS,
        max_response_tokens=chain.MAX_RESPONSE_TOKENS,
        seed=0,
        name=name,
        accuracy_of=accuracy_of,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    learn(folder, "small")
    return folder


def test_problems_come_back_from_their_file_as_they_were(tmp_path: Path):
    examples = chain.problems(20, seed=0)
    assert load_data(write_problems(tmp_path / "problems.jsonl", examples)) == examples


def test_columns_of_their_own_come_back_and_missing_ones_stay_missing(tmp_path: Path):
    examples = [
        Example(id="1", prompt="1+1=", privileged_context="two", teacher_id="sums", extra={"moves": ["up"]}),
        Example(id="2", prompt="2+2=", answer="4"),
    ]
    assert load_data(write_problems(tmp_path / "problems.jsonl", examples)) == examples


def test_the_model_has_learnt_the_format_and_loads_as_a_student(model: Path, tmp_path: Path):
    held_out = write_problems(tmp_path / "held_out.jsonl", chain.problems(16, seed=0, split="held_out"))
    config = RunConfig(
        recipe=sft(column="solution", max_new_tokens=chain.MAX_RESPONSE_TOKENS),
        student=ModelSource(path=str(model)),
        data=held_out,
        verifier=chain.VERIFIER,
    )
    entropy = evaluate(config).metrics["eval/student_entropy_nats"]
    student = load(ModelSource(path=str(model)), role="student")
    assert entropy < 0.9 * log(student.vocab_size)  # random weights are uniform to a per cent
    assert student.tokenizer_size == len(chain.CHARACTERS) + 3


def test_the_same_settings_give_the_same_weights(model: Path, tmp_path: Path):
    learn(tmp_path, "again")
    assert (tmp_path / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("wanted", "step"), [(0.0, 10), (0.4, 10), (0.6, 20), (0.9, 30), (1.0, 30)])
def test_a_model_that_stops_at_an_accuracy_is_the_checkpoint_nearest_to_it(tmp_path: Path, wanted: float, step: int):
    seen = dict[int, bytes]()

    def judge(model: Path) -> float:  # a third after each ten of the thirty steps
        steps = int(model.parent.name.removeprefix("step-"))
        seen[steps] = (model / "model.safetensors").read_bytes()
        return steps / SMALL.num_steps

    learn(tmp_path, "stopped", replace(SMALL, accuracy=wanted, check_every=10), judge)
    assert (tmp_path / "model.safetensors").read_bytes() == seen[step]
    assert len(set(seen.values())) == len(seen)


@pytest.mark.parametrize(("reached", "told"), [(0.3, True), (0.5, False), (0.8, False)])
def test_a_model_that_never_reaches_its_accuracy_is_said_to_be_short_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reached: float, told: bool
):
    learn(tmp_path, "slow", replace(SMALL, accuracy=0.5, check_every=10), lambda _: reached)
    assert ("slow was to stop at an accuracy of 0.5 and ended at 0.3" in caplog.text) == told


def test_an_accuracy_that_nobody_judges_or_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="nobody judges"):
        learn(tmp_path, "unjudged", replace(SMALL, accuracy=0.5))
    with pytest.raises(ConfigError, match=r"0\.\.1, got 40"):
        replace(SMALL, accuracy=40.0)
