"""What a failing check looks like in the user's own test run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import assert_grads

X = np.arange(1.0, 5.0)
SOURCE = """
import jax.numpy as jnp
import jaxnet

X = jnp.arange(1.0, 5.0)


def test_wrong():
    wrong = lambda p: {"w": 4 * p["w"]}
    jaxnet.assert_grads(lambda p: (p["w"] ** 2).sum(), ({"w": X},), grad=wrong)


def test_refused():
    jaxnet.assert_grads(jnp.sin, X)
"""


def test_a_failure_shows_the_line_of_the_test_and_names_leaf_and_cause(tmp_path):
    (tmp_path / "test_mine.py").write_text(SOURCE)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "jaxnet/gradcheck" not in done.stdout
    first, second, *_ = (
        line.removeprefix("E").strip() for line in done.stdout.splitlines() if line[:2] == "E "
    )
    assert first.startswith("AssertionError: gradient of p/w is wrong by 1e+00: factor 2 = ")
    assert second.startswith("gradcheck FAIL")
    assert "FAILED test_mine.py::test_wrong - AssertionError: gradient of p/w" in done.stdout
    assert "test_mine.py::test_refused - jaxnet.errors.ConfigurationError: args" in done.stdout


def first_line(f, *args, **settings):
    with pytest.raises(AssertionError) as caught:
        assert_grads(f, args, **settings)
    return str(caught.value).splitlines()[0]


def test_the_first_line_names_what_is_wrong():
    def two(a, b):
        return (a**2).sum() + (b**3).sum()

    line = first_line(two, X, X, grad=lambda a, b: (a, b**2))
    assert line.startswith(
        "gradient of b (and of 1 more) is wrong by 7e-01: factor 0.3333 on every"
    )
    line = first_line(lambda x: abs(x).sum(), np.zeros(1), grad=lambda x: 5 + 0 * x)
    assert line.startswith("gradient of x is wrong by ")
    line = first_line(lambda x: (1e13 * x).sum() % 1.0, X)
    assert line.startswith("gradient of x is not proved: ")


def test_errors_come_without_the_frames_of_the_checker():
    with pytest.raises(ConfigurationError, match="args expects a tuple") as caught:
        assert_grads(np.sin, X)
    assert caught.traceback[-1].name == "assert_grads"
