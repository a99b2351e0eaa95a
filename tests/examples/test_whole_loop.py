"""The loop without the library's trainer really distils."""

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "whole_loop.py"


def test_the_student_comes_to_write_what_its_teacher_would():
    spec = importlib.util.spec_from_file_location("whole_loop", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    divergences = example.distil(num_steps=40, seed=0)
    assert sum(divergences[-5:]) < 0.5 * sum(divergences[:5])
