import pytest

from tutelage.errors import ConfigError
from tutelage.evaluation import EvaluationSettings


def test_evaluations_are_due_before_after_and_in_between():
    settings = EvaluationSettings(every=50)
    assert [step for step in range(121) if settings.due(step, num_steps=120)] == [0, 50, 100, 120]


def test_evaluations_before_and_in_between_can_be_left_out():
    settings = EvaluationSettings(every=0, at_start=False)
    assert [step for step in range(121) if settings.due(step, num_steps=120)] == [120]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"samples": 0, "greedy": False}, "writes nothing"),
        ({"samples": 4, "k": 5}, "1 <= k <= samples"),
        ({"samples": 0, "k": 1}, "1 <= k <= samples"),
        ({"num_prompts": -1}, "at least 0"),
        ({"every": -1}, "at least 0"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"temperature": 0.0}, "temperature > 0"),
        ({"top_p": 0.0}, "top_p <= 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(bad, says):
    with pytest.raises(ConfigError, match=says):
        EvaluationSettings(**bad)
