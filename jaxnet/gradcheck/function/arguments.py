"""The arguments of the function under test: which leaves vary, which stay constant, their names."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError


@dataclass(frozen=True)
class Leaf:
    """A floating-point array that is differentiated: its name and the user's array."""

    path: str
    argument: int
    position: int  # index among all leaves of all arguments
    value: Any

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype, float64 for a Python float."""
        return np.dtype(getattr(self.value, "dtype", np.float64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, () for a Python float."""
        return tuple(np.shape(self.value))

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return int(np.prod(self.shape))

    @property
    def columns(self) -> dict[str, Any]:
        """Return what a report says of every leaf."""
        return {"path": self.path, "shape": self.shape, "dtype": str(self.dtype)}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Arguments sorted into differentiable leaves, constant arrays, and all else."""

    structure: Any
    everything: list[Any]
    paths: list[str]
    leaves: list[Leaf]
    constants: list[int]  # positions of the constant arrays: integers, booleans, keys, floats
    names: list[str]
    argnums: tuple[int, ...]
    selected_one: bool = False  # argnums was one integer: a gradient is bare, not in a tuple

    def rebuild(self, variables: Sequence[Any], constants: Sequence[Any] | None = None) -> tuple:
        """Return the arguments with other differentiable leaves, and other constants if given."""
        everything = list(self.everything)
        for leaf, variable in zip(self.leaves, variables, strict=True):
            everything[leaf.position] = variable
        if constants is not None:
            for position, constant in zip(self.constants, constants, strict=True):
                everything[position] = constant
        return jax.tree.unflatten(self.structure, everything)

    def variables(self, dtype: Any) -> list[jax.Array]:
        """Return the differentiable leaves in one dtype."""
        return [jnp.asarray(np.asarray(leaf.value).astype(dtype)) for leaf in self.leaves]

    def constant_arrays(self, dtype: Any = None) -> list[Any]:
        """Return the constant arrays, the floating-point ones in `dtype` if it is given."""
        arrays = [self.everything[position] for position in self.constants]
        if dtype is None:
            return arrays
        return [np.asarray(a).astype(dtype) if _is_float_array(a) else a for a in arrays]


def take_apart(f: Callable, args: Any, argnums: int | Sequence[int] | None) -> Arguments:
    """Sort the leaves of `args`, and refuse what cannot be differentiated."""
    if not isinstance(args, tuple):
        raise ConfigurationError(
            f"args expects a tuple of positional arguments, got {type(args).__name__}: "
            f"write (x,) for one argument"
        )
    names = _names(f, len(args))
    selected = _selected(argnums, len(args))
    leaves, constants, everything, paths = [], [], [], []
    flat, structure = jax.tree_util.tree_flatten_with_path(args, is_leaf=lambda x: x is None)
    for position, (path, value) in enumerate(flat):
        argument = path[0].idx
        name = "/".join([names[argument], *parts(path[1:])])
        everything.append(value)
        paths.append(name)
        if isinstance(value, jax.ShapeDtypeStruct):
            raise ConfigurationError(f"{name} is a shape without values: give an array")
        if argument in selected and _is_float(value):
            _demand_finite(name, value)
            leaves.append(Leaf(name, argument, position, value))
        elif argument in selected and _is_complex(value):
            raise ConfigurationError(
                f"{name} is complex ({_kind(value)}), which is not supported: split it, pass the "
                f"real and imaginary parts as two arguments x and y, and compute x + 1j * y in f; "
                f"or leave it out with argnums="
            )
        elif _is_array(value):
            constants.append(position)
    if not leaves:
        kinds = ", ".join(
            f"{p}: {_kind(v)}" for p, v in list(zip(paths, everything, strict=True))[:6]
        )
        raise ConfigurationError(
            f"no differentiable leaf among the arguments ({kinds or 'there are none'}): give at "
            f"least one floating-point array"
            + (", or other argnums" if argnums is not None else "")
        )
    return Arguments(
        structure=structure,
        everything=everything,
        paths=paths,
        leaves=leaves,
        constants=constants,
        names=names,
        argnums=selected,
        selected_one=isinstance(argnums, int),
    )


def _kind(value: Any) -> str:
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    return "None" if value is None else type(value).__name__


def _names(f: Callable, count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return [f"args[{i}]" for i in range(count)]
    names = []
    for i in range(count):
        if i < len(parameters) and parameters[i].kind in (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ):
            names.append(parameters[i].name)
        else:
            names.append(f"args[{i}]")
    return names


def _selected(argnums: int | Sequence[int] | None, count: int) -> tuple[int, ...]:
    if argnums is None:
        return tuple(range(count))
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for number in wanted:
        if not -count <= number < count:
            raise ConfigurationError(
                f"argnums={argnums} expects positions of {count} arguments, 0 to {count - 1}"
            )
    return tuple(number % count for number in wanted)


def parts(path: Sequence[Any]) -> list[str]:
    """Return the keys of a path as text."""
    return [jax.tree_util.keystr((key,), simple=True) for key in path]


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic, jax.Array)) and value.dtype != object


def _is_float_array(value: Any) -> bool:
    return _is_array(value) and jnp.issubdtype(value.dtype, jnp.floating)


def _is_float(value: Any) -> bool:
    return _is_float_array(value) or (isinstance(value, float))


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or (
        _is_array(value) and jnp.issubdtype(value.dtype, jnp.complexfloating)
    )


def _demand_finite(name: str, value: Any) -> None:
    finite = np.isfinite(np.asarray(value, np.float64))
    if not finite.all():
        where = np.unravel_index(int(np.argmin(finite)), finite.shape) if finite.ndim else ()
        entry = f"{name}{[int(i) for i in where]}" if where else name
        raise ConfigurationError(
            f"{entry} is {np.asarray(value, np.float64)[where]}, where no derivative exists: give "
            f"finite values, or leave the argument out with argnums="
        )
