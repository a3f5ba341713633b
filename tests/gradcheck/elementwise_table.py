"""Thirty elementwise functions with derivatives that lose no digits anywhere, and wrong ones."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

Function = Callable[[jax.Array], jax.Array]

ROOT_2, ROOT_PI = float(np.sqrt(2)), float(np.sqrt(np.pi))


class Row(NamedTuple):
    """f and f', accurate to rounding; `lossy` gives f' from formulas that cancel or drop a term."""

    name: str
    f: Function
    derivative: Function
    lossy: Function | None = None
    positive: bool = False  # defined for x > 0 only


def sigmoid(x):
    return jax.nn.sigmoid(x)


def sech2(x):
    small = jnp.exp(-2 * abs(x))
    return 4 * small / (1 + small) ** 2


def _gelu(x):
    return 0.5 * x * erfc(-x / ROOT_2)


def _phi(x):
    return jnp.exp(-x * x / 2) / (ROOT_2 * ROOT_PI)


def _mish_derivative(x):
    y = jax.nn.softplus(x)
    return jnp.tanh(y) + x * sech2(y) * sigmoid(x)


def _elu(x):
    return jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0)))


TABLE = (
    Row("exp", jnp.exp, jnp.exp),
    Row("expm1", jnp.expm1, jnp.exp, lambda x: jnp.expm1(x) + 1),
    Row("log", jnp.log, lambda x: 1 / x, positive=True),
    Row("log1p", jnp.log1p, lambda x: 1 / (1 + x), positive=True),
    Row(
        "sigmoid",
        sigmoid,
        lambda x: sigmoid(x) * sigmoid(-x),
        lambda x: sigmoid(x) * (1 - sigmoid(x)),
    ),
    Row(
        "1/(1 + exp(-x))",
        lambda x: 1 / (1 + jnp.exp(-x)),
        lambda x: sigmoid(x) * sigmoid(-x),
        lambda x: sigmoid(x) * (1 - sigmoid(x)),
    ),
    Row("tanh", jnp.tanh, sech2, lambda x: 1 - jnp.tanh(x) ** 2),
    Row("softplus", jax.nn.softplus, sigmoid, lambda x: 1 - jnp.exp(-jax.nn.softplus(x))),
    Row("log sigmoid", jax.nn.log_sigmoid, lambda x: sigmoid(-x), lambda x: 1 - sigmoid(x)),
    Row("silu", jax.nn.silu, lambda x: sigmoid(x) * (1 + x * sigmoid(-x)), sigmoid),
    Row(
        "gelu",
        _gelu,
        lambda x: 0.5 * erfc(-x / ROOT_2) + x * _phi(x),
        lambda x: 0.5 * erfc(-x / ROOT_2),
    ),
    Row(
        "mish",
        lambda x: x * jnp.tanh(jax.nn.softplus(x)),
        _mish_derivative,
        lambda x: jnp.tanh(jax.nn.softplus(x)),
    ),
    Row(
        "elu",
        _elu,
        lambda x: jnp.exp(jnp.minimum(x, 0)),
        lambda x: jnp.where(x > 0, 1.0, _elu(x) + 1),
    ),
    Row(
        "softsign",
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) ** 2,
        lambda x: 1 - abs(x) / (1 + abs(x)),
    ),
    Row("erf", jax.scipy.special.erf, lambda x: 2 / ROOT_PI * jnp.exp(-x * x)),
    Row("erfc", erfc, lambda x: -2 / ROOT_PI * jnp.exp(-x * x)),
    Row("sin", jnp.sin, jnp.cos),
    Row("cos", jnp.cos, lambda x: -jnp.sin(x)),
    Row("atan", jnp.arctan, lambda x: 1 / (1 + x * x), lambda x: jnp.cos(jnp.arctan(x)) ** 2),
    Row("asinh", jnp.arcsinh, lambda x: 1 / jnp.hypot(1.0, x)),
    Row("sqrt(1 + x²)", lambda x: jnp.sqrt(1 + x * x), lambda x: x / jnp.sqrt(1 + x * x), jnp.sign),
    Row("cosh", jnp.cosh, jnp.sinh),
    Row("log cosh", lambda x: jnp.logaddexp(x, -x) - jnp.log(2.0), jnp.tanh, jnp.sign),
    Row("x³", lambda x: x * x * x, lambda x: 3 * x * x),
    Row("x²", lambda x: x * x, lambda x: 2 * x),
    Row("1/(1 + x²)", lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2),
    Row("exp(-x²)", lambda x: jnp.exp(-x * x), lambda x: -2 * x * jnp.exp(-x * x)),
    Row("sqrt", jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), positive=True),
    Row("x^2.5", lambda x: x**2.5, lambda x: 2.5 * x**1.5, positive=True),
    Row(
        "1/cosh",
        lambda x: 1 / jnp.cosh(x),
        lambda x: -jnp.tanh(x) / jnp.cosh(x),
        lambda x: -jnp.sqrt(1 - 1 / jnp.cosh(x) ** 2) / jnp.cosh(x),
    ),
)

FAULTS: dict[str, Callable[[Function], Function]] = {
    "1.001 times": lambda d: lambda x: 1.001 * d(x),
    "twice": lambda d: lambda x: 2 * d(x),
    "the wrong sign": lambda d: lambda x: -d(x),
    "zero": lambda d: lambda x: 0 * x,
    "a constant too many": lambda d: lambda x: d(x) + 0.1,
}


def rules_of(row: Row) -> dict[str, Function]:
    """Return the right rule and all wrong ones."""
    lossy = {"lossy": row.lossy} if row.lossy else {}
    wrong = {name: fault(row.derivative) for name, fault in FAULTS.items()}
    return {"right": row.derivative, **wrong, **lossy}
