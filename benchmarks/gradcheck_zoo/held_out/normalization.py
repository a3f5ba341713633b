"""Bugs in the backward pass of norms other than batch and layer normalization."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like

EPS = 1e-5


def rms_norm(x, gamma):
    return gamma[None, :] * x * lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + EPS)


def rms_norm_right(dout, x, gamma, *, weight=1.0):
    inverse = lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + EPS)
    n = x * inverse
    g = dout * gamma[None, :]
    return inverse * (g - weight * n * (g * n).mean(1, keepdims=True)), (dout * n).sum(0)


def _standardized(x, axis):
    centred = x - x.mean(axis, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(axis, keepdims=True) + EPS)


def group_norm(x):
    """Two groups of three channels."""
    return _standardized(x.reshape(len(x), 2, 3), 2).reshape(x.shape)


def _group_norm_backward(over):
    """Return the backward pass with the statistics' terms averaged over these axes."""

    def vjp(dout, x):
        grouped, g = x.reshape(len(x), 2, 3), dout.reshape(len(x), 2, 3)
        centred = grouped - grouped.mean(2, keepdims=True)
        inverse = lax.rsqrt(jnp.square(centred).mean(2, keepdims=True) + EPS)
        n = centred * inverse
        dx = g - g.mean(over, keepdims=True) - n * (g * n).mean(over, keepdims=True)
        return ((inverse * dx).reshape(x.shape),)

    return vjp


# w = g·v/‖v‖, a length for each column


def weight_norm(x, v, g):
    return x @ (g[None, :] * v / jnp.sqrt(jnp.square(v).sum(0, keepdims=True)))


def weight_norm_right(dout, x, v, g, *, projected=True, normed=True):
    length = jnp.sqrt(jnp.square(v).sum(0, keepdims=True))
    n, dw = v / length, x.T @ dout
    along = (dw * n).sum(0)
    dv = g[None, :] / length * (dw - (n * along[None, :] if projected else 0))
    dg = along if normed else (dw * v).sum(0)
    return dout @ (g[None, :] * n).T, dv, dg


# (x − mean)/(σ + ε), ε beside the root


def std_norm(x):
    centred = x - x.mean(1, keepdims=True)
    return centred / (jnp.sqrt(jnp.square(centred).mean(1, keepdims=True)) + 1e-3)


def _eps_inside(x):
    """The same forward values to a part in 1e3, ε² inside the root."""
    centred = x - x.mean(1, keepdims=True)
    return centred / jnp.sqrt(jnp.square(centred).mean(1, keepdims=True) + 1e-3**2)


# w/σ(w), σ the largest singular value


def spectral(w):
    return w / jnp.linalg.norm(w, 2)


def _spectral_backward(weight):
    def vjp(dout, w):
        u, s, vt = jnp.linalg.svd(w, full_matrices=False)
        return (dout / s[0] - weight * (dout * w).sum() / s[0] ** 2 * jnp.outer(u[:, 0], vt[0]),)

    return vjp


def cosine(a, b):
    return (a * b).sum(1) / jnp.sqrt(jnp.square(a).sum(1) * jnp.square(b).sum(1))


def cosine_right(dout, a, b, *, second=True):
    length_a = jnp.sqrt(jnp.square(a).sum(1, keepdims=True))
    length_b = jnp.sqrt(jnp.square(b).sum(1, keepdims=True))
    n, m = a / length_a, b / length_b
    similarity = (n * m).sum(1, keepdims=True)
    dout = dout[:, None]
    db = dout / length_b * (n - m * similarity if second else n)
    return dout / length_a * (m - n * similarity), db


def three_norm(x):
    return (jnp.abs(x) ** 3).sum() ** (1 / 3)


def _softmax_temperature(x, t):
    return jax.nn.softmax(x / t, axis=1)


def _temperature_backward(power):
    def vjp(dout, x, t):
        p = _softmax_temperature(x, t)
        dz = p * (dout - (p * dout).sum(1, keepdims=True))
        return dz / t, -(dz * x).sum() / t**power

    return vjp


_PEAKED = 4 * draw(229, (3, 4))[0]
BUGS = (
    Bug(
        "rms constant",
        "the root mean square's term missing",
        rms_norm,
        draw(220, (4, 6), (6,)),
        rms_norm_right,
        lambda dout, x, gamma: rms_norm_right(dout, x, gamma, weight=0.0),
    ),
    Bug(
        "rms sum for mean",
        "in its term",
        rms_norm,
        draw(221, (4, 6), (6,)),
        rms_norm_right,
        lambda dout, x, gamma: rms_norm_right(dout, x, gamma, weight=6.0),
    ),
    Bug(
        "group statistics over all",
        "channels, not those of the group",
        group_norm,
        draw(222, (4, 6)),
        _group_norm_backward(2),
        _group_norm_backward((1, 2)),
    ),
    Bug(
        "weight norm not projected",
        "dv along v",
        weight_norm,
        draw(223, (5, 4), (4, 3), (3,)),
        weight_norm_right,
        lambda dout, *args: weight_norm_right(dout, *args, projected=False),
    ),
    Bug(
        "weight norm dg by v",
        "v for v/‖v‖",
        weight_norm,
        draw(224, (5, 4), (4, 3), (3,)),
        weight_norm_right,
        lambda dout, *args: weight_norm_right(dout, *args, normed=False),
    ),
    Bug(
        "eps inside the root",
        "in the backward pass, beside it in the forward one",
        std_norm,
        draw(225, (4, 6)),
        autodiff(std_norm),
        autodiff(_eps_inside),
    ),
    Bug(
        "spectral norm constant",
        "σ's own gradient missing",
        spectral,
        draw(226, (4, 3)),
        _spectral_backward(1.0),
        _spectral_backward(0.0),
    ),
    Bug(
        "cosine length constant",
        "‖b‖ in db",
        cosine,
        draw(227, (5, 4), (5, 4)),
        cosine_right,
        lambda dout, a, b: cosine_right(dout, a, b, second=False),
    ),
    Bug(
        "three-norm sign",
        "x² for x·|x|",
        three_norm,
        draw(228, (6,)),
        lambda dout, x: (dout * x * jnp.abs(x) / like(three_norm(x), x) ** 2,),
        lambda dout, x: (dout * x * x / like(three_norm(x), x) ** 2,),
    ),
    Bug(
        "temperature once",
        "1/t for 1/t² in dt",
        _softmax_temperature,
        (_PEAKED, np.array(1.7)),
        _temperature_backward(2),
        _temperature_backward(1),
    ),
)
