"""The three sums of a convolution, in the form that is fastest on the device at hand.

Measured on 2 cores of a Xeon with AVX-512 and AMX, jax 0.10.2, float32: one gradient step of
`jaxnet.inception_resnet`, batch 32, of which all but a few percent are these sums.

    XLA's convolution for all three, outside a loop               147 ms
    the same inside `scan`, `fori_loop` or `lax.map`            seconds: there the compiler falls to
                                                                  a naive one for dw
    products of matrices for all three, inside a loop             124 ms
    convolution for out and dx, products for dw and for 1×1       111 ms
    the same, two networks in turn (`lax.map`)                    127 ms a network
    the same under `vmap` over two networks                       249 ms a network

It is the gradient of the weights alone that is slow in a loop: one of 3×3×64×64 takes 4.5 s there
and 49 ms outside, while out takes 14 and 13 ms. So on a CPU: XLA's convolution for out and dx,
products for dw, and the networks of a sweep in turn; each is then nearly as fast as one alone, and
of the activations only one network's take memory. Among the products for dw, the kernel's columns
side by side and one product for each of its rows is level with im2col in time (123 and 127 ms the
step) at a third of its memory.

On other devices: the library's convolution, and networks side by side, which JAX turns into one
grouped convolution. That is by reasoning (small kernels are bound by their launches there); it is
tested for its values, but its speed was not measured on a GPU.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.layers.windows import Windows, along

# By backend: whether weights' gradients are products, and networks in turn. Others: neither.
FORMS: dict[str, tuple[bool, bool]] = {"cpu": (True, True)}

_CANONICAL = ("NHWC", "HWIO", "NHWC")

# With fewer values than this in a row of a window all of the window goes side by side: products
# of so few columns each (images of one channel) spend their time on writing their sums.
_NARROW = 32


def by_products() -> bool:
    """Whether gradients of weights are written as products of matrices on this device."""
    return FORMS.get(jax.default_backend(), (False, False))[0]


def networks_in_turn() -> bool:
    """Whether convolutional networks that train together do so one after the other at each step."""
    return FORMS.get(jax.default_backend(), (False, False))[1]


def correlate(
    x: Float[Array, "batch height width inputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch out_height out_width outputs"]:
    """out_nyxo = Σ_ijc x_n,y·s+i,x·s+j,c w_ijco over the windows, x padded with zeros."""
    if _is_product(where):
        return x @ w[0, 0]
    return lax.conv_general_dilated(x, w, where.stride, where.pads, dimension_numbers=_CANONICAL)


def correlate_inputs(
    dout: Float[Array, "batch out_height out_width outputs"],
    w: Float[Array, "rows columns inputs outputs"],
    where: Windows,
) -> Float[Array, "batch height width inputs"]:
    """dx_nabc = Σ_ijo dout_nyxo w_ijco over y·s+i = a, x·s+j = b: the adjoint of `correlate` in x.

    It is the correlation of dout, spread by the stride, with the kernel turned by 180°.
    """
    if _is_product(where):
        return dout @ w[0, 0].T
    pads = []
    for image, size, span, (before, _) in where.axes():
        before = size - 1 - before
        pads.append((before, image + size - 1 - before - span))
    if where.stride != (1, 1):  # zeros in between: XLA's fast CPU convolution takes no dilation
        between = [(0, 0, stride - 1) for stride in where.stride]
        zero = jnp.zeros((), dout.dtype)
        dout = lax.pad(dout, zero, [(0, 0, 0), *between, (0, 0, 0)])
    turned = w[::-1, ::-1].swapaxes(2, 3)
    return lax.conv_general_dilated(dout, turned, (1, 1), pads, dimension_numbers=_CANONICAL)


def correlate_weights(
    x: Float[Array, "batch height width inputs"],
    dout: Float[Array, "batch out_height out_width outputs"],
    where: Windows,
) -> Float[Array, "rows columns inputs outputs"]:
    """dw_ijco = Σ_nyx x_n,y·s+i,x·s+j,c dout_nyxo: the adjoint of `correlate` in w."""
    if by_products():
        # doutᵀ·x and then a small transpose: xᵀ·dout takes XLA's CPU product up to twice as long.
        sums = [(_flat(dout).T @ _flat(part)).T for part in _parts(x, where)]
        return jnp.stack(sums).reshape(*where.size, x.shape[-1], dout.shape[-1])
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


def _is_product(where: Windows) -> bool:
    """Whether each window is one place, and each place one window."""
    return where.size == where.stride == (1, 1) and not any(map(any, where.pads))


def _parts(x: Array, where: Windows) -> list[Array]:
    """Return the values of the windows, [batch, *count, values] each: by their rows, or at once."""
    padded = where.pad(x) if any(map(any, where.pads)) else x
    if where.size[1] * x.shape[-1] < _NARROW:
        return [jnp.concatenate([where.at(padded, place) for place in where.offsets()], axis=-1)]
    columns = [where.columns(padded, column) for column in range(where.size[1])]
    beside = jnp.concatenate(columns, axis=-1) if len(columns) > 1 else columns[0]
    return [along(beside, row, where.span[0], where.stride[0], 1) for row in range(where.size[0])]


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
