"""What the doctor measures and suspects."""

import json

import pytest
import torch

from tutelage.data import DataSource
from tutelage.models import ModelSource
from tutelage.recipes.self_distillation import opsd
from tutelage.recipes.white_box import opd
from tutelage.run.config import RunConfig
from tutelage.run.doctor import doctor, figures_of, suspicions_of
from tutelage.run.measuring import Measurement
from tutelage.types import Author, Example, Rollout, StepBatch


@pytest.fixture
def stories(data_folder, tmp_path):
    """Two prompts with a solution, and the folders of a student and its teacher."""
    rows = [
        {"prompt": "Once upon a time", "solution": "The dog finds the ball."},
        {"prompt": "Lily had a red hat.", "solution": "She gives it away."},
    ]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return DataSource(path=str(path)), data_folder / "models"


def test_a_real_pair_is_measured_and_raises_no_suspicion(stories):
    data, models = stories
    config = RunConfig(
        recipe=opd(str(models / "stories260K")), student=ModelSource(path=str(models / "stories_student_40K")), data=data
    )
    found = doctor(config, max_new_tokens=48)
    assert found.report.vocab == 512
    assert found.student_reads == found.teacher_reads == "<s> Once upon a time"
    assert found.contexts == {"unchanged: no context asked for": 2}
    assert 0.5 < found.figures["reverse_kl_nats"] < 3.0  # 1.5 nats on other text, by the maker of the pair
    assert found.figures["sampler_gap_nats"] < 1e-4
    assert found.suspicions == ()


def test_a_teacher_that_is_the_student_has_nothing_to_say(stories):
    data, models = stories
    student = str(models / "stories_student_40K")
    found = doctor(RunConfig(recipe=opd(student), student=ModelSource(path=student), data=data), max_new_tokens=16)
    assert found.figures["reverse_kl_nats"] < 1e-6
    assert any("nothing to learn" in suspicion for suspicion in found.suspicions)


def test_a_context_is_shown_to_the_teacher_only(stories):
    data, models = stories
    config = RunConfig(recipe=opsd(max_new_tokens=64), student=ModelSource(path=str(models / "stories260K")), data=data)
    found = doctor(config, num_prompts=1, max_new_tokens=32)
    assert found.contexts == {"injected:solution": 1}
    assert "The dog finds the ball." in (found.teacher_reads or "")
    assert "dog" not in found.student_reads
    assert found.figures["reverse_kl_nats"] > 1e-3


def measured() -> tuple[Measurement, list[Rollout]]:
    rollouts = [
        Rollout(
            example=Example(id=str(index), prompt="x"),
            group=index,
            prompt_ids=torch.tensor([1]),
            response_ids=torch.arange(length),
            authors=torch.full((length,), int(Author.STUDENT)),
            behaviour_log_probs=torch.full((length,), -1.5),
            finish=finish,
            text="",
        )
        for index, (length, finish) in enumerate([(1, "stop"), (1, "stop"), (2, "stop"), (2, "length")])
    ]
    statistics = {
        "reverse_kl_nats": torch.tensor([5.0, 7.0, 4.0, 1.0, 0.0, 1.0]),
        "forward_kl_nats": torch.full((6,), torch.nan),
        "student_log_prob": torch.tensor([-1.0, -1.0, -2.0, -1.0, -2.0, -2.0]),
        "teacher_log_prob": torch.tensor([-7.0, -9.0, -2.0, -9.0, -2.0, -2.0]),
        "student_entropy_nats": torch.full((6,), 0.5),
        "teacher_entropy_nats": torch.full((6,), 0.25),
    }
    return Measurement(batch=StepBatch.of(rollouts), statistics=statistics), rollouts


def test_figures_are_means_over_the_right_tokens():
    assert figures_of(*measured()) == {
        "reverse_kl_nats": 3.0,
        "first_token_reverse_kl_nats": 4.0,
        "best_end_log_ratio_nats": -6.0,  # the last token of a cut response is no end
        "student_entropy_nats": 0.5,
        "teacher_entropy_nats": 0.25,
        "sampler_gap_nats": 0.5,
        "length_tokens": 1.5,
        "truncated_fraction": 0.25,
    }


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        ({"reverse_kl_nats": 0.2, "first_token_reverse_kl_nats": 9.0}, "formats"),
        ({"reverse_kl_nats": 0.0}, "nothing to learn"),
        ({"best_end_log_ratio_nats": -21.0}, "not to stop"),
        ({"sampler_gap_nats": 0.05}, "0.0500 nats"),
    ],
)
def test_each_figure_has_its_suspicion(figures, word):
    (suspicion,) = suspicions_of(figures)
    assert word in suspicion


def test_sound_figures_raise_none():
    sound = {
        "reverse_kl_nats": 0.5,
        "first_token_reverse_kl_nats": 1.0,
        "best_end_log_ratio_nats": -1.0,
        "sampler_gap_nats": 1e-5,
    }
    assert suspicions_of(sound) == ()
    assert suspicions_of({}) == ()
