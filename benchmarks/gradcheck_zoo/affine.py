"""Bugs in the backward pass of x·w + b, of nets of two such layers, and of the L2 term."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, draw, like

SQUARE = draw(1, (6, 6), (6, 6), (6,))  # batch, inputs and outputs alike: shapes hide nothing
OLD_BATCH = draw(2, (6, 6))[0]


def affine(x, w, b):
    return x @ w + b[None, :]


def affine_right(dout, x, w, b):
    return dout @ w.T, x.T @ dout, dout.sum(0)


def _affine_bug(name, description, wrong):
    return Bug(name, description, affine, SQUARE, affine_right, wrong)


def _updated_weights(dout, x, w, b):
    dw = x.T @ dout
    return dout @ (w - 1e-3 * dw).T, dw, dout.sum(0)


# ½·Σ(x·w + b)²/batch


def half_mean_square(x, w, b):
    return 0.5 * jnp.square(affine(x, w, b)).sum() / len(x)


def half_mean_square_right(dout, x, w, b):
    return affine_right(dout * affine(x, w, b) / len(x), x, w, b)


def _batch_twice(dout, x, w, b):
    dx, dw, db = half_mean_square_right(dout, x, w, b)
    return dx, dw / len(x), db


# tanh(x·w1)·w2


def two_layer(x, w1, w2):
    return jnp.tanh(x @ w1) @ w2


def two_layer_right(dout, x, w1, w2, *, cached=None):
    hidden = jnp.tanh(x @ w1)
    dhidden = (dout @ w2.T) * (1 - hidden * hidden)
    return dhidden @ w1.T, x.T @ dhidden, (hidden if cached is None else cached).T @ dout


def skip(x, w):
    return x + jnp.tanh(x @ w)


def skip_right(dout, x, w):
    hidden = jnp.tanh(x @ w)
    dhidden = dout * (1 - hidden * hidden)
    return dout + dhidden @ w.T, x.T @ dhidden


def _skip_lost(dout, x, w):
    dx, dw = skip_right(dout, x, w)
    return dx - dout, dw


def layer_scale(x, scale):
    return x + scale[None, :] * jnp.sin(x)


def layer_scale_right(dout, x, scale):
    return dout + dout * scale[None, :] * jnp.cos(x), (dout * jnp.sin(x)).sum(0)


def _scale_lost(dout, x, scale):
    return dout + dout * jnp.cos(x), (dout * jnp.sin(x)).sum(0)


def tied(x, w):
    return jnp.tanh(x @ w) @ w.T


def tied_right(dout, x, w):
    hidden = jnp.tanh(x @ w)
    dhidden = (dout @ w) * (1 - hidden * hidden)
    return dhidden @ w.T, x.T @ dhidden + dout.T @ hidden


def _tied_once(dout, x, w):
    hidden = jnp.tanh(x @ w)
    dhidden = (dout @ w) * (1 - hidden * hidden)
    return dhidden @ w.T, x.T @ dhidden


# mean cross-entropy of x·w, + ½·λ·Σw²

L2 = 1e-4
LABELS = np.array([0, 3, 1, 2, 2, 0], np.int32)


def penalized(x, w):
    log_p = jax.nn.log_softmax(x @ w, axis=1)
    data = -(log_p * jax.nn.one_hot(LABELS, w.shape[1], dtype=x.dtype)).sum() / len(x)
    return data + 0.5 * L2 * jnp.square(w).sum()


def penalized_right(dout, x, w, *, l2=L2):
    p = jax.nn.softmax(x @ w, axis=1)
    dscores = dout * (p - jax.nn.one_hot(LABELS, w.shape[1], dtype=x.dtype)) / len(x)
    return dscores @ w.T, x.T @ dscores + dout * l2 * w


def broadcast(x, scale):
    return x * scale[:, None]


def broadcast_right(dout, x, scale):
    return dout * scale[:, None], (dout * x).sum(1)


def concatenated(x, y):
    return jnp.concatenate([jnp.sin(x), jnp.tanh(y)], axis=1)


def concatenated_right(dout, x, y):
    left, right = jnp.split(dout, 2, axis=1)
    return left * jnp.cos(x), right * (1 - jnp.square(jnp.tanh(y)))


def _halves_exchanged(dout, x, y):
    return concatenated_right(jnp.roll(dout, x.shape[1], axis=1), x, y)


_XW = draw(3, (6, 5), (5, 5))
_PENALIZED = draw(4, (6, 5), (5, 4))
BUGS = (
    _affine_bug(
        "dw transposed",
        "square weights",
        lambda dout, x, w, b: (dout @ w.T, dout.T @ x, dout.sum(0)),
    ),
    _affine_bug(
        "dx by w",
        "dout·w for dout·wᵀ, square weights",
        lambda dout, x, w, b: (dout @ w, x.T @ dout, dout.sum(0)),
    ),
    _affine_bug(
        "db mean",
        "mean over the batch for the sum",
        lambda dout, x, w, b: (dout @ w.T, x.T @ dout, dout.mean(0)),
    ),
    _affine_bug(
        "db forgotten",
        "zeros",
        lambda dout, x, w, b: (dout @ w.T, x.T @ dout, jnp.zeros_like(b)),
    ),
    _affine_bug(
        "db wrong axis",
        "summed over outputs, as many as rows",
        lambda dout, x, w, b: (dout @ w.T, x.T @ dout, dout.sum(1)),
    ),
    Bug(
        "batch twice",
        "dw divided by the batch twice",
        half_mean_square,
        SQUARE,
        half_mean_square_right,
        _batch_twice,
    ),
    _affine_bug("updated weights", "dx uses w − 1e-3·dw", _updated_weights),
    Bug(
        "l2 missing",
        "λ = 1e-4 in the loss only",
        penalized,
        _PENALIZED,
        penalized_right,
        lambda dout, x, w: penalized_right(dout, x, w, l2=0.0),
    ),
    Bug(
        "l2 doubled",
        "2·λ·w for λ·w, λ = 1e-4",
        penalized,
        _PENALIZED,
        penalized_right,
        lambda dout, x, w: penalized_right(dout, x, w, l2=2 * L2),
    ),
    Bug(
        "tied once", "weights used twice, one use differentiated", tied, _XW, tied_right, _tied_once
    ),
    Bug(
        "cache of the layer before",
        "dw2 from x for tanh(x·w1), equal widths",
        two_layer,
        draw(5, (6, 5), (5, 5), (5, 5)),
        two_layer_right,
        lambda dout, x, w1, w2: two_layer_right(dout, x, w1, w2, cached=x),
    ),
    _affine_bug(
        "stale batch",
        "dw from the x of the step before",
        lambda dout, x, w, b: (dout @ w.T, like(OLD_BATCH, x).T @ dout, dout.sum(0)),
    ),
    Bug("skip lost", "the identity's gradient is missing", skip, _XW, skip_right, _skip_lost),
    Bug(
        "layer scale lost",
        "the branch's dx without its scale",
        layer_scale,
        draw(6, (5, 4), (4,)),
        layer_scale_right,
        _scale_lost,
    ),
    Bug(
        "broadcast axis",
        "summed over the wrong axis of a square",
        broadcast,
        draw(7, (5, 5), (5,)),
        broadcast_right,
        lambda dout, x, scale: (dout * scale[:, None], (dout * x).sum(0)),
    ),
    Bug(
        "concat exchanged",
        "the halves of dout exchanged",
        concatenated,
        draw(8, (4, 3), (4, 3)),
        concatenated_right,
        _halves_exchanged,
    ),
)
