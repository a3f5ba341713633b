"""The first units of a layer that is padded to a common width: the others are set to zero."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.layers.layer import Cache, Layer, init_nothing


@checked
def first_units_forward(
    x: Float[Array, "*batch units"], width: ScalarLike
) -> tuple[Float[Array, "*batch units"], Cache]:
    """out_j = x_j for j < width, else 0, whatever x_j is; `width` may be traced.

    >>> out, cache = first_units_forward(jnp.array([[1.0, 2.0, jnp.nan]]), 2)
    >>> out.tolist(), first_units_backward(jnp.full((1, 3), 5.0), cache).tolist()
    ([[1.0, 2.0, 0.0]], [[5.0, 5.0, 0.0]])
    """
    width = jnp.asarray(width).astype(jnp.int32)
    unit = lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
    return jnp.where(unit < width, x, 0), width


@checked
def first_units_backward(
    dout: Float[Array, "*batch units"], cache: Cache
) -> Float[Array, "*batch units"]:
    """dx_j = dout_j for j < width, else 0: nothing reaches what fed the other units."""
    return first_units_forward(dout, cache)[0]


@checked
def first_units(width: ScalarLike) -> Layer:
    """Return the layer that keeps the first `width` units; `width` may be traced.

    It lets networks of different widths be rows of one array: a sigmoid of nothing is ½, which
    the next layer would learn to use.
    """

    def forward(params, state, x, *, key, train):
        return *first_units_forward(x, width), state

    def backward(dout, cache):
        return first_units_backward(dout, cache), {}

    return Layer("first_units", init_nothing, forward, backward)
