"""Bugs in the backward pass of gated cells, scans and implicit layers."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw

# One step of an LSTM: i, f, g, o of x·w + h·u; c' = f·c + i·g, h' = o·tanh c'


def _gates(x, h, w, u):
    i, f, g, o = jnp.split(x @ w + h @ u, 4, axis=1)
    return jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)


def lstm(x, h, c, w, u):
    i, f, g, o = _gates(x, h, w, u)
    return o * jnp.tanh(f * c + i * g)


def lstm_right(dout, x, h, c, w, u, *, forget=1.0, slope=1.0):
    i, f, g, o = _gates(x, h, w, u)
    t = jnp.tanh(f * c + i * g)
    dc = dout * o * (1 - slope * t * t)
    parts = (
        dc * g * i * (1 - i),
        forget * dc * c * f * (1 - f),
        dc * i * (1 - g * g),
        dout * t * o * (1 - o),
    )
    dz = jnp.concatenate(parts, axis=1)
    return dz @ w.T, dz @ u.T, dc * f, x.T @ dz, h.T @ dz


# One step of a GRU: z, r; n = tanh(x + r·(h·u)), h' = (1 − z)·n + z·h


def gru(x, h, u):
    z, r = jax.nn.sigmoid(x + h), jax.nn.sigmoid(x - h)
    return (1 - z) * jnp.tanh(x + r * (h @ u)) + z * h


def _reset_constant(x, h, u):
    z, r = jax.nn.sigmoid(x + h), lax.stop_gradient(jax.nn.sigmoid(x - h))
    return (1 - z) * jnp.tanh(x + r * (h @ u)) + z * h


# y_t = a·y_{t−1} + x_t by a scan


def _averages(a, start, xs):
    def step(y, x):
        y = a[None, :] * y + x
        return y, y

    return lax.scan(step, start, xs)[1]


def averages(a, start, xs):
    return jnp.tanh(_averages(a, start, xs))


def averages_right(dout, a, start, xs, *, late=False, to_start=True):
    ys = _averages(a, start, xs)
    dys = dout * (1 - jnp.square(jnp.tanh(ys)))
    before = ys if late else jnp.concatenate([start[None], ys[:-1]])

    def back(carry, at):
        dy, y = at
        total = dy + carry
        return a[None, :] * total, (total, (total * y).sum(0))

    dstart, (dxs, da) = lax.scan(back, jnp.zeros_like(start), (dys, before), reverse=True)
    return da.sum(0), dstart if to_start else jnp.zeros_like(dstart), dxs


def running_sum(x):
    return jnp.cumsum(jnp.sin(x), axis=0)


def running_sum_right(dout, x):
    return (jnp.cumsum(dout[::-1], axis=0)[::-1] * jnp.cos(x),)


# y = tanh(w·y + x), solved by iteration: dx = (I − J)⁻ᵀ·dout, one step of it is J's first term


def _solved(w, x):
    return lax.fori_loop(0, 120, lambda _, y: jnp.tanh(w @ y + x), jnp.zeros_like(x))


def _implicit(iterations):
    def vjp(dout, w, x):
        y = _solved(w, x)
        slope = 1 - y * y
        adjoint = lax.fori_loop(
            0, iterations, lambda _, v: dout + w.T @ (slope * v), jnp.zeros_like(dout)
        )
        return jnp.outer(slope * adjoint, y), slope * adjoint

    return vjp


_LSTM = draw(210, (3, 4), (3, 2), (3, 2), (4, 8), (2, 8))
_AVERAGES = draw(211, (4,), (2, 4), (5, 2, 4))
_W, _X = draw(212, (4, 4), (4,))
_FIXED = 0.2 * _W, _X  # a contraction
BUGS = (
    Bug(
        "forget gate dropped",
        "nothing flows into it",
        lstm,
        _LSTM,
        lstm_right,
        lambda dout, *args: lstm_right(dout, *args, forget=0.0),
    ),
    Bug(
        "cell not squashed",
        "1 for 1 − tanh² on the way to the cell",
        lstm,
        _LSTM,
        lstm_right,
        lambda dout, *args: lstm_right(dout, *args, slope=0.0),
    ),
    Bug(
        "reset gate constant",
        "of a GRU",
        gru,
        draw(213, (3, 4), (3, 4), (4, 4)),
        autodiff(gru),
        autodiff(_reset_constant),
    ),
    Bug(
        "decay by the later value",
        "y_t for y_{t−1} in da",
        averages,
        (0.5 + 0.1 * _AVERAGES[0], *_AVERAGES[1:]),
        averages_right,
        lambda dout, *args: averages_right(dout, *args, late=True),
    ),
    Bug(
        "carry lost at the start",
        "zeros for the gradient of the first carry",
        averages,
        (0.5 + 0.1 * _AVERAGES[0], *_AVERAGES[1:]),
        averages_right,
        lambda dout, *args: averages_right(dout, *args, to_start=False),
    ),
    Bug(
        "cumsum not reversed",
        "in the backward pass",
        running_sum,
        draw(214, (5, 3)),
        running_sum_right,
        lambda dout, x: (jnp.cumsum(dout, axis=0) * jnp.cos(x),),
    ),
    Bug(
        "one step of the adjoint",
        "of an implicit layer",
        _solved,
        _FIXED,
        _implicit(120),
        _implicit(1),
    ),
    Bug("eight steps of the adjoint", "unconverged", _solved, _FIXED, _implicit(120), _implicit(8)),
)
