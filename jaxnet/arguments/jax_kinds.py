"""The kinds of the annotations that only JAX has: traced numbers, dtypes, arrays, trees."""

import collections.abc
import typing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import PyTree, ScalarLike

from jaxnet.arguments.checks import Unfit, take_number
from jaxnet.arguments.kinds import Kind, take_numpy

_MAX_FLOAT32 = float(np.finfo(np.float32).max)


def kind_of(hint: Any) -> Kind | None:
    """Return the kind of one of JAX's annotations; None for others."""
    return next((kind for known, kind in _KINDS if hint == known), None)


def scalars() -> tuple[Any, ...]:
    """Return the members of ScalarLike, the annotation of one number, traced or not."""
    return typing.get_args(ScalarLike)


def _take_dtype(value: Any) -> Any:
    if not isinstance(value, str | type | np.dtype):
        raise Unfit
    try:
        dtype = jnp.dtype(value)
    except TypeError:
        raise Unfit from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise Unfit
    return dtype


def _take_scalar(value: Any) -> Any:
    """Return one number, traced or not, in its own dtype."""
    if getattr(value, "shape", ()) != ():
        raise Unfit("for several values at once, vmap the function")
    if isinstance(value, Tracer):
        return value
    number = take_number(value)
    if abs(number) > _MAX_FLOAT32 and not jax.config.read("jax_enable_x64"):
        raise Unfit("beyond float32")
    if isinstance(value, jax.Array):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return value.astype(value.dtype.newbyteorder("="))
    return number if abs(number) < 2**31 else float(number)  # JAX's integers have 32 bits


def _take_tree(value: Any) -> Any:
    """Return a tree whose leaves are all arrays of numbers; a tree without leaves is fine."""
    if isinstance(value, collections.abc.Iterator):
        raise Unfit
    leaves = jax.tree.leaves(value)
    if not all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
        raise Unfit
    for leaf in leaves:
        if isinstance(leaf, np.ndarray):
            take_numpy(leaf)
        elif not jnp.issubdtype(leaf.dtype, jnp.number):
            raise Unfit
    return jax.tree.map(
        lambda x: on_device(take_numpy(x)) if isinstance(x, np.ndarray) else x, value
    )


def _take_array_like(value: Any) -> Any:
    if not isinstance(value, Tracer | bool | int | float):
        take_numpy(value)
    return value


def on_device(array: np.ndarray | np.generic) -> jax.Array:
    """Return a NumPy array as a JAX array; raise Unfit for integers that would wrap around."""
    array = take_numpy(array)
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        converted = jnp.asarray(array)
    if array.dtype.kind in "iu" and (np.asarray(converted) != array).any():
        raise Unfit("it has integers beyond int32")
    return converted


SCALAR = Kind("a finite number", _take_scalar)
_KINDS = (
    (ScalarLike, SCALAR),
    (DTypeLike, Kind("a dtype of floats, such as 'float32'", _take_dtype)),
    (ArrayLike, Kind("an array of numbers", _take_array_like)),
    (PyTree, Kind("a tree of arrays of numbers", _take_tree)),
)
