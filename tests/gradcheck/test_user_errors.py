"""Functions that raise, at trace time and at run time: the error names and quotes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import check_grads
from jaxnet.gradcheck.function.user_errors import error_text

X = np.array([0.3, -1.2, 2.0])


def square(x):
    return jnp.sum(x**2)


def layer(x):
    return x**2, x


def called_back(function, x):
    """Run a NumPy function inside a JAX program."""
    return jax.pure_callback(
        lambda v: np.asarray(function(np.asarray(v)), v.dtype),
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        x,
        vmap_method="sequential",
    )


def boom(*_):
    raise KeyError("no layer\nof this name")


def later(x):
    return called_back(boom, x)


def with_rule(backward):
    rule = jax.custom_vjp(jnp.sin)
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (backward(dout),))
    return lambda x: rule(x)


@pytest.mark.parametrize("raising", [boom, later])
@pytest.mark.parametrize(
    ("who", "settings"),
    [
        (r"^grad= raised KeyError on the given arguments in float64", lambda g: {"grad": g}),
        (
            r"^backward= raised KeyError on the given arguments in float64",
            lambda g: {"f": layer, "backward": lambda dout, x: g(dout)},
        ),
        (r"cannot differentiate f \(KeyError", lambda g: {"f": with_rule(g)}),
    ],
)
def test_the_gradient_that_raises_is_named(who, settings, raising):
    given = {"f": square, **settings(raising)}
    with pytest.raises(ConfigurationError, match=rf"{who}.*no layer.*of this name"):
        check_grads(given.pop("f"), (X,), **given)


def test_the_reference_that_raises_is_named():
    with pytest.raises(ConfigurationError, match=r"reference= raised KeyError.*no layer"):
        check_grads(square, (X,), reference=boom)
    ruled = with_rule(later)  # raises at run time, in reverse
    with pytest.raises(ConfigurationError, match=r"reference= raised KeyError.*no layer"):
        check_grads(square, (X,), reference=lambda x: square(x) + ruled(x).sum())


@pytest.mark.parametrize(
    "reference", [lambda x: x**2, lambda x: (square(x), square(x)), lambda x: [square(x)] * 3]
)
def test_a_reference_must_return_what_f_returns(reference):
    with pytest.raises(ConfigurationError, match=r"reference= expects .*\[\(\)\], got"):
        check_grads(square, (X,), reference=reference)


def test_f_that_raises_is_named_with_the_callbacks_own_words():
    with pytest.raises(ConfigurationError, match=r"^f raised .*KeyError: 'no layer"):
        check_grads(lambda x: later(x).sum(), (X,), grad=jnp.sin)
    with pytest.raises(ConfigurationError, match=r"^f raised KeyError on the given arguments"):
        check_grads(boom, (X,), grad=jnp.sin)


def at_home_only(x):
    if not np.array_equal(x, X):
        raise ArithmeticError("away from home")
    return np.cos(x)


def test_f_that_raises_beside_the_point_is_named():
    for f in (
        lambda x: called_back(at_home_only, x).sum(),
        lambda x: float(at_home_only(np.asarray(x)).sum()),
    ):
        with pytest.raises(
            ConfigurationError, match=r"^f raised ArithmeticError .* near .*: away from home"
        ):
            check_grads(f, (X,), grad=lambda x: -jnp.sin(x))


def test_a_gradient_that_raises_later_is_named():
    def no_zeros(dout):
        if not dout.any():
            raise ArithmeticError("a cotangent of zeros")
        return dout

    def backward(dout, x):
        return called_back(no_zeros, dout) * 2 * x

    with pytest.raises(ConfigurationError, match=r"^backward= raised ArithmeticError.*of zeros"):
        check_grads(layer, (X,), backward=backward)
    with pytest.raises(ConfigurationError, match=r"^autodiff of f raised ArithmeticError.*zeros"):
        check_grads(with_rule(lambda dout: called_back(no_zeros, dout)), (X,))
    # Where a kink is met, the gradient is asked for beside it too.
    x = np.array([0.0, 1.0])

    def grad(x):
        return called_back(lambda v: boom() if v[0] else 1.0 * (v > 0), x)

    with pytest.raises(ConfigurationError, match=r"^grad= raised KeyError near the given"):
        check_grads(lambda x: jnp.maximum(x, 0).sum(), (x,), grad=grad)


def test_what_a_callback_raised_is_found_in_the_text_of_jax():
    traced = 'INTERNAL: CpuCallback error: Traceback:\n  File "a.py", line 3, in f\n    x = {}[y]\n'
    assert error_text(RuntimeError(f"{traced}pkg.errors.OddError: a: b\nc")) == "OddError: a: b c"
    assert error_text(RuntimeError(f"{traced}StopIteration")) == "StopIteration: no message"
    assert error_text(ValueError("plain")) == "ValueError: plain"
    assert error_text(KeyError()) == "KeyError: no message"
