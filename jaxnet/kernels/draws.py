"""Random arrays whose values do not depend on their size."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

Shape = tuple[int, ...]


def by_rows(draw: Callable[[PRNGKeyArray, Shape], Array], key: PRNGKeyArray, shape: Shape) -> Array:
    """out_n = draw(key_n, [columns]), with a key for each row; rows are the leading axes.

    A smaller matrix is the top-left block of a larger one, so that a network padded to a larger
    width draws what it draws alone. For that, `draw` must give a short row the first entries of a
    long one. The functions of `jax.random` do so for threefry keys in JAX's partitionable form,
    which is set here. One key for each row costs nothing measurable beside one draw of the whole
    (3072 by 320: 24 ms both ways). The transposed draw, stable in its columns only, would cost a
    dropout layer twice the time.

    >>> large, small = (by_rows(jax.random.normal, jax.random.key(0), s) for s in [(9, 7), (4, 5)])
    >>> bool((large[:4, :5] == small).all())
    True
    """
    rows = jnp.arange(math.prod(shape[:-1]), dtype=jnp.uint32)
    with jax.threefry_partitionable(True):
        out = jax.vmap(lambda row: draw(jax.random.fold_in(key, row), shape[-1:]))(rows)
    return out.reshape(shape)
