"""Bugs in the backward pass of attention beyond its scale and its causal mask."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like

KEPT = np.array([1, 1, 0, 1])  # keys that are no padding


def _softmax_backward(p, dp):
    return p * (dp - (p * dp).sum(-1, keepdims=True))


# p = softmax(q·kᵀ), padding zeroed after it, and what is left made to sum to 1


def renormalized(scores):
    kept = like(KEPT, scores)[None, :]
    p = jax.nn.softmax(scores, axis=1) * kept
    return p / p.sum(1, keepdims=True)


def renormalized_right(dout, scores, *, through_sum=True):
    p = jax.nn.softmax(scores, axis=1)
    kept = like(KEPT, scores)[None, :]
    total = (p * kept).sum(1, keepdims=True)
    out = p * kept / total
    if through_sum:
        dout = dout - (dout * out).sum(1, keepdims=True)
    return (_softmax_backward(p, dout * kept / total),)


# Pairs of features turned by an angle that grows with the position


def rotary(x, *, sign=1.0):
    even, odd = x[:, ::2], x[:, 1::2]
    angles = like(np.outer(np.arange(len(x)), [1.0, 0.1]), x)
    cos, sin = jnp.cos(angles), sign * jnp.sin(angles)
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=2).reshape(x.shape)


# Heads: [length, heads·size] -> [heads, length, size]; here heads = length


def _split(x, heads):
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def _merge(x):
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)


def heads(x):
    split = _split(x, 4)
    return _merge(jax.nn.softmax(split @ split.transpose(0, 2, 1), axis=2) @ split)


def _merged_untransposed(dout, x):
    def body(split):
        return jax.nn.softmax(split @ split.transpose(0, 2, 1), axis=2) @ split

    split, pull = jax.vjp(lambda x: _split(x, 4), x)
    dheads = dout.reshape(4, len(x), -1)  # as if heads were the leading axis of the output
    return pull(autodiff(body)(dheads, split)[0])


# Two queries share a key: q [2·groups, size], k [groups, size]


def grouped(q, k):
    return jnp.tanh((q.reshape(3, 2, 5) * k[:, None, :]).sum(2)) / math.sqrt(5)


def grouped_right(dout, q, k, *, counted=2):
    shared = q.reshape(3, 2, 5)
    slope = 1 - jnp.square(jnp.tanh((shared * k[:, None, :]).sum(2)))
    g = (dout * slope / math.sqrt(5))[:, :, None]
    return (g * k[:, None, :]).reshape(q.shape), (g * shared)[:, :counted].sum(1)


BUGS = (
    Bug(
        "padding not renormalized",
        "the sum over what is no padding taken as constant",
        renormalized,
        draw(200, (3, 4)),
        renormalized_right,
        lambda dout, scores: renormalized_right(dout, scores, through_sum=False),
    ),
    Bug(
        "rotary sign",
        "turned onwards for back",
        rotary,
        draw(201, (5, 4)),
        lambda dout, x: (rotary(dout, sign=-1.0),),
        lambda dout, x: (rotary(dout),),
    ),
    Bug(
        "heads not transposed",
        "in the backward pass of merging; as many as positions",
        heads,
        draw(202, (4, 8)),
        autodiff(heads),
        _merged_untransposed,
    ),
    Bug(
        "one query of a group",
        "dk of the first of two that share it",
        grouped,
        draw(203, (6, 5), (3, 5)),
        grouped_right,
        lambda dout, q, k: grouped_right(dout, q, k, counted=1),
    ),
)
