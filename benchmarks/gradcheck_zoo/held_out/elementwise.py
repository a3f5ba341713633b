"""Bugs in elementwise derivatives, and in parameters of activations."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like

X = draw(250, (6, 5), margin=0.1)
SPREAD = (4 * X[0],)  # some beyond ±8


def softplus_right(dout, x):
    return (dout * jax.nn.sigmoid(x),)


def gelu_tanh(x):
    return jax.nn.gelu(x, approximate=True)


def gelu_exact(x):
    return jax.nn.gelu(x, approximate=False)


def _gelu_backward(density):
    """Return the backward pass with 1/√(2π) as given."""

    def vjp(dout, x):
        cdf = jax.scipy.special.erfc(-x / math.sqrt(2)) / 2
        return (dout * (cdf + x * like(density, x) * jnp.exp(-x * x / 2)),)

    return vjp


# x·σ(β·x)


def silu(x, beta):
    return x * jax.nn.sigmoid(beta[None, :] * x)


def silu_right(dout, x, beta, *, squared=True):
    s = jax.nn.sigmoid(beta[None, :] * x)
    slope = dout * x * s * (1 - s)
    return dout * s + slope * beta[None, :], (slope * (x if squared else 1)).sum(0)


def elu(x):
    return jnp.where(x > 0, x, 0.5 * jnp.expm1(jnp.minimum(x, 0)))


def elu_right(dout, x, *, alpha=0.5):
    return (dout * jnp.where(x > 0, 1, elu(x) + alpha),)


def clipped(x):
    return jnp.square(jnp.clip(x, -1, 1))


def power(x, p):
    return x ** p[None, :]


def power_right(dout, x, p, *, log=True):
    out = power(x, p)
    return dout * p[None, :] * out / x, (dout * out * (jnp.log(x) if log else 1)).sum(0)


def angle(y, x):
    return jnp.arctan2(y, x)


def product(x):
    return jnp.prod(x, axis=1)


def product_right(dout, x):
    others = jnp.where(jnp.eye(x.shape[1], dtype=bool)[None], 1, x[:, None, :]).prod(2)
    return (dout[:, None] * others,)


_WITH_ZERO = draw(251, (3, 4))[0]
_WITH_ZERO[1, 2] = 0.0
DENSITY = 1 / math.sqrt(2 * math.pi)
BUGS = (
    Bug(
        "softplus linear from 8",
        "1 for σ(x) above 8: off by 3e-4 at most, in few entries",
        jax.nn.softplus,
        (np.where(np.abs(SPREAD[0]) > 7, np.sign(SPREAD[0]) * 8.2, SPREAD[0]),),
        softplus_right,
        lambda dout, x: (dout * jnp.where(x > 8, 1, jax.nn.sigmoid(x)),),
    ),
    Bug(
        "gelu exactly",
        "approximate forward, exact backward",
        gelu_tanh,
        X,
        autodiff(gelu_tanh),
        autodiff(gelu_exact),
    ),
    Bug(
        "constant of four digits",
        "0.3989 for 1/√(2π)",
        gelu_exact,
        X,
        _gelu_backward(DENSITY),
        _gelu_backward(0.3989),
    ),
    Bug(
        "constant in float32",
        "1/√(2π) to 24 bits: 4e-8 of it",
        gelu_exact,
        X,
        _gelu_backward(DENSITY),
        _gelu_backward(np.float64(np.float32(DENSITY))),
    ),
    Bug(
        "silu parameter",
        "x for x² in dβ",
        silu,
        draw(252, (6, 4), (4,)),
        silu_right,
        lambda dout, x, beta: silu_right(dout, x, beta, squared=False),
    ),
    Bug(
        "elu by output",
        "out + 1 for out + α",
        elu,
        X,
        elu_right,
        lambda dout, x: elu_right(dout, x, alpha=1.0),
    ),
    Bug(
        "clip passes all",
        "as a straight-through one",
        clipped,
        X,
        autodiff(clipped),
        lambda dout, x: (dout * 2 * jnp.clip(x, -1, 1),),
    ),
    Bug(
        "power without log",
        "in dp",
        power,
        (np.exp(draw(253, (5, 3))[0]), np.array([2.0, 0.5, -1.3])),
        power_right,
        lambda dout, x, p: power_right(dout, x, p, log=False),
    ),
    Bug(
        "arctan2 signs",
        "of both",
        angle,
        draw(254, (6,), (6,), margin=0.2),
        lambda dout, y, x: (dout * x / (x * x + y * y), -dout * y / (x * x + y * y)),
        lambda dout, y, x: (-dout * x / (x * x + y * y), dout * y / (x * x + y * y)),
    ),
    Bug(
        "product by quotient",
        "out/x, where one x is 0",
        product,
        (_WITH_ZERO,),
        product_right,
        lambda dout, x: (dout[:, None] * product(x)[:, None] / x,),
    ),
    Bug(
        "product by safe quotient",
        "out/(x + 1e-8): no NaN, and 0 where x is 0",
        product,
        (_WITH_ZERO,),
        product_right,
        lambda dout, x: (dout[:, None] * product(x)[:, None] / (x + 1e-8),),
    ),
)
