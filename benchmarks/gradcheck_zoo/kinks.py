"""Right gradients at kinks and near them."""

import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import KINK, Case, elementwise, like


def _relu(x):
    return jnp.where(x > 0, x, 0)


AT_ZERO = [0.0, 0.5, -0.4, 0.0, 1.2]


def _first_of_three(x):
    return (jnp.zeros_like(x).at[x.argmax()].set(1),)


def _split(x):
    winners = like(x == x.max(), x)
    return (winners / winners.sum(),)


def _huber(x):
    return jnp.where(jnp.abs(x) <= 1, x * x / 2, jnp.abs(x) - 0.5)


def _hinge(x):
    return jnp.where(x < 1, 1 - x, 0)


KINKS = (
    elementwise("relu at 0, >", _relu, lambda x: like(x > 0, x), AT_ZERO, KINK, kink=True),
    elementwise("relu at 0, ≥", _relu, lambda x: like(x >= 0, x), AT_ZERO, KINK, kink=True),
    elementwise(
        "relu at 1e-7", _relu, lambda x: like(x > 0, x), [1e-7, -1e-7, 0.5, -0.4, 1.2], KINK
    ),
    Case("max of three alike, first", jnp.max, (np.ones(3),), _first_of_three, KINK, kink=True),
    Case("max of three alike, split", jnp.max, (np.ones(3),), _split, KINK, kink=True),
    elementwise("abs at 0", jnp.abs, jnp.sign, AT_ZERO, KINK, kink=True),
    elementwise(
        "hinge at the margin",
        _hinge,
        lambda x: -like(x < 1, x),
        [1.0, 0.5, 1.4, 1.0, -0.2],
        KINK,
        kink=True,
    ),
    elementwise(
        "huber at the joint",
        _huber,
        lambda x: jnp.clip(x, -1, 1),
        [1.0, 0.3, -1.0, 2.0, -3.0],
        KINK,
    ),
)
