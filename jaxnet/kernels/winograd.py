"""Correlation with a 3×3 kernel in fewer products: neighbouring sums share them, two by two.

y_0 = d_0 g_0 + d_1 g_1 + d_2 g_2 and y_1 = d_1 g_0 + d_2 g_1 + d_3 g_2 need four products, not six:

    m_0 = (d_0 − d_2) g_0                       y_0 = m_0 + m_1 + m_2
    m_1 = (d_1 + d_2) (g_0 + g_1 + g_2)/2       y_1 = m_1 − m_2 − m_3
    m_2 = (d_2 − d_1) (g_0 − g_1 + g_2)/2
    m_3 = (d_1 − d_3) g_2

This is F(2, 3) of Winograd 1980. Along rows and columns it becomes F(2×2, 3×3) of Lavin and Gray
2016, "Fast Algorithms for Convolutional Neural Networks": four sums take 16 products, not 36.

At 64 channels the root mean square error in float32 is 1.1 to 1.3 times the plain sum's, 2e-7. In
mixed precision, which rounds the factors of m, it is 1.6 times the plain sum's, 0.4 %.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.kernels.products import product_of_channels
from jaxnet.kernels.windows import Windows


def correlate_3x3(
    x: Float[Array, "batch height width inputs"],
    w: Float[Array, "3 3 inputs outputs"],
    where: Windows,
) -> Float[Array, "batch out_height out_width outputs"]:
    """out_nyxo = Σ_ijc x_n,y+i,x+j,c w_ijco over windows at every position, along both axes."""
    kernels = [_of_kernel(row) for row in _of_kernel(w)]
    images = [_of_image(row, 1) for row in _of_image(_in_pairs(x, where), 0)]
    products = [
        [product_of_channels(d, g) for d, g in zip(by_column, kernel, strict=True)]
        for by_column, kernel in zip(images, kernels, strict=True)
    ]
    out = _sums([_sums(row, 1) for row in products], 0)
    height, width = where.count
    return out[:, :height, :width]


def _in_pairs(x: Array, where: Windows) -> Array:
    """Pad images so that windows of three come in pairs, along rows and columns."""
    border = [(0, 0, 0)] * x.ndim
    for axis, (before, _) in enumerate(where.pads):
        count = where.count[axis]
        after = count + count % 2 + 2 - before - where.image[axis]
        border[axis + 1] = (before, after, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), border)


def _of_image(x: Array, axis: int) -> list[Array]:
    """Return the left factors of m, for each pair of windows along 0, rows, or 1, columns."""
    last = x.shape[axis + 1] - 3
    d = [lax.slice_in_dim(x, i, i + last, 2, axis + 1) for i in range(4)]
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _of_kernel(g: Array) -> list[Array]:
    """Return the right factors of m; the first axis of g has the kernel's three positions."""
    return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]


def _sums(m: list[Array], axis: int) -> Array:
    """Return y, with the sums of each pair next to each other along an axis."""
    pairs = jnp.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]], axis + 2)
    return pairs.reshape(*m[0].shape[: axis + 1], -1, *m[0].shape[axis + 2 :])
