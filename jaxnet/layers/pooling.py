"""Pooling: one number for each window of an image and channel, its maximum or its mean."""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.kernels.windows import Padding, Size, Windows, windows
from jaxnet.layers.layer import Layer, Shape, Tree


class MaxPoolCache(NamedTuple):
    """Where in its window each maximum is; `where` is static.

    `column` holds the column of the maximum of one row of a window, for all rows of the image;
    `row` the row of the maximum among these. First along one axis, then along the other: 2·k
    comparisons a window instead of k², which compilers make anew for each place that a gradient may
    go to.
    """

    row: Int32[Array, "batch out_height out_width channels"]
    column: Int32[Array, "batch height out_width channels"]
    where: Windows


@checked
def max_pool_forward(
    x: Float[Array, "batch height width channels"],
    *,
    window: Size = 2,
    stride: Size | None = None,
    padding: Padding = "valid",
) -> tuple[Float[Array, "batch out_height out_width channels"], MaxPoolCache]:
    """out_nyxc = max_ij x_n,y·s+i,x·s+j,c over a window; the border counts as −∞.

    `stride` None puts windows side by side; windows may overlap. Padding as of
    `jaxnet.layers.conv2d_forward`. NaN in a window comes out, so that divergence shows.

    >>> x = jnp.array([1.0, 5.0, 5.0, 2.0]).reshape(1, 2, 2, 1)
    >>> out, cache = max_pool_forward(x)
    >>> out.item(), max_pool_backward(jnp.ones((1, 1, 1, 1)), cache).ravel().tolist()
    (5.0, [0.0, 1.0, 0.0, 0.0])
    """
    where = _pool_windows("max_pool", x.shape[1:], window, stride, padding)
    of_rows, column = _first_maximum(x, where, axis=1)
    out, row = _first_maximum(of_rows, where, axis=0)
    return out, MaxPoolCache(row, column, where)


def _first_maximum(x: Array, where: Windows, axis: int) -> tuple[Array, Array]:
    """Return the maximum of each window along one axis, and its place in the window."""
    best = where.at(x, axis, 0, -math.inf)
    winner = jnp.zeros(best.shape, jnp.int32)
    for place in range(1, where.size[axis]):
        value = where.at(x, axis, place, -math.inf)
        wins = (value > best) | jnp.isnan(value)  # a tie stays with the first
        best = jnp.where(wins, value, best)
        winner = jnp.where(wins, place, winner)
    return best, winner


@checked
def max_pool_backward(
    dout: Float[Array, "batch out_height out_width channels"], cache: MaxPoolCache
) -> Float[Array, "batch height width channels"]:
    """dx_nabc = Σ dout_nyxc over the windows whose first maximum, row by row, is at (a, b).

    Of equal values in a window the first takes all of the gradient, as in PyTorch.
    """
    row, column, where = cache
    of_rows = where.spread([jnp.where(row == i, dout, 0) for i in range(where.size[0])], 0)
    return where.spread([jnp.where(column == j, of_rows, 0) for j in range(where.size[1])], 1)


@checked
def average_pool_forward(
    x: Float[Array, "batch height width channels"],
    *,
    window: Size = 2,
    stride: Size | None = None,
    padding: Padding = "valid",
) -> tuple[Float[Array, "batch out_height out_width channels"], Windows]:
    """out_nyxc = mean_ij x_n,y·s+i,x·s+j,c over the places of a window that lie in the image.

    `stride` None puts windows side by side. The border is not counted, as in TensorFlow;
    PyTorch counts it as zeros unless told otherwise (count_include_pad).

    >>> x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> average_pool_forward(x)[0].item()
    1.5
    """
    where = _pool_windows("average_pool", x.shape[1:], window, stride, padding)
    of_rows = _sum(where.at(x, 1, column) for column in range(where.size[1]))
    total = _sum(where.at(of_rows, 0, row) for row in range(where.size[0]))
    return total * _shares(where, total), where


