"""Call compiled functions from the course's code: NumPy in, NumPy out, in the same dtype."""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxnet.errors import ConfigurationError

# Every call here waits for its result, so a CPU need not hand the work to another thread first. The
# hand-over takes half of the time of a notebook's smallest calls. JAX reads this option when it
# first computes; after that, the option has no effect and calls are only slower.
jax.config.update("jax_cpu_enable_async_dispatch", False)


def compiled(function: Callable | None = None, *, static: Sequence[str] = ()) -> Callable:
    """Compile a pure function once for each set of argument shapes, for calls from NumPy code.

    float64 arrays are computed in float64 whatever JAX's global default is, and matrix products of
    float32 arrays in float32 on every device. The function returns device arrays: convert results
    for a caller with `numpy`, and leave caches, which only a later call needs, as they are.
    """
    if function is None:
        return functools.partial(compiled, static=static)
    program = jax.jit(function, static_argnames=static)

    @functools.wraps(function)
    def call(*args, **settings):
        # The course's code expects NumPy's promotion, which `floats` applies on the host. Inside
        # the program jaxnet's strict rules hold.
        with jax.enable_x64(True), jax.default_matmul_precision("float32"):
            return program(*args, **settings)

    return call


def join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return the values of arrays of one dtype, one after the other, in one flat array."""
    return np.concatenate([array.ravel() for array in arrays])


def part(flat: Any, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
    """Undo `join`: return arrays of these shapes, which are views if `flat` is a NumPy array.

    >>> w, b = part(join([np.eye(2), np.ones(3)]), ((2, 2), (3,)))
    >>> w.tolist(), b.tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 1.0])
    """
    return [flat[span].reshape(shape) for span, shape in _spans(shapes)]


@functools.lru_cache(maxsize=256)
def _spans(shapes: tuple[tuple[int, ...], ...]) -> list[tuple[slice, tuple[int, ...]]]:
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    return [(slice(a, b), shape) for a, b, shape in zip([0, *ends], ends, shapes, strict=False)]


def numpy(tree: Any) -> Any:
    """Copy the arrays of tuples, lists and dicts into NumPy arrays; 0-d ones become scalars."""
    if isinstance(tree, dict):
        return {key: numpy(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)([numpy(value) for value in tree])
    own = np.array(tree)
    return own if own.ndim else own[()]


def floats(**arrays: Any) -> tuple[np.ndarray, ...]:
    """Return the arrays in their common floating dtype, as NumPy would promote them.

    Integers and booleans count as float64. Raises ConfigurationError, which names the argument,
    for anything but real numbers (None, strings, ragged lists, complex numbers).

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
