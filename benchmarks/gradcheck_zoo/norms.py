"""Bugs in the backward pass of batch and layer normalization and of x/‖x‖."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gradcheck_zoo.row import Bug, draw

EPS = 1e-5


def _normalize(x, axis):
    centred = x - x.mean(axis, keepdims=True)
    inverse = lax.rsqrt(jnp.square(centred).mean(axis, keepdims=True) + EPS)
    return centred * inverse, inverse


def _norm(axis):
    def f(x, gamma, beta):
        return gamma[None, :] * _normalize(x, axis)[0] + beta[None, :]

    def right(dout, x, gamma, beta):
        return _gradients(axis, _through_statistics(axis), dout, x, gamma)

    return f, right


def _gradients(axis, dx, dout, x, gamma):
    x_hat, inverse = _normalize(x, axis)
    return dx(dout * gamma[None, :], x_hat, inverse), (dout * x_hat).sum(0), dout.sum(0)


def _through_statistics(axis, *, mean=1.0, variance=1.0):
    """Return dx(g, x̂, 1/σ); the weights of the two statistics' terms are 1 where it is right."""

    def dx(g, x_hat, inverse):
        mean_g = g.mean(axis, keepdims=True)
        mean_gx = (g * x_hat).mean(axis, keepdims=True)
        return inverse * (g - mean * mean_g - variance * x_hat * mean_gx)

    return dx


def _norm_bug(name, description, axis, args, dx):
    def wrong(dout, x, gamma, beta):
        return _gradients(axis, dx, dout, x, gamma)

    return Bug(name, description, *_swap(axis, args), wrong)


def _swap(axis, args):
    f, right = _norm(axis)
    return f, args, right


batchnorm, batchnorm_right = _norm(0)
BATCH = draw(30, (8, 5), (5,), (5,))
ROWS = draw(31, (5, 5), (5,), (5,))


def _gamma_missing(dout, x, gamma, beta):
    _, dgamma, dbeta = batchnorm_right(dout, x, gamma, beta)
    return batchnorm_right(dout, x, jnp.ones_like(gamma), beta)[0], dgamma, dbeta


def _dgamma_by_x(dout, x, gamma, beta):
    dx, _, dbeta = batchnorm_right(dout, x, gamma, beta)
    return dx, (dout * x).sum(0), dbeta


def _one_fewer(g, x_hat, inverse):
    batch = len(g)
    return inverse * (g - (g.sum(0)[None, :] + x_hat * (g * x_hat).sum(0)[None, :]) / (batch - 1))


def _eps_missing(dout, x, gamma, beta):
    _, dgamma, dbeta = batchnorm_right(dout, x, gamma, beta)
    centred = x - x.mean(0, keepdims=True)
    inverse = lax.rsqrt(jnp.square(centred).mean(0, keepdims=True))
    dx = _through_statistics(0)(dout * gamma[None, :], centred * inverse, inverse)
    return dx, dgamma, dbeta


def unit(x):
    return x / jnp.sqrt(jnp.square(x).sum(1, keepdims=True))


def unit_right(dout, x):
    length = jnp.sqrt(jnp.square(x).sum(1, keepdims=True))
    n = x / length
    return ((dout - n * (n * dout).sum(1, keepdims=True)) / length,)


BUGS = (
    _norm_bug(
        "batchnorm statistics constant",
        "mean and variance",
        0,
        BATCH,
        _through_statistics(0, mean=0, variance=0),
    ),
    _norm_bug(
        "batchnorm variance constant",
        "its term missing",
        0,
        BATCH,
        _through_statistics(0, variance=0),
    ),
    Bug(
        "batchnorm gamma missing",
        "in dx",
        batchnorm,
        BATCH,
        batchnorm_right,
        _gamma_missing,
    ),
    Bug(
        "batchnorm gamma missing at 1",
        "in dx, where gamma is 1: nothing to see",
        batchnorm,
        (BATCH[0], np.ones(5), BATCH[2]),
        batchnorm_right,
        _gamma_missing,
        visible=False,
    ),
    Bug("dgamma by x", "x for x̂", batchnorm, BATCH, batchnorm_right, _dgamma_by_x),
    _norm_bug("batchnorm N − 1", "in the statistics' terms", 0, BATCH, _one_fewer),
    Bug(
        "eps missing",
        "1e-5 in the backward pass: 1e-5 of dx",
        batchnorm,
        BATCH,
        batchnorm_right,
        _eps_missing,
    ),
    _norm_bug("layernorm mean twice", "subtracted", 1, ROWS, _through_statistics(1, mean=2)),
    _norm_bug(
        "layernorm x̂ term",
        "missing",
        1,
        draw(32, (4, 6), (6,), (6,)),
        _through_statistics(1, variance=0),
    ),
    _norm_bug(
        "layernorm axis",
        "means over the batch, as large as a row",
        1,
        ROWS,
        _through_statistics(0),
    ),
    Bug(
        "projection missing",
        "x/‖x‖ with ‖x‖ constant",
        unit,
        draw(33, (5, 4)),
        unit_right,
        lambda dout, x: (dout / jnp.sqrt(jnp.square(x).sum(1, keepdims=True)),),
    ),
)
