"""Bugs in the backward pass of embeddings, recurrent nets, attention and sharded sums."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gradcheck_zoo.row import Bug, draw, like

IDS = np.array([2, 0, 2, 5, 1, 2, 0], np.int32)


def embed(table):
    return jnp.sin(table[IDS])


def embed_right(dout, table):
    return (jnp.zeros_like(table).at[IDS].add(dout * jnp.cos(table[IDS])),)


def _scatter_set(dout, table):
    return (jnp.zeros_like(table).at[IDS].set(dout * jnp.cos(table[IDS])),)


# h_t = tanh(x_t + h_{t−1}·w + b), h_0 given; out = h_T


def recurrent(xs, w, b, start):
    h = start
    for x in xs:
        h = jnp.tanh(x + h @ w + b)
    return h


def recurrent_right(dout, xs, w, b, start, *, first=0, bias_steps=None):
    hs = [start]
    for x in xs:
        hs.append(jnp.tanh(x + hs[-1] @ w + b))
    dxs, dw, db, dh = [], jnp.zeros_like(w), jnp.zeros_like(b), dout
    for step in reversed(range(len(xs))):
        dz = dh * (1 - jnp.square(hs[step + 1]))
        dxs.append(dz)
        if step >= first:
            dw = dw + hs[step][:, None] * dz[None, :]
        if bias_steps is None or step >= len(xs) - bias_steps:
            db = db + dz
        dh = w @ dz
    return jnp.stack(dxs[::-1]), dw, db, dh


def _mask(size):
    return np.tril(np.ones((size, size), bool))


def attention(q, k, v, *, causal=False):
    scores = q @ k.T / math.sqrt(q.shape[1])
    return jax.nn.softmax(jnp.where(_mask(len(q)) | (not causal), scores, -jnp.inf), axis=1) @ v


def attention_right(dout, q, k, v, *, causal=False, masked=None, q_scale=None):
    scale = 1 / math.sqrt(q.shape[1])
    scores = q @ k.T * scale
    masked = causal if masked is None else masked
    p = jax.nn.softmax(jnp.where(_mask(len(q)) | (not masked), scores, -jnp.inf), axis=1)
    dp = dout @ v.T
    dscores = p * (dp - (dp * p).sum(1, keepdims=True))
    return dscores @ k * (q_scale or scale), dscores.T @ q * scale, p.T @ dout


def causal_attention(q, k, v):
    return attention(q, k, v, causal=True)


def causal_attention_right(dout, q, k, v):
    return attention_right(dout, q, k, v, causal=True)


(SHARDS,) = draw(50, (4, 3, 5))


def sharded(w):
    return jnp.square(jnp.tanh(like(SHARDS, w) @ w)).sum()


def _across_devices(combine):
    def vjp(dout, w):
        def shard(x):
            hidden = jnp.tanh(x @ w)
            return combine(x.T @ (2 * dout * hidden * (1 - hidden * hidden)), "devices")

        return (jax.vmap(shard, axis_name="devices")(like(SHARDS, w))[0],)

    return vjp


_RECURRENT = draw(51, (5, 4), (4, 4), (4,), (4,))
_QKV = draw(52, (5, 4), (5, 4), (5, 4))
BUGS = (
    Bug(
        "scatter set", "for add: one id thrice", embed, draw(53, (6, 3)), embed_right, _scatter_set
    ),
    Bug(
        "time step dropped",
        "dw without step 0",
        recurrent,
        _RECURRENT,
        recurrent_right,
        lambda dout, *args: recurrent_right(dout, *args, first=1),
    ),
    Bug(
        "attention scale",
        "1/√d missing in dq",
        attention,
        _QKV,
        attention_right,
        lambda dout, q, k, v: attention_right(dout, q, k, v, q_scale=1.0),
    ),
    Bug(
        "bias of the last step",
        "db of one of five steps",
        recurrent,
        _RECURRENT,
        recurrent_right,
        lambda dout, *args: recurrent_right(dout, *args, bias_steps=1),
    ),
    Bug(
        "causal mask absent",
        "in the backward pass",
        causal_attention,
        _QKV,
        causal_attention_right,
        lambda dout, q, k, v: attention_right(dout, q, k, v, causal=True, masked=False),
    ),
    Bug(
        "pmean for psum",
        "over four shards",
        sharded,
        draw(54, (5,)),
        _across_devices(lax.psum),
        _across_devices(lax.pmean),
    ),
    Bug(
        "dq and dk exchanged",
        "returned in the wrong order",
        attention,
        _QKV,
        attention_right,
        lambda dout, q, k, v: tuple(attention_right(dout, q, k, v)[i] for i in (1, 0, 2)),
    ),
)
