"""The three sums of a convolution, in the form that is fastest on the platform of the program.

The table has milliseconds of a gradient step of `jaxnet.inception_resnet`, most of which is these
sums, at batch 32 on 2 cores with jax 0.10.2, on a Xeon with AVX-512 and AMX and on an EPYC with
AVX-512.

                                                          Xeon         EPYC
    XLA's convolution for all three, outside a loop       147
    the same inside `scan`, `fori_loop` or `lax.map`      seconds: dw is computed naively there
    convolution for out and dx, im2col by rows for dw     126
    products for all three                                95           57
    and 3×3 kernels by neighbours, as here                             47, four in turn 42 each
    the same in mixed precision                                        43, four in turn 39 each
    PyTorch                                               56 to 66     36

A convolution with a kernel of k·k positions is a product k times as wide as the image has channels:
the k columns of a window lie side by side and meet all k rows of the kernel at once, or dout by
row. It remains to add k shifted images. Im2col needs one product, too, but writes k times the
memory: it took 1.3 to 2.1 times as long on the Xeon. For out and dx of 3×3 kernels, neighbouring
sums have products in common (`jaxnet.kernels.winograd`). Milliseconds in a loop on the EPYC, for 32
images of 64 channels to 64:

                    out: products   by neighbours   XLA's convolution     dw: products
    3×3 at 28×28              8.0             4.0                 8.4              8.0
    3×3 at 14×14              1.2             0.7                 2.0              1.5
    5×5 at 14×14              3.4               –                 5.5              3.7

These were rejected: four neighbours along an axis (3.4 and 2.6 ms for the two 3×3, but errors eight
times as large); 5×5 by two neighbours (2.4 ms, but errors as large and 36 products to compile); dw
by neighbours along one axis (3.8 ms alone, no gain in the whole step).

On CPUs several networks train in turn. Side by side under `vmap` each product would have a batch
axis, and the activations of all networks would take memory at once (249 ms a network, with
convolutions for out and dx).

On other platforms the library convolves, and networks train side by side, which JAX turns into one
grouped convolution. The reason is that launches bound small kernels there. Tests check its values;
nobody has measured its speed on a GPU.
"""

import functools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.kernels.form import changed_form, current_form
from jaxnet.kernels.products import product_of_channels, transposed_product
from jaxnet.kernels.windows import Windows
from jaxnet.kernels.winograd import correlate_3x3

_CANONICAL = ("NHWC", "HWIO", "NHWC")

# Values in a row of a window below which the whole window goes side by side: products with so few
# columns (of images with one channel) spend their time on writing their sums.
MIN_ROW_VALUES = 32

# Channels and multiplications from which on neighbouring sums of a 3×3 kernel share products. With
# fewer, sixteen small products take longer than the kernel's rows.
WINOGRAD_MIN_CHANNELS = 32
WINOGRAD_MIN_MULTIPLICATIONS = 2**26


def correlate(
    x: Float[Array, "batch height width inputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch out_height out_width outputs"]:
    """out_nyxo = Σ_ijc x_n,y·s+i,x·s+j,c w_ijco over the windows, x padded with zeros."""
    if _is_product(where):
        return product_of_channels(x, w[0, 0])
    if not current_form().convolves_by_products or where.stride != (1, 1):
        return lax.conv_general_dilated(
            x, w, where.stride, where.pads, dimension_numbers=_CANONICAL
        )
    if _shares_products(w, where, len(x)):
        return correlate_3x3(x, w, where)
    if _is_narrow(x, where):
        return product_of_channels(_windows(x, where), w.reshape(-1, w.shape[-1]))
    # Multiply every row of x by all rows of the kernel, then move each product to its row of out.
    kernel = w.transpose(1, 2, 0, 3).reshape(-1, where.size[0] * w.shape[-1])
    by_row = jnp.split(product_of_channels(_columns(x, where), kernel), where.size[0], axis=-1)
    return functools.reduce(jnp.add, [where.at(part, 0, row) for row, part in enumerate(by_row)])


def correlate_inputs(
    dout: Float[Array, "batch out_height out_width outputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch height width inputs"]:
    """dx_nabc = Σ_ijo dout_nyxo w_ijco over y·s+i = a, x·s+j = b: the adjoint of `correlate` in x.

    dx is the correlation of dout, spread by the stride, with the kernel turned by 180°.
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
    if not current_form().convolves_by_products:
        # In this sum the images are the channels, and dout, spread by the stride, is the kernel.
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
    # Lay out dout by the row of the image that each row of the kernel meets there.
    by_row = jnp.concatenate([where.put(dout, 0, row) for row in range(rows)], axis=-1)
    # Mixed precision does so, too: of sums over all positions XLA's bfloat16 product is no faster.
    with changed_form(precision="float32"):
        sums = transposed_product(_flat(by_row), _flat(_columns(x, where)))
    return sums.reshape(rows, outputs, columns, inputs).transpose(0, 2, 3, 1)


def _columns(
    x: Float[Array, "batch height width inputs"], where: Windows
) -> Float[Array, "batch height out_width values"]:
    """Return the columns of every window side by side, for each row of the image."""
    return jnp.concatenate([where.at(x, 1, column) for column in range(where.size[1])], axis=-1)


def _windows(
    x: Float[Array, "batch height width inputs"], where: Windows
) -> Float[Array, "batch out_height out_width values"]:
    """Return all values of every window side by side, row by row."""
    columns = _columns(x, where)
    return jnp.concatenate([where.at(columns, 0, row) for row in range(where.size[0])], axis=-1)


def _is_narrow(x: Array, where: Windows) -> bool:
    return where.size[1] * x.shape[-1] < MIN_ROW_VALUES


def _shares_products(w: Array, where: Windows, batch: int) -> bool:
    return (
        where.size == (3, 3)
        and where.stride == (1, 1)
        and min(w.shape[2:]) >= WINOGRAD_MIN_CHANNELS
        and batch * math.prod(where.count) * w.size >= WINOGRAD_MIN_MULTIPLICATIONS
    )


def _is_product(where: Windows) -> bool:
    """Whether each window is one position of the image, and each position one window."""
    return where.size == where.stride == (1, 1) and not any(map(any, where.pads))


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
