"""The report's text, and its forms for machines."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck import check_grads
from jaxnet.gradcheck.numeric.norms import relative
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, KINK, PASS, worst_of

X = np.array([[0.3, -1.2, 2.0], [0.5, 0.25, -0.75]])


def text(report):
    """Return the report's text without what differs between machines."""
    lines = str(report).splitlines()
    lines = [re.sub(r"\d\.\de[+-]\d\d(?=   seed)", "…", line) for line in lines]
    lines = [re.sub(r"[\d,]+ evaluations, [\d.]+ s", "… evaluations, … s", line) for line in lines]
    return "\n".join(re.sub(r"jax \S+ \S+", "jax …", line) for line in lines)


def rough(golden):
    """Return a pattern of a golden text in which `#` is any number and spacing is free."""
    pattern = re.escape(golden.strip("\n"))
    pattern = pattern.replace(r"\#", r"\d(?:\.\d+)?e[+-]\d\d")
    return re.compile(re.sub(r"(\\ )+", r" +", pattern) + r"\Z")


def demand(golden, report):
    assert rough(golden).match(text(report)), (
        f"the text of the report changed; if it is meant, put this into the golden text, with # "
        f"for each measured number:\n{text(report)}"
    )


def square(x):
    return jnp.sum(x**2)


def test_golden_text_of_a_factor():
    report = check_grads(square, (X,), grad=lambda x: x)
    demand(
        """
gradcheck FAIL   value=6.405  float64  6 parameters, 1 leaf, 12 directions, … evaluations, … s
  noise of f …   seed 0   jax …
  leaf  shape  |manual|   vs autodiff   vs numeric   bound   verdict
  x     (2,3)  2.5e+00    5e-01         5e-01        #       FAIL
    factor 0.5 = 1/2 = 1/x.shape[0]: the 2 of a square forgotten, or a ½ too many
    worst  x[0, 2]   manual 2.000000e+00   autodiff 4.000000e+00   numeric 4.000000e+00 +- #
      ratio 0.5
    autodiff and numeric agree, the hand-written gradient of x differs
  exact checks: deterministic ok, gradient deterministic ok, primal equal ok, linear in cotangent
    n/a, zero cotangent n/a, dot test ok
  to run it again: the same call with seed=0
""",
        report,
    )


def test_golden_text_of_nan():
    report = check_grads(square, (X,), grad=lambda x: (2 * x).at[1, 0].set(jnp.nan))
    demand(
        """
gradcheck FAIL   value=6.405  float64  6 parameters, 1 leaf, 0 directions, … evaluations, … s
  seed 0   jax …
  leaf  shape  |manual|   vs autodiff   vs numeric   bound   verdict
  x     (2,3)  nan        -             -            -       FAIL
    NaN or infinity in 1 of 6 entries
    worst  x[1, 0]   manual nan   autodiff 1.000000e+00   numeric 1.000000e+00 +- #   ratio nan
    the gradient is not finite
  exact checks: deterministic ok, gradient deterministic ok, primal equal ok, linear in cotangent
    n/a, zero cotangent n/a, dot test ok
  to run it again: the same call with seed=0
""",
        report,
    )


def test_golden_text_of_inconclusive():
    rng = np.random.default_rng(0)
    report = check_grads(lambda x: jnp.sum(x * rng.normal()), (X,))
    demand(
        """
gradcheck INCONCLUSIVE  float64  6 parameters, 1 leaf, 0 directions, … evaluations, … s
  seed 0   jax …
  leaf  shape  |autodiff|   vs autodiff   vs numeric   bound   verdict
  x     (2,3)  -            -             -            -       INCONCLUSIVE
    f gives another value on each call: pass its random key or seed as an argument, and keep no
      state outside
  exact checks: deterministic failed (f is another program at each call)
""",
        report,
    )


def test_golden_text_of_a_pass():
    report = check_grads(square, (X,), grad=lambda x: 2 * x)
    demand(
        """
gradcheck PASS   value=6.405  float64  6 parameters, 1 leaf, 10 directions, … evaluations, … s
  noise of f …   seed 0   jax …
  leaf  shape  |manual|   vs autodiff   vs numeric   bound   verdict
  x     (2,3)  5.1e+00    0e+00         #            #       PASS
  exact checks: deterministic ok, gradient deterministic ok, primal equal ok, linear in cotangent
    n/a, zero cotangent n/a, dot test ok
""",
        report,
    )


