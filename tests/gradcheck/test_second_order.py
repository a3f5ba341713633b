"""Second derivatives: at points where tests along the arguments or the outputs see nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import check_grads

X = np.array([0.3, -1.2, 2.0])


def cubic(second):
    """Return x³ whose rule is right, and whose rule's own derivative is `second`(x)·dout."""
    slope = jax.custom_jvp(lambda x: 3 * x**2)
    slope.defjvp(lambda p, t: (3 * p[0] ** 2, second(p[0]) * t[0]))
    f = jax.custom_jvp(lambda x: x**3)
    f.defjvp(lambda p, t: (p[0] ** 3, slope(p[0]) * t[0]))
    return lambda x: jnp.sum(f(x))


@pytest.mark.parametrize("x", [X, np.zeros(3), np.ones(3)])
def test_wrong_second_derivatives_fail_though_the_first_are_right(x):
    assert check_grads(cubic(lambda x: 6 * x), (x,), order=2).verdict == "PASS"
    wrong = cubic(lambda x: 6 * x + 1)
    assert check_grads(wrong, (x,)).verdict == "PASS"
    report = check_grads(wrong, (x,), order=2)
    assert report.verdict == report.second_order.verdict == "FAIL"
    assert "second order" in str(report)


def test_second_derivatives_of_several_leaves():
    def f(params, x):
        return jnp.sum(jnp.tanh(x @ params["w"] + params["b"][None, :]) ** 3)

    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    report = check_grads(f, (params, rng.normal(size=(5, 3))), argnums=0, order=2)
    assert report.verdict == "PASS"
    assert {leaf.verdict for leaf in report.second_order.leaves} == {"PASS"}
    assert {c.name: c.outcome for c in report.second_order.exact}["symmetric"] == "ok"


def test_asymmetric_second_derivatives_are_refused():
    matrix = np.array([[1.0, 2.0], [0.0, 1.0]])
    f = jax.custom_vjp(lambda x: 0.5 * x @ (matrix + matrix.T) / 2 @ x)
    f.defvjp(lambda x: (f(x), x), lambda x, dout: (dout * (matrix @ x),))
    report = check_grads(lambda x: f(x), (X[:2],), order=2)
    assert report.verdict == "FAIL"
    assert {c.name: c.outcome for c in report.second_order.exact}["symmetric"] == "failed"


def test_piecewise_linear_functions_have_none():
    report = check_grads(lambda x: jnp.sum(jax.nn.relu(x)), (X,), order=2)
    assert report.verdict == "PASS"
    assert any("piecewise linear" in note for note in report.second_order.notes)


def test_untraceable_functions_have_no_second_order():
    with pytest.raises(ConfigurationError, match="order=1"):
        check_grads(lambda x: float(np.sum(np.sin(x))), (X,), grad=np.cos, order=2)
