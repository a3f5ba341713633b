"""Bugs in the backward pass of elementwise functions, of dropout and of a masked square root."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from benchmarks.gradcheck_zoo.row import Bug, draw, like

X = draw(10, (7, 5), margin=0.1)


def relu(x):
    return jnp.where(x > 0, x, 0)


def relu_right(dout, x):
    return (jnp.where(x > 0, dout, 0),)


def _relu_bug(name, description, mask, x=X):
    def wrong(dout, x):
        return (jnp.where(mask(dout, x), dout, 0),)

    return Bug(name, description, relu, x, relu_right, wrong)


def _near_zero() -> np.ndarray:
    x = draw(11, (64, 32), margin=0.02)[0]
    x[[3, 17, 40, 60], [0, 8, 9, 31]] = 0.005, 0.004, 0.008, 0.006
    return x


def leaky_relu(x):
    return jnp.where(x > 0, x, 0.01 * x)


def tanh(x):
    return jnp.tanh(x)


def tanh_right(dout, x):
    return (dout * (1 - jnp.square(jnp.tanh(x))),)


def sigmoid_right(dout, x):
    s = jax.nn.sigmoid(x)
    return (dout * s * (1 - s),)


def _sigmoid_plus(dout, x):
    s = jax.nn.sigmoid(x)
    return (dout * s * (1 + s),)


def gelu(x):
    return x * _normal_cdf(x)


def gelu_right(dout, x):
    density = jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return (dout * (_normal_cdf(x) + x * density),)


def _gelu_by_tanh(dout, x):
    return jax.vjp(lambda x: jax.nn.gelu(x, approximate=True), x)[1](dout)


def _normal_cdf(x):
    return erfc(-x / math.sqrt(2)) / 2


def swish(x):
    return x * jax.nn.sigmoid(x)


def swish_right(dout, x):
    s = jax.nn.sigmoid(x)
    return (dout * (s + x * s * (1 - s)),)


KEEP = 0.7
KEPT, REDRAWN = np.random.default_rng(12).random((2, 7, 5)) < KEEP


def dropout(x):
    return jnp.where(KEPT, x / KEEP, 0)


def dropout_right(dout, x):
    return (jnp.where(KEPT, dout / KEEP, 0),)


def masked_root(x):
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)


def masked_root_right(dout, x):
    return (jnp.where(x > 0, dout * 0.5 / jnp.sqrt(jnp.where(x > 0, x, 1)), 0),)


def filtered(x):
    return jnp.fft.ifft(jnp.fft.fft(x) * jnp.fft.fft(like(KERNEL, x))).real


def filtered_right(dout, x):
    transfer = jnp.fft.fft(like(KERNEL, x))
    return (jnp.fft.ifft(jnp.fft.fft(dout) * transfer.conj()).real,)


def _unconjugated(dout, x):
    return (filtered(dout),)


(KERNEL,) = draw(13, (9,))

BUGS = (
    _relu_bug("relu mask inverted", "x < 0", lambda dout, x: x < 0),
    _relu_bug("relu mask dropped", "dx = dout", lambda dout, x: jnp.ones_like(x, bool)),
    _relu_bug("guided relu", "also dout > 0", lambda dout, x: (x > 0) & (dout > 0)),
    _relu_bug(
        "relu threshold",
        "x > 0.01: four of 2,048 entries",
        lambda dout, x: x > 0.01,
        (_near_zero(),),
    ),
    Bug(
        "leaky slope",
        "0.1 for 0.01",
        leaky_relu,
        X,
        lambda dout, x: (jnp.where(x > 0, dout, 0.01 * dout),),
        lambda dout, x: (jnp.where(x > 0, dout, 0.1 * dout),),
    ),
    Bug("tanh by input", "1 − x²", tanh, X, tanh_right, lambda dout, x: (dout * (1 - x * x),)),
    Bug("sigmoid sign", "s·(1 + s)", jax.nn.sigmoid, X, sigmoid_right, _sigmoid_plus),
    Bug("gelu by tanh", "exact forward, approximate backward", gelu, X, gelu_right, _gelu_by_tanh),
    Bug(
        "cotangent ignored",
        "local derivative only",
        tanh,
        X,
        tanh_right,
        lambda dout, x: (1 - jnp.square(jnp.tanh(x)),),
    ),
    Bug(
        "swish half",
        "x·s·(1 − s) missing",
        swish,
        X,
        swish_right,
        lambda dout, x: (dout * jax.nn.sigmoid(x),),
    ),
    Bug(
        "dropout mask redrawn",
        "another mask in the backward pass",
        dropout,
        X,
        dropout_right,
        lambda dout, x: (jnp.where(REDRAWN, dout / KEEP, 0),),
    ),
    Bug(
        "dropout unscaled",
        "1/keep missing",
        dropout,
        X,
        dropout_right,
        lambda dout, x: (jnp.where(KEPT, dout, 0),),
    ),
    Bug(
        "where trap",
        "0·NaN where the other branch was taken",
        masked_root,
        X,
        masked_root_right,
        lambda dout, x: (dout * like(x > 0, x) * 0.5 / jnp.sqrt(x),),
    ),
    Bug(
        "conjugate missing",
        "a filter in the frequency domain",
        filtered,
        draw(14, (9,)),
        filtered_right,
        _unconjugated,
    ),
)
