"""How K networks of one structure lie in memory: where the configuration axis of each leaf is.

The axis is the first of every leaf but one. All K networks of a stack see the same minibatch
x [B, D], so their first products x·W₁ can be one product [B, D]·[D, K·H], if W₁ is held as
[D, K, H]: the configuration axis second. Held as [K, D, H], the compiler would copy all weights
into that order at every step. Measured on 2 cores for K, B, D, H = 48, 200, 3072, 80: 270
against 238 GFLOP/s for the whole training step. Optimizer state of the shape of W₁ follows it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.errors import ConfigurationError

SHARED_INPUT = ("affine_1", "w")


def config_axes(stack: Any) -> Any:
    """Return the configuration axis of each leaf of a stack, the `in_axes` of `jax.vmap`."""

    def axis(path, leaf):
        names = tuple(getattr(entry, "key", None) for entry in path[-2:])
        return 1 if names == SHARED_INPUT and leaf.ndim == 3 else 0

    return jax.tree.map_with_path(axis, stack)


def to_stack(leading: Any) -> Any:
    """Return the stack of a tree that has the configuration axis first in every leaf."""
    return jax.tree.map(
        lambda leaf, axis: jnp.moveaxis(leaf, 0, axis), leading, config_axes(leading)
    )


def take_member(stack: Any, index: int) -> Any:
    """Return network number `index` of a stack."""
    return jax.tree.map(lambda leaf, axis: leaf.take(index, axis=axis), stack, config_axes(stack))


def crop(tree: Any, like: Any) -> Any:
    """Return the leading block of each leaf, in the shape of its counterpart in `like`.

    It takes a network out of arrays padded to a larger width; `like` holds arrays, or shapes from
    `jax.eval_shape`.

    >>> padded = {"w": jnp.ones((4, 5)), "b": jnp.ones(5)}
    >>> like = {"w": jnp.ones((4, 2)), "b": jnp.ones(2)}
    >>> jax.tree.map(jnp.shape, crop(padded, like))
    {'b': (2,), 'w': (4, 2)}
    """

    def block(path, leaf, target):
        if leaf.ndim != target.ndim or any(map(int.__lt__, leaf.shape, target.shape)):
            raise ConfigurationError(
                f"crop expects leaves of at least the shapes of `like`, got {leaf.shape} for "
                f"{target.shape} at {jax.tree_util.keystr(path)}: the first argument is the larger"
            )
        return leaf[tuple(map(slice, target.shape))]

    return jax.tree.map_with_path(block, tree, like)
