"""Flatten: an image as one row of features."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxnet.arguments.signatures import checked
from jaxnet.layers.layer import Layer, Shape, Tree


@jax.tree_util.register_static
@dataclass(frozen=True)
class FlattenCache:
    """The shape of one input, static."""

    shape: tuple[int, ...]


@checked
def flatten_forward(
    x: Float[Array, "batch *features"],
) -> tuple[Float[Array, "batch inputs"], FlattenCache]:
    """out_n = x_n, its axes as one, the last varying fastest.

    >>> out, cache = flatten_forward(jnp.ones((2, 3, 4)))
    >>> out.shape, flatten_backward(out, cache).shape
    ((2, 12), (2, 3, 4))
    """
    return x.reshape(x.shape[0], math.prod(x.shape[1:])), FlattenCache(x.shape[1:])


@checked
def flatten_backward(
    dout: Float[Array, "batch inputs"], cache: FlattenCache
) -> Float[Array, "batch *features"]:
    """dx_n = dout_n in the shape of x_n."""
    return jnp.reshape(dout, (dout.shape[0], *cache.shape))


@checked
def flatten() -> Layer:
    """Return `flatten_forward` as a layer. `affine` flattens its input by itself."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        return {}, {}, (math.prod(input_shape),)

    def forward(params, state, x, *, key, train):
        return *flatten_forward(x), state

    def backward(dout, cache):
        return flatten_backward(dout, cache), {}

    return Layer("flatten", init, forward, backward)
