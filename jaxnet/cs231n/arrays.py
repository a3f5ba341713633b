"""NumPy in, NumPy out, dtype kept: how a compiled function is called from the course's code."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxnet.errors import ConfigurationError

# Each call here waits for its result, so a CPU need not hand the work to another thread first: that
# is half of the time of a notebook's smallest calls. JAX reads this when it first computes; where
# it did so before this import, calls are slower, and otherwise the same.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def compiled(function: Callable | None = None, *, static: Sequence[str] = ()) -> Callable:
    """Compile a pure function once for each set of argument shapes, for calls from NumPy code.

    float64 arrays are computed in float64 whatever JAX's global default, float32 products are
    float32 on every device. What comes back are device arrays: pass those a caller may look at or
    change through `numpy`, keep what only a later call needs (caches) as they are.
    """
    if function is None:
        return functools.partial(compiled, static=static)
    program = jax.jit(function, static_argnames=static)

    @functools.wraps(function)
    def call(*args, **settings):
        # NumPy's promotion and broadcasting of scalars is what the course's code expects, and is
        # decided on the host (`floats`); inside, jaxnet's strict rules hold.
        with jax.enable_x64(True), jax.default_matmul_precision("float32"):
            return program(*args, **settings)

    return call


def join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return all numbers of arrays of one dtype as one array [numbers]."""
    return np.concatenate([array.ravel() for array in arrays])


def part(flat: Any, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    """Return arrays of these shapes that lie one after the other in `flat`: of NumPy's, views.

    >>> w, b = part(join([np.eye(2), np.ones(3)]), ((2, 2), (3,)))
    >>> w.tolist(), b.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 1.0])
    """
    return [flat[place].reshape(shape) for place, shape in _places(shapes)]


@functools.lru_cache(maxsize=256)
def _places(shapes: tuple[tuple[int, ...], ...]) -> list[tuple[slice, tuple[int, ...]]]:
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    return [(slice(a, b), shape) for a, b, shape in zip([0, *ends], ends, shapes, strict=False)]


def numpy(tree: Any) -> Any:
    """Return the arrays of tuples, lists and dicts as NumPy arrays of one's own, 0-d as scalars."""
    if isinstance(tree, dict):
        return {key: numpy(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)([numpy(value) for value in tree])
    own = np.array(tree)
    return own if own.ndim else own[()]


def floats(**arrays: Any) -> tuple[np.ndarray, ...]:
    """Return the arrays in their common floating dtype, as NumPy would promote them.

    Integers and booleans count as float64. ConfigurationError, by name, for what is no array of
    numbers (None, strings, ragged lists, complex numbers).

    >>> [a.dtype.name for a in floats(x=np.ones(2, np.float32), w=[1, 2])]
    ['float64', 'float64']
    """
    given = arrays.values()
    if len({getattr(value, "dtype", None) for value in given}) == 1 and all(
        type(value) is np.ndarray and value.dtype.kind == "f" for value in given
    ):
        return tuple(given)
    result, dtypes = [], set()
    for name, value in arrays.items():
        array = value if type(value) is np.ndarray else _array(name, value)
        if array.dtype.kind != "f":
            if array.dtype.kind not in "iub":
                raise ConfigurationError(
                    f"{name}: expected an array of real numbers, got {_what(value)}"
                )
            array = array.astype(np.float64)
        dtypes.add(array.dtype)
        result.append(array)
    if len(dtypes) > 1:
        common = np.result_type(*dtypes)
        result = [array.astype(common, copy=False) for array in result]
    return tuple(result)


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Tracer):
        raise ConfigurationError(
            f"{name} is being traced by JAX, but jaxnet.cs231n computes on NumPy arrays: under "
            f"jax.jit, jax.grad or jax.vmap use jaxnet.layers and jaxnet.losses"
        )
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ConfigurationError(f"{name}: expected an array, got {_what(value)}") from error


def _what(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"{type(value).__name__} {str(value)[:60]}"
