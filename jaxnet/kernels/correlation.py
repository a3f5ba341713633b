"""The three sums of a convolution, in the form that is fastest on the device at hand.

Measured on 2 cores, jax 0.10.2: milliseconds of a gradient step of `jaxnet.inception_resnet`, batch
32, of which most is these sums; a Xeon with AVX-512 and AMX, an EPYC with AVX-512.

                                                          Xeon         EPYC
    XLA's convolution for all three, outside a loop       147
    the same inside `scan`, `fori_loop` or `lax.map`      seconds: a naive one for dw, there
    convolution for out and dx, im2col by rows for dw     126
    products for all three                                95           57
    and 3×3 kernels by neighbours, as here                             47, four in turn 42 each
    the same in mixed precision                                        43, four in turn 39 each
    PyTorch                                               56 to 66     36

A kernel of k·k places is a product k times as wide as the image has channels: the k columns of a
window side by side, times all k rows of the kernel at once, or dout by row; what is left is to add
k shifted images. Im2col has one product, too, and k times the memory to write: 1.3 to 2.1 times as
long on the Xeon. For out and dx of 3×3 kernels, neighbouring sums have products in common
(`jaxnet.kernels.winograd`). Milliseconds in a loop on the EPYC, 32 images of 64 channels to 64:

                    out: products   by neighbours   XLA's convolution     dw: products
    3×3 at 28×28              8.0             4.0                 8.4              8.0
    3×3 at 14×14              1.2             0.7                 2.0              1.5
    5×5 at 14×14              3.4               –                 5.5              3.7

Not taken: four neighbours along an axis, 3.4 and 2.6 ms for the two 3×3, errors eight times as
large; 5×5 by two neighbours, 2.4 ms, errors as large, and 36 products to compile; dw by neighbours
along one axis, 3.8 ms alone and nothing in the whole step.

Several networks in turn: side by side under `vmap` a product has a batch, and all their
activations take memory at once (249 ms a network with convolutions for out and dx).

On other devices: the library's convolution, and networks side by side, which JAX turns into one
grouped convolution. That is by reasoning (small kernels are bound by their launches there); it is
tested for its values, but its speed was not measured on a GPU.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.kernels.products import product_of_channels, transposed_product
from jaxnet.kernels.windows import Windows
from jaxnet.kernels.winograd import correlate_3x3


class Form(NamedTuple):
    """How a device computes convolutions."""

    products: bool  # their sums are products of matrices
    in_turn: bool  # networks that train together do so one after the other at each step
    rows: int  # images scored at once; on CPUs the activations of so few stay near the processor


FORMS = {"cpu": Form(products=True, in_turn=True, rows=25)}
_OTHERS = Form(products=False, in_turn=False, rows=100)

_CANONICAL = ("NHWC", "HWIO", "NHWC")

# With fewer values than this in a row of a window all of the window goes side by side: products
# of so few columns each (images of one channel) spend their time on writing their sums.
_NARROW = 32

# Channels and multiplications from which on neighbours are summed together, where the kernel is
# 3×3. With fewer, sixteen small products take longer than the kernel's rows.
FILTERED = (32, 2**26)


def convolution_form() -> Form:
    """Return the form for the device at hand."""
    return FORMS.get(jax.default_backend(), _OTHERS)


def correlate(
    x: Float[Array, "batch height width inputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch out_height out_width outputs"]:
    """out_nyxo = Σ_ijc x_n,y·s+i,x·s+j,c w_ijco over the windows, x padded with zeros."""
    if _is_product(where):
        return product_of_channels(x, w[0, 0])
    if not convolution_form().products or where.stride != (1, 1):
        return lax.conv_general_dilated(
            x, w, where.stride, where.pads, dimension_numbers=_CANONICAL
        )
    if _is_filtered(w, where, len(x)):
        return correlate_3x3(x, w, where)
    if _is_narrow(x, where):
        return product_of_channels(_windows(x, where), w.reshape(-1, w.shape[-1]))
    # Every row of x times all rows of the kernel, then each product to the row where it belongs.
    kernel = w.transpose(1, 2, 0, 3).reshape(-1, where.size[0] * w.shape[-1])
    by_row = jnp.split(product_of_channels(_columns(x, where), kernel), where.size[0], axis=-1)
    return functools.reduce(jnp.add, [where.at(part, 0, row) for row, part in enumerate(by_row)])


def correlate_inputs(
    dout: Float[Array, "batch out_height out_width outputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch height width inputs"]:
    """dx_nabc = Σ_ijo dout_nyxo w_ijco over y·s+i = a, x·s+j = b: the adjoint of `correlate` in x.

    It is the correlation of dout, spread by the stride, with the kernel turned by 180°.
    """
    if _is_product(where):
        return product_of_channels(dout, w[0, 0].T)
    pads = []
    for image, size, span, (before, _) in where.axes():
        before = size - 1 - before
        pads.append((before, image + size - 1 - before - span))
    if where.stride != (1, 1):  # zeros in between: XLA's fast CPU convolution takes no dilation
        between = [(0, 0, stride - 1) for stride in where.stride]
        zero = jnp.zeros((), dout.dtype)
        dout = lax.pad(dout, zero, [(0, 0, 0), *between, (0, 0, 0)])
    turned = w[::-1, ::-1].swapaxes(2, 3)
    return correlate(dout, turned, Windows(where.span, where.size, (1, 1), tuple(pads)))


def correlate_weights(
    x: Float[Array, "batch height width inputs"],
    dout: Float[Array, "batch out_height out_width outputs"],
    where: Windows,
) -> Float[Array, "rows columns inputs outputs"]:
    """dw_ijco = Σ_nyx x_n,y·s+i,x·s+j,c dout_nyxo: the adjoint of `correlate` in w."""
    (rows, columns), inputs, outputs = where.size, x.shape[-1], dout.shape[-1]
    if not convolution_form().products:
        # Images are the channels of this sum, dout spread by the stride is its kernel.
        pads = [
            (before, size + span - 1 - image - before)
            for image, size, span, (before, _) in where.axes()
        ]
        return lax.conv_general_dilated(
            x,
            dout,
            (1, 1),
            pads,
            rhs_dilation=where.stride,
            dimension_numbers=("CHWN", "IHWO", "HWNC"),
        )
    if _is_narrow(x, where):
        sums = transposed_product(_flat(dout), _flat(_windows(x, where))).T
        return sums.reshape(rows, columns, inputs, outputs)
    # dout by the row of the image that each row of the kernel meets there.
    by_row = jnp.concatenate([where.put(dout, 0, row) for row in range(rows)], axis=-1)
    # In mixed precision, too: of sums as long as all places XLA's product of bfloat16 is no faster.
    with jax.default_matmul_precision("float32"):
        sums = transposed_product(_flat(by_row), _flat(_columns(x, where)))
    return sums.reshape(rows, outputs, columns, inputs).transpose(0, 2, 3, 1)


def _columns(
    x: Float[Array, "batch height width inputs"], where: Windows
) -> Float[Array, "batch height out_width values"]:
    """Return the columns of every window beside each other, for each row of the image."""
    return jnp.concatenate([where.at(x, 1, column) for column in range(where.size[1])], axis=-1)


def _windows(
    x: Float[Array, "batch height width inputs"], where: Windows
) -> Float[Array, "batch out_height out_width values"]:
    """Return all of every window side by side, row by row."""
    columns = _columns(x, where)
    return jnp.concatenate([where.at(columns, 0, row) for row in range(where.size[0])], axis=-1)


def _is_narrow(x: Array, where: Windows) -> bool:
    return where.size[1] * x.shape[-1] < _NARROW


def _is_filtered(w: Array, where: Windows, batch: int) -> bool:
    channels, multiplications = FILTERED
    return (
        where.size == (3, 3)
        and where.stride == (1, 1)
        and min(w.shape[2:]) >= channels
        and batch * math.prod(where.count) * w.size >= multiplications
    )


def _is_product(where: Windows) -> bool:
    """Whether each window is one place, and each place one window."""
    return where.size == where.stride == (1, 1) and not any(map(any, where.pads))


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
