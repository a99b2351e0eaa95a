"""Numbers read off curves."""

import json
import math

import numpy as np
import pytest
from tests.lab.reproduction.conftest import curve, point

from tutelage.errors import ConfigError, DataError
from tutelage.lab.reproduction.curves import Curve
from tutelage.lab.reproduction.metrics import METRICS, REACH, metric_of

RISING = curve(0.2, 0.4, 0.8)


def test_between_evaluations_the_accuracy_is_linear_in_the_tokens():
    tokens, accuracies = [p.tokens for p in RISING.points], [p.accuracy for p in RISING.points]
    for at in (0.0, 37.0, 100.0, 151.0, 200.0, 500.0):
        assert RISING.accuracy_at(at) == pytest.approx(np.interp(at, tokens, accuracies))


def test_the_tokens_to_an_accuracy_are_where_the_curve_has_it():
    for accuracy in (0.2, 0.3, 0.4, 0.75, 0.8):
        assert RISING.accuracy_at(RISING.tokens_to(accuracy)) == pytest.approx(accuracy)
    assert RISING.tokens_to(0.1) == 0.0
    assert math.isinf(RISING.tokens_to(0.81))


def test_the_mean_accuracy_is_the_area_under_the_curve():
    expected = np.trapezoid([0.2, 0.4, 0.8], [0, 10, 20]) / 20
    assert RISING.mean_accuracy() == pytest.approx(expected)


def test_a_curve_survives_being_written():
    whole = Curve(points=(point(0, 0.25), point(5, 0.5, coverage=0.75, slices={"easy": 1.0, "hard": 0.125})))
    assert Curve.of_json(json.loads(json.dumps(whole.as_json()))) == whole


@pytest.mark.parametrize("steps", [(), (3, 1), (1, 1)])
def test_evaluations_come_in_order(steps):
    with pytest.raises(DataError, match="rising steps"):
        Curve(points=tuple(point(step, 0.5) for step in steps))


def test_equal_tokens_are_those_of_the_shorter_run():
    short, long = curve(0.2, 0.6, tokens=4), curve(0.2, 0.4, 0.8, tokens=4)
    metric = metric_of("accuracy_at_tokens")
    assert metric.of(short, long) == pytest.approx(0.6)
    assert metric.of(long, short) == pytest.approx(0.4)
    assert metric.of(long, long) == pytest.approx(0.8)


def test_tokens_to_reach_ask_for_a_share_of_the_baselines_gain():
    fast, slow = curve(0.0, 1.0, 1.0), curve(0.0, 0.5, 1.0)
    metric = metric_of("tokens_to_reach")
    assert metric.of(slow, slow) == pytest.approx((100 + 100 * (REACH - 0.5) / 0.5) / 1000)
    assert metric.of(fast, slow) == pytest.approx(100 * REACH / 1000)
    never = curve(0.0, 0.1, 0.2)
    assert metric.of(never, slow) == pytest.approx(never.end.tokens / 1000)


def test_classes_of_problems_are_metrics():
    found = Curve(points=(point(0, 0.5, slices={"a": 0.25, "b": 0.75}),))
    assert metric_of("slice:b").of(found, found) == 0.75
    assert metric_of("worst_slice").of(found, found) == 0.25
    assert metric_of("slice:c").of(found, found) is None
    assert metric_of("worst_slice").of(RISING, RISING) is None


def test_a_wrong_metric_gets_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        metric_of("acuracy")
    assert all(metric.name == name for name, metric in METRICS.items())
