"""Convolution of images: out = Σ over a window of x·w, + b, the same weights at every place."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.checks import one_of, whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.kernels.correlation import correlate, correlate_inputs, correlate_weights
from jaxnet.kernels.draws import by_rows
from jaxnet.kernels.windows import Padding, Size, Windows, pair, windows
from jaxnet.layers.affine import INITIALIZERS
from jaxnet.layers.layer import MOST, Layer, Shape, Tree, as_dtype


class Conv2dCache(NamedTuple):
    """What `conv2d_backward` needs; `where` is static."""

    x: Float[Array, "batch height width inputs"]
    w: Float[Array, "rows columns inputs outputs"]
    where: Windows


@checked
def conv2d_forward(
    x: Float[Array, "batch height width inputs"],
    w: Float[Array, "rows columns inputs outputs"],
    b: Float[Array, " outputs"],
    *,
    stride: Size = 1,
    padding: Padding = "same",
) -> tuple[Float[Array, "batch out_height out_width outputs"], Conv2dCache]:
    """out_nyxo = Σ_ijc x_n,y·s+i,x·s+j,c w_ijco + b_o, x padded with zeros.

    The field's convolution: the kernel is not turned (a cross-correlation, in mathematics).
    `stride` is one number or (vertical, horizontal). `padding`: "same", ⌈height/stride⌉ rows of
    outputs, the border split evenly and the odd row behind; "valid", none; a number; or
    ((top, bottom), (left, right)). Raises ConfigurationError for shapes that do not fit.

    >>> x, w = jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 2, 1))
    >>> out, cache = conv2d_forward(x, w, jnp.zeros(1))
    >>> out[0, :, :, 0].tolist()  # 4, 6 or 9 places of the window lie in the image
    [[8.0, 12.0, 8.0], [12.0, 18.0, 12.0], [8.0, 12.0, 8.0]]
    >>> dx, dw, db = conv2d_backward(jnp.ones((1, 3, 3, 1)), cache)
    >>> dx[0, 1, 1, 0].item(), dw[1, 1, 0, 0].item(), db.item()
    (9.0, 9.0, 9.0)
    """
    if x.shape[-1] != w.shape[2]:
        raise ConfigurationError(
            f"conv2d expects {w.shape[2]} channels for weights {w.shape}, got {x.shape[-1]} from "
            f"x {x.shape}: images are [batch, height, width, channels]"
        )
    where = windows("conv2d", x.shape[1:], (w.shape[0], w.shape[1]), stride, padding)
    return correlate(x, w, where) + b[None, None, None, :], Conv2dCache(x, w, where)


@checked
def conv2d_backward(
    dout: Float[Array, "batch out_height out_width outputs"], cache: Conv2dCache
) -> tuple[
    Float[Array, "batch height width inputs"],
    Float[Array, "rows columns inputs outputs"],
    Float[Array, " outputs"],
]:
    """db_o = Σ_nyx dout_nyxo, dw_ijco = Σ_nyx x_n,y·s+i,x·s+j,c dout_nyxo, and

    dx_nabc = Σ dout_nyxo w_ijco over all y·s+i = a, x·s+j = b. All three follow from out being
    bilinear in x and w. Dumoulin and Visin 2016, "A guide to convolution arithmetic".
    """
    dx = correlate_inputs(dout, cache.w, cache.where)
    dw = correlate_weights(cache.x, dout, cache.where)
    return dx, dw, dout.sum(axis=(0, 1, 2))


@checked
def conv2d(
    outputs: int,
    kernel: Size,
    *,
    stride: Size = 1,
    padding: Padding = "same",
    init: str = "he",
    scale: ScalarLike = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Return the layer: weights [*kernel, inputs, outputs] normal, biases zero.

    The deviation is scale·gain(init) as of `jaxnet.layers.affine`, where one output has
    rows·columns·inputs inputs, and one input goes into rows·columns·outputs outputs.
    """
    one_of("init", init, INITIALIZERS)
    outputs = whole("outputs", outputs, 1, MOST)
    rows, columns = pair("conv2d", "kernel", kernel)

    def initialize(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        where = windows("conv2d", input_shape, (rows, columns), stride, padding)
        inputs, places = input_shape[-1], rows * columns
        shape = (rows, columns, inputs, outputs)
        w = by_rows(functools.partial(jax.random.normal, dtype=dtype), key, shape)
        gain = INITIALIZERS[init](places * inputs, places * outputs) ** 0.5
        params = {"w": as_dtype(scale, w) * gain * w, "b": jnp.zeros(outputs, dtype)}
        return params, {}, (*where.count, outputs)

    def forward(params, state, x, *, key, train):
        out, cache = conv2d_forward(x, params["w"], params["b"], stride=stride, padding=padding)
        return out, cache, state

    def backward(dout, cache):
        dx, dw, db = conv2d_backward(dout, cache)
        return dx, {"w": dw, "b": db}

    return Layer("conv2d", initialize, forward, backward)
