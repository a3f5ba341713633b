"""What a layer is: three pure functions and a name."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, ScalarLike

from jaxnet.errors import ConfigurationError

MOST = 2**31 - 1  # features of a layer: sizes of arrays
Shape = tuple[int, ...]
Tree = dict[str, Any]  # parameters or state: nested dicts of arrays, nothing else
Cache = Any  # what backward needs from forward: any pytree of arrays


class Layer(NamedTuple):
    """Three pure functions; the cache carries everything that `backward` needs, and nothing else.

        init(key, input_shape)                    -> params, state, output_shape
        forward(params, state, x, *, key, train)  -> out, cache, state
        backward(dout, cache)                     -> dx, dparams

    Shapes leave out the batch axis, arrays have it first. `train` is a Python bool. `key` may be
    None where nothing is drawn. Layers without parameters or state use the empty dict.
    """

    name: str
    init: Callable[[PRNGKeyArray, Shape], tuple[Tree, Tree, Shape]]
    forward: Callable[..., tuple[Array, Cache, Tree]]
    backward: Callable[[Array, Cache], tuple[Array, Tree]]


def init_nothing(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
    """Initialize a layer that has no parameters, has no state and keeps the shape."""
    return {}, {}, input_shape


def feature_count(layer: str, input_shape: Shape) -> int:
    """Return the one feature axis of a layer defined on `[batch, features]`."""
    if len(input_shape) != 1:
        raise ConfigurationError(
            f"{layer} expects inputs [batch, features], got [batch, *{input_shape}]: "
            f"put an affine layer, which flattens its input, before it"
        )
    return input_shape[0]


def as_dtype(number: ScalarLike, like: Array) -> Array:
    """Return a hyperparameter, traced or not, in the dtype of the array it is to meet.

    Strict promotion refuses a float32 hyperparameter beside a float64 network.
    """
    return jnp.asarray(number, like.dtype)
