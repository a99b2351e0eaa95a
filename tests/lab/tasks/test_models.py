from dataclasses import replace
from pathlib import Path

import pytest

from tutelage.errors import ConfigError
from tutelage.lab.pretrain import Pretraining
from tutelage.lab.tasks import TASKS, chain, get, make, model_of, seed_of
from tutelage.lab.tiny_models import Shape

TINY = Pretraining(
    shape=Shape(hidden=16, layers=1, heads=2, kv_heads=1, intermediate=16), num_steps=1, prompts_per_step=2, num_problems=4
)
TASK = replace(chain.TASK, teachers={"teacher": TINY}, student=TINY)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_model_is_made_once():
    first, again = make(TASK, "teacher", seed=0), make(TASK, "teacher", seed=0)
    assert first.seconds > 0.0
    assert again.seconds == 0.0
    assert first.folder == again.folder == model_of(TASK, "teacher", seed=0)


def test_roles_and_seeds_have_models_of_their_own():
    folders = [model_of(TASK, role, seed=seed) for role in ("teacher", "student") for seed in (0, 1)]
    assert len({weights(folder) for folder in folders}) == 4


def test_other_lessons_under_the_same_name_make_another_model():
    def reversed_lessons(role: str, count: int, *, seed: int):
        return [replace(lesson, solution=str(lesson.solution)[::-1]) for lesson in chain.lessons(role, count, seed=seed)]

    assert model_of(replace(TASK, lessons=reversed_lessons), "student", seed=0) != model_of(TASK, "student", seed=0)


def test_no_two_purposes_share_a_seed():
    draws = [seed_of(TASK, purpose, seed) for purpose in ("teacher", "student", "prompts") for seed in range(5)]
    assert len(set(draws)) == len(draws)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'chain'"):
        get("chian")
    with pytest.raises(ConfigError, match="did you mean 'teacher'"):
        model_of(TASK, "techer", seed=0)
    with pytest.raises(ConfigError, match="did you mean 'prompts'"):
        seed_of(TASK, "prompt", 0)


def test_a_learning_rate_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="not above 0"):
        replace(TASK, learning_rate_scale=0.0)


def test_every_task_is_found_under_its_name():
    assert {name: get(name) for name in TASKS} == dict(TASKS)
    assert all(task.name == name for name, task in TASKS.items())