def normalized(x, b):
    h = x + b[None, :]
    h = (h - h.mean(0, keepdims=True)) / jnp.sqrt(h.var(0, keepdims=True) + 1e-5)
    return jnp.sum(jnp.sin(3 * h + jnp.cos(jnp.arange(2.0, dtype=x.dtype))[:, None]))


B = np.array([0.3, -0.7, 1.1])


@pytest.mark.parametrize("error", [0.0, 1e-17, 3e-16])
@pytest.mark.parametrize("settings", [{}, {"float32_only": True}])
def test_a_vanishing_gradient_is_zero_and_no_ratio_of_rounding_errors(error, settings):
    def grad(x, b):
        dx, _ = jax.grad(normalized, (0, 1))(x, b)
        return dx, jnp.full_like(b, error)

    report = check_grads(normalized, (X, B), grad=grad, **settings)
    assert report.verdict == "PASS"
    x, b = report.leaves
    assert (x.autodiff_zero, x.numeric_zero) == (None, None)
    assert (b.autodiff_zero, b.numeric_zero) == ("both zero", "both zero")
    assert b.versus_autodiff == b.versus_numeric == 0
    assert re.search(r"  b .* both zero +both zero +- +PASS\n", str(report))
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_gradient_where_there_is_none_reads_zero_and_no_huge_ratio():
    def grad(x, b):
        dx, _ = jax.grad(normalized, (0, 1))(x, b)
        return dx, jnp.ones_like(b)

    report = check_grads(normalized, (X, B), grad=grad)
    (_, b) = report.leaves
    assert (b.verdict, b.autodiff_zero, b.numeric_zero) == ("FAIL", "zero", "zero")
    assert b.versus_autodiff == b.versus_numeric == 1
    assert "ratio" not in str(report)
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_gradient_that_should_not_be_zero_keeps_its_ratio():
    (x,) = check_grads(square, (X,), grad=jnp.zeros_like).leaves
    assert (x.autodiff_zero, x.numeric_zero) == (None, None)
    assert x.versus_autodiff == 1
    for scale in (1e-12, 1e-150):
        (x,) = check_grads(lambda x, s=scale: s * square(x), (X,)).leaves
        assert (x.verdict, x.numeric_zero) == ("PASS", None)


def test_ratios_of_tiny_numbers_stay_finite():
    assert relative(np.ones(2), np.full(2, 5e-324)) == np.finfo(float).max
    assert relative(np.ones(2), np.zeros(2)) == 1
    assert relative(np.zeros(2), np.zeros(2)) == 0


def test_a_report_is_true_if_nothing_is_wrong():
    assert check_grads(square, (X,))
    assert check_grads(lambda x: abs(x).sum(), (np.zeros(2),))
    assert not check_grads(square, (X,), grad=lambda x: x)
    assert not check_grads(lambda x: jnp.sin(1e13 * x).sum(), (X,))


def test_of_several_bad_leaves_the_first_in_backward_order_is_named():
    def f(first, second):
        return jnp.sum(jnp.sin(first) * second)

    report = check_grads(f, (X, X), grad=lambda a, b: (b, b))
    assert "first bad leaf in backward order: second" in str(report)


def test_reports_are_frozen_and_read_by_machines():
    report = check_grads(square, (X,), grad=lambda x: (2 * x).at[0, 0].set(jnp.nan))
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.verdict = "PASS"
    table = report.to_dict()
    assert table["verdict"] == "FAIL"
    assert table["leaves"][0]["worst"]["index"] == [0, 0]
    again = json.loads(report.to_json())
    assert again["leaves"][0]["worst"]["manual"] == "nan"
    assert again["seed"] == 0
    assert again["exact"][0] == {"name": "deterministic", "outcome": "ok", "detail": ""}
    assert report.summary() == "gradcheck FAIL x (1 leaf, seed 0)"


def test_the_worst_verdict_decides():
    assert worst_of() == PASS
    assert worst_of(PASS, KINK) == KINK
    assert worst_of(KINK, INCONCLUSIVE, PASS) == INCONCLUSIVE
    assert worst_of(INCONCLUSIVE, FAIL, PASS) == FAIL