@checked
def average_pool_backward(
    dout: Float[Array, "batch out_height out_width channels"], cache: Windows
) -> Float[Array, "batch height width channels"]:
    """dx_nabc = Σ dout_nyxc / (the window's places in the image) over the windows around (a, b)."""
    share = dout * _shares(cache, dout)
    of_rows = cache.spread([share] * cache.size[0], 0)
    return cache.spread([of_rows] * cache.size[1], 1)


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _shares(where: Windows, like: Array) -> Array:
    """Return 1/(places in the image) of each window, [1, *count, 1]."""
    inside = []
    for axis in range(2):
        starts = np.arange(where.count[axis]) * where.stride[axis] - where.pads[axis][0]
        ends = np.minimum(starts + where.size[axis], where.image[axis])
        inside.append(ends - np.maximum(starts, 0))
    return jnp.asarray(1 / np.outer(*inside), like.dtype)[None, :, :, None]


def _pool_windows(
    layer: str, shape: Shape, window: Size, stride: Size | None, padding: Padding
) -> Windows:
    where = windows(layer, shape, window, window if stride is None else stride, padding)
    for axis, (before, after) in enumerate(where.pads):
        # Windows start before the image's end and end after its beginning, or hold nothing.
        last = (where.count[axis] - 1) * where.stride[axis] - before
        if before >= where.size[axis] or last >= where.image[axis]:
            raise ConfigurationError(
                f"{layer}: padding ({before}, {after}) leaves windows of {where.size[axis]} wholly "
                f"outside the image: pad by less than the window"
            )
    return where


@checked
def global_average_pool_forward(
    x: Float[Array, "batch height width channels"],
) -> tuple[Float[Array, "batch channels"], Windows]:
    """out_nc = mean_yx x_nyxc. Lin, Chen and Yan 2013.

    >>> global_average_pool_forward(jnp.arange(4.0).reshape(1, 2, 2, 1))[0].tolist()
    [[1.5]]
    """
    image = (x.shape[1], x.shape[2])
    where = windows("global_average_pool", x.shape[1:], image, 1, "valid")
    return x.mean(axis=(1, 2)), where


@checked
def global_average_pool_backward(
    dout: Float[Array, "batch channels"], cache: Windows
) -> Float[Array, "batch height width channels"]:
    """dx_nyxc = dout_nc / (height·width)."""
    height, width = cache.image
    share = dout / (height * width)
    return jnp.broadcast_to(share[:, None, None, :], (dout.shape[0], height, width, dout.shape[1]))


@checked
def max_pool(window: Size = 2, stride: Size | None = None, padding: Padding = "valid") -> Layer:
    """Return `max_pool_forward` as a layer."""

    def forward(params, state, x, *, key, train):
        out, cache = max_pool_forward(x, window=window, stride=stride, padding=padding)
        return out, cache, state

    def backward(dout, cache):
        return max_pool_backward(dout, cache), {}

    init = _pool_init("max_pool", window, stride, padding)
    return Layer("max_pool", init, forward, backward)


@checked
def average_pool(window: Size = 2, stride: Size | None = None, padding: Padding = "valid") -> Layer:
    """Return `average_pool_forward` as a layer."""

    def forward(params, state, x, *, key, train):
        out, cache = average_pool_forward(x, window=window, stride=stride, padding=padding)
        return out, cache, state

    def backward(dout, cache):
        return average_pool_backward(dout, cache), {}

    init = _pool_init("average_pool", window, stride, padding)
    return Layer("average_pool", init, forward, backward)


@checked
def global_average_pool() -> Layer:
    """Return `global_average_pool_forward` as a layer: images in, [batch, channels] out."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        windows("global_average_pool", input_shape, 1, 1, "valid")
        return {}, {}, input_shape[-1:]

    def forward(params, state, x, *, key, train):
        out, cache = global_average_pool_forward(x)
        return out, cache, state

    def backward(dout, cache):
        return global_average_pool_backward(dout, cache), {}

    return Layer("global_average_pool", init, forward, backward)


def _pool_init(layer: str, window: Size, stride: Size | None, padding: Padding):
    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        where = _pool_windows(layer, input_shape, window, stride, padding)
        return {}, {}, (*where.count, input_shape[-1])

    return init
