"""The element-wise part through torch.compile is the plain one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = """
import torch
import dense
from tutelage import objectives as o

given = dense.problem(lengths=(5, 2), seed=2)
terms = [
    o.Term(name="skew", signal=o.SkewKL(direction="reverse", alpha=0.3)),
    o.Term(name="mixture", signal=o.JensenShannon(beta=0.3)),
    o.Term(name="plain", signal=o.ForwardKL()),
]
expected = dense.loss(terms, given)
found = dense.evaluate(terms, given, budget=o.Budget(compile=True))
torch.testing.assert_close(found.loss, expected.detach(), rtol=1e-9, atol=1e-12)
for ours, theirs in zip(dense.gradients(found.loss, given), dense.gradients(expected, given), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-11)
assert torch._dynamo.utils.counters["stats"]["calls_captured"] > 10, "nothing was compiled"
"""


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("c++")), reason="torch.compile needs a C++ compiler")
def test_compiled_divergences_have_the_value_and_the_gradients_of_the_dense_computation():
    """In a process of its own: the compiler cannot look through the type checks that tests put around every function."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
