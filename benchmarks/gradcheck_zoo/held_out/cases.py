"""Right gradients that are hard in other ways than those the checker was made with."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gradcheck_zoo.row import (
    KINK,
    UNSURE,
    Case,
    draw,
    elementwise,
    like,
    same,
    weighted_sum,
    weights,
)

SURROGATE = {"expected": "surrogate"}

# σ of a power iteration that has converged: ∂σ/∂u and ∂σ/∂v vanish, u·vᵀ is the whole gradient


def _spectral(w):
    def step(_, v):
        v = w.T @ (w @ v)
        return v / jnp.sqrt(v @ v)

    v = lax.stop_gradient(lax.fori_loop(0, 300, step, jnp.ones_like(w[0])))
    u = lax.stop_gradient(w @ v / jnp.sqrt((w @ v) @ (w @ v)))
    return weighted_sum(w / (u @ w @ v))


def _spectral_grad(w):
    u, s, vt = jnp.linalg.svd(w, full_matrices=False)
    g = weights(w)
    return (g / s[0] - (g * w).sum() / s[0] ** 2 * jnp.outer(u[:, 0], vt[0]),)


# Signs with the gradient of a clipped identity, and the nearest entry of a codebook


def _binary(x):
    clipped = jnp.clip(x, -1, 1)
    return weighted_sum(clipped + lax.stop_gradient(jnp.sign(x) - clipped))


def _codebook(x, book):
    nearest = jnp.square(x[:, None] - book[None, :]).argmin(1)
    chosen = book[nearest]
    commitment = jnp.square(x - lax.stop_gradient(chosen)).sum()
    codes = jnp.square(lax.stop_gradient(x) - chosen).sum()
    return weighted_sum(x + lax.stop_gradient(chosen - x)) + 0.25 * commitment + codes


def _codebook_grad(x, book):
    nearest = jnp.square(x[:, None] - book[None, :]).argmin(1)
    difference = x - book[nearest]
    return weights(x) + 0.5 * difference, jnp.zeros_like(book).at[nearest].add(-2 * difference)


# Functions of eigenvalues, of which three are alike


def _spectrum(a):
    return jnp.exp(jnp.linalg.eigvalsh(a)).sum()


def _spectrum_grad(a):
    return (jax.scipy.linalg.expm((a + a.T) / 2),)


_Q, _ = np.linalg.qr(draw(280, (4, 4))[0])
ALIKE = (_Q * np.array([1.0, 1.0, 1.0, -0.5])[None, :]) @ _Q.T
HILBERT = 1 / (np.arange(6)[:, None] + np.arange(6)[None, :] + 1.0)


def _solved(a, b):
    return weighted_sum(jnp.linalg.solve(a, b))


def _solved_grad(a, b):
    adjoint = jnp.linalg.solve(a.T, weights(b))
    return -jnp.outer(adjoint, jnp.linalg.solve(a, b)), adjoint


# Kinks


def _length_grad(x):
    length = jnp.sqrt((x * x).sum())
    return (jnp.where(length > 0, x / jnp.where(length > 0, length, 1), 0),)


def _length(x):
    return jnp.sqrt((x * x).sum())


def _pooled_relu(x):
    return jnp.square(jax.nn.relu(x).reshape(-1, 2).max(1) + 1).sum()


def _pooled_relu_grad(x):
    y = jax.nn.relu(x).reshape(-1, 2)
    first = jnp.arange(2)[None, :] == y.argmax(1)[:, None]
    return (jnp.where(first & (x.reshape(-1, 2) > 0), 2 * (y + 1), 0).ravel(),)


def _clipped_by_norm(x):
    return weighted_sum(x * jnp.minimum(1, 1 / jnp.sqrt((x * x).sum())))


def _hard_swish(x):
    return x * jnp.clip(x + 3, 0, 6) / 6


def _hard_swish_slope(x):
    return jnp.where(x <= -3, 0, jnp.where(x >= 3, 1, (2 * x + 3) / 6))


HEIGHTS = np.array([0.0, 2.0, 1.0, 5.0])


def _knots(x):
    return weighted_sum(jnp.interp(x, jnp.arange(4, dtype=x.dtype), like(HEIGHTS, x)))


def _knots_grad(x):
    left = jnp.clip(jnp.floor(x).astype(jnp.int32), 0, 2)
    heights = like(HEIGHTS, x)
    return (weights(x) * (heights[left + 1] - heights[left]),)


# Rounding, cancellation, chaos


def _variance(x):
    return (x * x).mean() - x.mean() ** 2


def _chaotic(x):
    return lax.fori_loop(0, 25, lambda _, y: 3.9 * y * (1 - y), x).sum()


def _pendulum(start):
    def slope(y):
        return jnp.stack([y[1], -jnp.sin(y[0])])

    def step(_, y):
        a = slope(y)
        b = slope(y + 0.05 * a)
        c = slope(y + 0.05 * b)
        return y + 0.1 / 6 * (a + 2 * b + 2 * c + slope(y + 0.1 * c))

    return weighted_sum(lax.fori_loop(0, 100, step, start))


def _inner_bfloat16(x, w):
    y = x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)
    return jnp.square(y.astype(x.dtype)).sum()


def _inner_bfloat16_grad(x, w):
    y = (x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(x.dtype)
    return 2 * y @ w.T, 2 * x.T @ y


def _entropy(p):
    return -(p * jnp.log(p)).sum()


# Guards: values that must not be divided by, or taken a root of


def _sinc(x):
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 1, jnp.sin(safe) / safe)


def _sinc_slope(x):
    safe = jnp.where(x == 0, 1, x)
    return jnp.where(x == 0, 0, (jnp.cos(safe) - jnp.sin(safe) / safe) / safe)


def _pairwise(x):
    squares = jnp.square(x[:, None, :] - x[None, :, :]).sum(2)
    self_pair = jnp.eye(len(x), dtype=bool)
    return jnp.where(self_pair, 0, jnp.sqrt(jnp.where(self_pair, 1, squares))).sum()


def _masked_attention(scores):
    mask = np.tril(np.ones((4, 4), bool))
    return weighted_sum(jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=1))


def _one_feature(x, gamma, beta):
    centred = x - x.mean(1, keepdims=True)
    inverse = lax.rsqrt(jnp.square(centred).mean(1, keepdims=True) + 1e-5)
    return weighted_sum(gamma[None, :] * centred * inverse + beta[None, :])


def _one_feature_grad(x, gamma, beta):
    return jnp.zeros_like(x), jnp.zeros_like(gamma), weights(x).sum(0)


CASES = (
    Case("spectral norm, u and v constant", _spectral, draw(281, (4, 3)), _spectral_grad),
    Case(
        "sign, clipped straight-through",
        _binary,
        draw(282, (6,)),
        lambda x: (weights(x) * like(jnp.abs(x) < 1, x),),
        KINK | UNSURE,
        SURROGATE,
        plain=False,
    ),
    Case(
        "codebook",
        _codebook,
        draw(283, (5,), (3,)),
        _codebook_grad,
        KINK | UNSURE,
        SURROGATE,
        plain=False,
    ),
    Case("eigenvalues alike", _spectrum, (ALIKE,), _spectrum_grad),
    Case("solve with Hilbert's matrix", _solved, (HILBERT, np.ones(6)), _solved_grad, UNSURE),
    Case("length of 0", _length, (np.zeros(4),), _length_grad, KINK, kink=True),
    Case("length of 1e-9", _length, (1e-9 * draw(284, (4,))[0],), _length_grad, UNSURE),
    Case(
        "pool of dead units",
        _pooled_relu,
        (np.array([0.0, 0.0, -1.0, -2.0, 1.0, 0.5, 0.7, 0.7]),),
        _pooled_relu_grad,
        KINK,
        kink=True,
    ),
    same("clipped by a norm of 1", _clipped_by_norm, (np.array([0.6, 0.8, 0.0]),), KINK, kink=True),
    same("clipped by a norm near 1", _clipped_by_norm, (np.array([0.6, 0.8 + 1e-7, 0.0]),), KINK),
    elementwise(
        "hard swish at ±3",
        _hard_swish,
        _hard_swish_slope,
        [3.0, -3.0, 0.0, 1.0, -4.0],
        KINK,
        kink=True,
    ),
    Case(
        "interpolation at a knot",
        _knots,
        (np.array([1.0, 0.5, 2.0, 2.7, 1.0]),),
        _knots_grad,
        KINK,
        kink=True,
    ),
    elementwise(
        "floor away from its jumps",
        lambda x: x * jnp.floor(x),
        jnp.floor,
        [0.5, 1.999999, -0.3, 2.5, 3.0001],
        KINK | UNSURE,
    ),
    same("variance by two large means", _variance, (1e4 + draw(285, (8,))[0],), UNSURE),
    same("chaos of 25 steps", _chaotic, (np.array([0.3, 0.41]),), UNSURE),
    same("pendulum of 100 steps", _pendulum, (np.array([1.0, 0.3]),)),
    Case(
        "a product in bfloat16 inside",
        _inner_bfloat16,
        draw(286, (4, 3), (3, 2)),
        _inner_bfloat16_grad,
        UNSURE,
        kink=True,  # a step function, to be exact
    ),
    same("entropy of 1e-12", _entropy, (np.array([1e-12, 0.3, 0.7, 1e-6]),), UNSURE),
    elementwise("sinc at 0, guarded", _sinc, _sinc_slope, [0.0, 1e-3, 0.7, 0.0, 3.0], UNSURE),
    same("distances, guarded", _pairwise, draw(287, (4, 3))),
    same("softmax of −∞", _masked_attention, draw(288, (4, 4))),
    Case(
        "layernorm of one feature",
        _one_feature,
        draw(289, (4, 1), (1,), (1,)),
        _one_feature_grad,
        UNSURE,
    ),
    elementwise(
        "softplus far out",
        jax.nn.softplus,
        jax.nn.sigmoid,
        [700.0, -700.0, 40.0, -40.0, 0.5],
        UNSURE,
    ),
    elementwise(
        "arccos near 1",
        jnp.arccos,
        lambda x: -1 / jnp.sqrt((1 - x) * (1 + x)),
        [1 - 1e-9, -1 + 1e-9, 0.3],
        UNSURE,
    ),
    same(
        "one leaf of 1e-7, one of 1e7",
        lambda a, b: jnp.sum(jnp.sin(a * 1e7)) * jnp.cos(b / 1e7).sum(),
        (1e-7 * draw(290, (4,))[0], 1e7 * draw(291, (3,))[0]),
    ),
)
