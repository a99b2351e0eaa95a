"""What a bench measures, and the inputs that both sides read."""

import json
import math
from statistics import fmean, pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import ConfigError
from tutelage.lab.bench.head import TERMS
from tutelage.lab.bench.inputs import alphabet, planned_lengths
from tutelage.lab.bench.settings import SIGNALS, HeadBench, StepBench, as_json, of_json


@pytest.mark.parametrize(
    ("kind", "settings"), [("head", HeadBench(signals=("forward_kl",))), ("step", StepBench(student=(64, 3), ragged=0.5))]
)
def test_settings_come_back_from_json(kind, settings):
    assert of_json(kind, json.loads(json.dumps(as_json(settings)))) == settings


@pytest.mark.parametrize(
    ("kind", "wrong", "words"),
    [
        (HeadBench, {"vocab": 0}, "--vocab"),
        (HeadBench, {"pairs": 0}, "--pairs"),
        (HeadBench, {"signals": ("reverse_lk",)}, "did you mean 'reverse_kl'"),
        (HeadBench, {"signals": ()}, "at least one"),
        (HeadBench, {"signals": ("reverse_kl_top_64",), "vocab": 32}, "--vocab 64"),
        (StepBench, {"vocab": 3}, "at least 16"),
        (StepBench, {"ragged": -0.1}, "ragged"),
        (StepBench, {"student": (100, 2)}, "--student 256x4"),
        (StepBench, {"teacher": (64, 0)}, "--teacher 256x4"),
        (StepBench, {"accumulation": 0}, "--accumulation"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_the_remedy(kind, wrong, words):
    with pytest.raises(ConfigError, match=words):
        kind(**wrong)


def test_every_signal_has_its_terms():
    assert set(TERMS) == set(SIGNALS)
    assert len(TERMS["three_terms"]) == 3


def test_without_spread_all_responses_are_alike():
    settings = StepBench(batch=3, accumulation=2, new=17)
    assert settings.lengths() == (17,) * 6


@given(sigma=st.floats(0.1, 1.5), count=st.integers(1, 100), new=st.integers(1, 300))
def test_ragged_lengths_keep_the_mean_up_to_rounding_and_never_vanish(sigma, count, new):
    lengths = StepBench(batch=count, new=new, ragged=sigma).lengths()
    assert len(lengths) == count
    assert min(lengths) >= 1
    assert abs(fmean(lengths) - new) <= 1.0


def test_the_logarithms_of_ragged_lengths_spread_as_asked():
    lengths = StepBench(batch=2000, new=10_000, ragged=0.8).lengths()
    logarithms = [math.log(length) for length in lengths]
    assert pstdev(logarithms) == pytest.approx(0.8, rel=0.01)
    middle = sorted(logarithms)[1000]
    assert middle == pytest.approx(math.log(10_000) - 0.8**2 / 2, abs=0.02)  # a log-normal's median lies below its mean


def test_every_step_has_the_same_lengths_in_its_own_order():
    settings = StepBench(batch=16, ragged=0.8)
    first, second = planned_lengths(settings, 0), planned_lengths(settings, 1)
    assert sorted(first) == sorted(second) == sorted(settings.lengths())
    assert first != second
    assert planned_lengths(settings, 1) == second


def test_the_alphabet_is_as_large_as_a_real_vocabulary_and_can_be_written():
    characters = alphabet(151_933)
    assert len(set(characters)) == 151_933
    assert not any(character.isspace() for character in characters)
    assert characters.encode().decode() == characters
