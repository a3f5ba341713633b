"""Augmentation: training images mirrored and shifted at random, so that a few stand for more."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, ScalarLike

from jaxnet.layers.layer import as_dtype


def augment(
    key: PRNGKeyArray,
    images: Float[Array, "batch height width channels"],
    *,
    flip: ScalarLike,
    shift: ScalarLike,
) -> Float[Array, "batch height width channels"]:
    """Return each image mirrored left to right with probability `flip`, then shifted.

    The shift is a whole number of pixels from −⌊shift⌋ to ⌊shift⌋, all alike, down and to the
    right independently; what comes in from beyond the border is 0. Both numbers may be traced.

    >>> images = jnp.arange(4.0).reshape(1, 2, 2, 1)
    >>> augment(jax.random.key(0), images, flip=1.0, shift=0.0)[0, :, :, 0].tolist()
    [[1.0, 0.0], [3.0, 2.0]]
    """
    batch, height, width, _ = images.shape
    mirror, down, right = jax.random.split(key, 3)
    mirrored = jax.random.uniform(mirror, (batch, 1, 1, 1), images.dtype) < as_dtype(flip, images)
    images = jnp.where(mirrored, images[:, :, ::-1], images)
    images = _shifted(images, _draw(down, shift, images), height, axis=1)
    return _shifted(images, _draw(right, shift, images), width, axis=2)


def _draw(key: PRNGKeyArray, shift: ScalarLike, like: Array) -> Int[Array, " batch"]:
    most = jnp.floor(as_dtype(shift, like))
    uniform = jax.random.uniform(key, (like.shape[0],), like.dtype)
    steps = jnp.floor(uniform * (2 * most + 1)) - most
    return jnp.clip(steps, -most, most).astype(jnp.int32)


def _shifted(images: Array, by: Array, size: int, *, axis: int) -> Array:
    """Return out[n, i] = images[n, i − by[n]] along an axis, 0 where there is no such place."""
    places = jnp.arange(size, dtype=jnp.int32)[None, :] - by[:, None]
    shape = [len(images), 1, 1, 1]
    shape[axis] = size
    places = places.reshape(shape)
    found = jnp.take_along_axis(images, jnp.clip(places, 0, size - 1), axis=axis)
    return jnp.where((places >= 0) & (places < size), found, 0)
