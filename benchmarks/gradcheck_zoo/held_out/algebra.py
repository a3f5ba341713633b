"""Bugs in the derivatives of products, factorizations and transforms of square matrices."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from benchmarks.gradcheck_zoo.row import Bug, draw


def bilinear(x, a, y):
    return (x @ a * y).sum(1)


def bilinear_right(dout, x, a, y, *, swapped=False):
    g = dout[:, None]
    da = (g * x).T @ y
    return g * (y @ a.T), da.T if swapped else da, g * (x @ a)


def quadratic(a, x):
    return (x @ a * x).sum(1)


def quadratic_right(dout, a, x, *, symmetric=False):
    both = 2 * a.T if symmetric else a + a.T
    return (dout[:, None] * x).T @ x, dout[:, None] * (x @ both)


def log_determinant(a):
    return jnp.linalg.slogdet(a)[1]


def solution(a, b):
    return jnp.linalg.solve(a, b)


def solution_right(dout, a, b, *, swapped=False):
    adjoint = jnp.linalg.solve(a.T, dout)
    da = -jnp.outer(adjoint, jnp.linalg.solve(a, b))
    return da.T if swapped else da, adjoint


def inverse(a):
    return jnp.linalg.inv(a)


# Cholesky factor of (a + aᵀ)/2


def cholesky(a):
    return jnp.linalg.cholesky((a + a.T) / 2, symmetrize_input=False)


def _cholesky_backward(*, halved=True, symmetric=True):
    """Return L⁻ᵀ·Φ(Lᵀ·dL)·L⁻¹, Φ the lower triangle with half the diagonal, made symmetric."""

    def vjp(dout, a):
        factor = cholesky(a)
        phi = jnp.tril(factor.T @ jnp.tril(dout))
        if halved:
            phi = phi - jnp.diag(jnp.diag(phi)) / 2
        left = solve_triangular(factor.T, phi, lower=False)
        da = solve_triangular(factor.T, left.T, lower=False).T
        return ((da + da.T) / 2 if symmetric else da,)

    return vjp


def contraction(a, b):
    return jnp.einsum("bij,bjk->bik", a, b)


def contraction_right(dout, a, b, *, formula="bij,bik->bjk"):
    return jnp.einsum("bik,bjk->bij", dout, b), jnp.einsum(formula, a, dout)


# Squared distances of all pairs of rows


def distances(x):
    return jnp.square(x[:, None, :] - x[None, :, :]).sum(2)


def distances_right(dout, x, *, columns=True):
    difference = x[:, None, :] - x[None, :, :]
    g = 2 * dout[:, :, None] * difference
    return (g.sum(1) - g.sum(0) if columns else g.sum(1),)


# Power of the real transform: irfft counts every frequency between the ends for two


def power(x):
    return jnp.square(jnp.abs(jnp.fft.rfft(x)))


def power_right(dout, x, *, ends=2.0):
    spectrum = jnp.fft.rfft(x)
    spectrum = 2 * dout.astype(spectrum.dtype) * spectrum
    spectrum = spectrum.at[jnp.array([0, len(spectrum) - 1])].multiply(ends)
    return (jnp.fft.irfft(spectrum, len(x)) * (len(x) / 2),)


_A, _B = draw(240, (4, 4), (4,))
_WELL = _A + 4 * np.eye(4)
_POSITIVE = _A @ _A.T + np.eye(4)
BUGS = (
    Bug(
        "bilinear transposed",
        "dA, square",
        bilinear,
        draw(241, (5, 4), (4, 4), (5, 4)),
        bilinear_right,
        lambda dout, *args: bilinear_right(dout, *args, swapped=True),
    ),
    Bug(
        "quadratic form as symmetric",
        "2·A·x for (A + Aᵀ)·x",
        quadratic,
        draw(242, (4, 4), (3, 4)),
        quadratic_right,
        lambda dout, *args: quadratic_right(dout, *args, symmetric=True),
    ),
    Bug(
        "log-determinant transposed",
        "A⁻¹ for A⁻ᵀ",
        log_determinant,
        (_WELL,),
        lambda dout, a: (dout * jnp.linalg.inv(a).T,),
        lambda dout, a: (dout * jnp.linalg.inv(a),),
    ),
    Bug(
        "solve transposed",
        "−x·λᵀ for −λ·xᵀ",
        solution,
        (_WELL, _B),
        solution_right,
        lambda dout, a, b: solution_right(dout, a, b, swapped=True),
    ),
    Bug(
        "inverse untransposed",
        "−A⁻¹·G·A⁻¹ for −A⁻ᵀ·G·A⁻ᵀ",
        inverse,
        (_WELL,),
        lambda dout, a: (-inverse(a).T @ dout @ inverse(a).T,),
        lambda dout, a: (-inverse(a) @ dout @ inverse(a),),
    ),
    Bug(
        "cholesky not symmetric",
        "the lower triangle's gradient not spread over both",
        cholesky,
        (_POSITIVE,),
        _cholesky_backward(),
        _cholesky_backward(symmetric=False),
    ),
    Bug(
        "cholesky diagonal whole",
        "not halved",
        cholesky,
        (_POSITIVE,),
        _cholesky_backward(),
        _cholesky_backward(halved=False),
    ),
    Bug(
        "einsum axes exchanged",
        "of equal sizes",
        contraction,
        draw(243, (2, 3, 3), (2, 3, 3)),
        contraction_right,
        lambda dout, a, b: contraction_right(dout, a, b, formula="bij,bik->bkj"),
    ),
    Bug(
        "pairs from one side",
        "dx of the rows, not of the columns",
        distances,
        draw(244, (4, 3)),
        distances_right,
        lambda dout, x: distances_right(dout, x, columns=False),
    ),
    Bug(
        "spectrum counted once",
        "the ends of a real transform, where the others count twice",
        power,
        draw(245, (8,)),
        power_right,
        lambda dout, x: power_right(dout, x, ends=1.0),
    ),
)
