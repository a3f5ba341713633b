"""Right gradients where scales are extreme, functions saturate or rounding is felt."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.norms import batchnorm
from benchmarks.gradcheck_zoo.row import (
    KINK,
    UNSURE,
    Case,
    draw,
    elementwise,
    like,
    same,
    weighted_sum,
)


def _mlp(x, w, b):
    return jnp.square(jnp.tanh(x @ w + b[None, :])).sum()


MLP = draw(80, (4, 3), (3, 5), (5,))


def _scaled_mlp(scale):
    return lambda x, w, b: scale * _mlp(x, w, b)


MIXED = np.array([1e-8, -1e-4, 1.0, -1e4, 1e8])


def _shifted(z):
    return jax.nn.logsumexp(z + 1e4) - 1e4


def _saturated_cross_entropy(scores):
    return -jax.nn.log_softmax(scores, axis=1)[:, 0].sum()


def _layernorm(x):
    centred = x - x.mean(1, keepdims=True)
    return weighted_sum(centred * jax.lax.rsqrt(jnp.square(centred).mean(1, keepdims=True) + 1e-5))


NEARLY_CONSTANT = 1 + 1e-3 * draw(81, (3, 5))[0]


def _relu_net(x, w, b):
    return weighted_sum(jax.nn.relu(x @ w + b[None, :]))


SCALES = (
    same("gradients of 1e-12", _scaled_mlp(1e-12), MLP),
    same("gradients of 1e12", _scaled_mlp(1e12), MLP),
    same("loss + 1e8", lambda *args: _mlp(*args) + 1e8, MLP, UNSURE),
    same("logsumexp(z + 1e4) − 1e4", _shifted, draw(82, (5,)), UNSURE),
    elementwise(
        "tanh saturated",
        jnp.tanh,
        lambda x: 1 / jnp.square(jnp.cosh(x)),
        [25.0, -25.0, 24.5, 26.0, 25.5],
        UNSURE,
    ),
    same(
        "cross-entropy saturated",
        _saturated_cross_entropy,
        (np.array([[40.0, 0.0, 1.0], [38.0, -1.0, 0.5]]),),
        UNSURE,
    ),
    Case(
        "inputs of 1e-8 to 1e8",
        lambda x: jnp.square(x / like(MIXED, x)).sum(),
        (MIXED,),
        lambda x: (2 * x / like(MIXED, x) ** 2,),
        UNSURE,
    ),
    elementwise("log at 5e-5", jnp.log, lambda x: 1 / x, [5e-5, 1.0, 0.3, 6e-5, 2.0]),
    elementwise("sqrt at 1e-10", jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), [1e-10, 1.0, 0.3], UNSURE),
    elementwise(
        "sin(1e4·x)",
        lambda x: jnp.sin(1e4 * x),
        lambda x: 1e4 * jnp.cos(1e4 * x),
        [0.3, 1.1, -0.7],
        UNSURE,
    ),
    same("layernorm of nearly constant rows", _layernorm, (NEARLY_CONSTANT,), UNSURE),
    same(
        "sum of batchnorm: 0",
        lambda x: batchnorm(x, jnp.ones(4, x.dtype), jnp.zeros(4, x.dtype)).sum(),
        draw(83, (6, 4)),
        UNSURE,
    ),
    elementwise("x⁴ at 0", lambda x: x**4, lambda x: 4 * x**3, [0.0, 0.0, 1.0], UNSURE),
    Case(
        "constant",
        lambda x: jnp.zeros((), x.dtype) + 3,
        draw(84, (4,)),
        lambda x: (jnp.zeros_like(x),),
    ),
    same(
        "dead relu layer", _relu_net, (*draw(85, (4, 3), (3, 5)), np.full(5, -50.0)), KINK | UNSURE
    ),
    same(
        "pre-activations of 1e-3",
        _relu_net,
        (draw(86, (4, 3))[0], 1e-3 * draw(87, (3, 5))[0], np.zeros(5)),
        KINK,
    ),
)
