"""Check and convert the arguments of public functions by their annotations.

`@checked` reads the annotations: `int`, `Path | str`, `Float[Array, "batch classes"]`. NumPy and
JAX scalars become Python numbers, paths get their ~ expanded, and NumPy arrays become JAX arrays
if the annotation asks for them. A value that does not fit raises a ConfigurationError that names
the argument. The checks run on the host, when the function is called or traced.
"""

import collections.abc
import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import AbstractArray, jaxtyped

from jaxnet.arguments.checks import Unfit, shown, take_flag, take_number, take_path, take_whole
from jaxnet.arguments.kinds import Kind, take_numpy
from jaxnet.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F) -> F:
    """Check the arguments of a function by its annotations whenever it is called.

    >>> @checked
    ... def twice(count: int) -> int:
    ...     return 2 * count
    >>> twice(np.int64(4))
    8
    >>> twice("4")
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: count: expected a whole number, got '4'
    """
    signature = inspect.signature(function)

    @functools.cache
    def kinds() -> dict[
        str, Kind | None
    ]:  # at the first call, as annotations may name later classes
        annotations = {p.name: p.annotation for p in signature.parameters.values()}
        return {name: kind_of(_resolved(hint, function)) for name, hint in annotations.items()}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        with _axes():
            for name, value in bound.arguments.items():
                kind, parameter = kinds().get(name), signature.parameters[name]
                if kind is None or parameter.kind is parameter.VAR_KEYWORD:
                    continue
                if parameter.kind is parameter.VAR_POSITIONAL:
                    converted = tuple(fit(f"{name}[{i}]", v, kind) for i, v in enumerate(value))
                elif value is parameter.default:
                    continue
                else:
                    converted = fit(name, value, kind)
                bound.arguments[name] = converted
        return function(*bound.args, **bound.kwargs)

    return typing.cast(F, call)


def _axes() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which axes of one name have one length; without JAX there are none."""
    return jaxtyped("context") if "jax" in sys.modules else contextlib.nullcontext()


def _resolved(hint: Any, function: Any) -> Any:
    """Return an annotation; a quoted one from a package that is not installed becomes Any."""
    if hint is inspect.Parameter.empty:
        return Any
    try:
        return eval(hint, inspect.unwrap(function).__globals__) if isinstance(hint, str) else hint
    except NameError:
        return Any


def check_fields(instance: Any) -> None:
    """Check and convert the fields of a dataclass, frozen or not, by their annotations."""
    for name, hint in typing.get_type_hints(type(instance), include_extras=True).items():
        kind = kind_of(hint)
        if kind is not None and name in vars(instance):
            object.__setattr__(instance, name, fit(name, getattr(instance, name), kind))


def fit(name: str, value: Any, kind: Kind) -> Any:
    """Return the value converted to a kind, or raise ConfigurationError that names it."""
    try:
        return kind.take(value)
    except Unfit as error:
        why = f" ({error})" if str(error) else ""
        raise ConfigurationError(f"{name}: expected {kind.says}, got {shown(value)}{why}") from None


@functools.cache
def kind_of(hint: Any) -> Kind | None:
    """Return the kind of an annotation, or None if it allows anything."""
    if hint in _KINDS:  # Any, int, str, ...
        return _KINDS[hint]
    if "jax" in sys.modules:  # data sets load without JAX, and then no annotation has its types
        from jaxnet.arguments import jax_kinds

        if (kind := jax_kinds.kind_of(hint)) is not None:
            return kind
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin is typing.Literal:
        return Kind(" or ".join(map(repr, arguments)), functools.partial(_take_same, arguments))
    if hint is collections.abc.Callable or origin is collections.abc.Callable:
        return Kind("a function", _take_callable)
    plain = origin or hint
    if not isinstance(plain, type):
        return None
    if issubclass(plain, AbstractArray):
        return Kind(_array_says(hint), functools.partial(_take_array, hint))
    if plain is np.ndarray:
        return Kind("an array of numbers", take_numpy)
    if hasattr(plain, "_fields"):  # a named tuple is a class, not a sequence
        return Kind(_a(plain.__name__), functools.partial(_take_instance, plain))
    if issubclass(plain, Mapping):
        values = kind_of(arguments[1]) if len(arguments) == 2 else None
        return Kind("a dict", functools.partial(_take_mapping, values))
    if plain is tuple and arguments and arguments[-1] is not ...:
        parts = tuple(map(kind_of, arguments))
        return Kind(
            f"a tuple of {len(parts)}: {', '.join(p.says if p else 'any' for p in parts)}",
            functools.partial(_take_parts, parts),
        )
    if plain in _SEQUENCES:
        part = kind_of(arguments[0]) if arguments else None
        says = "a list" + (f", each of it {part.says}" if part else "")
        return Kind(says, functools.partial(_take_sequence, part))
    if getattr(plain, "_is_protocol", False) and not getattr(plain, "_is_runtime_protocol", False):
        return None
    return Kind(_a(plain.__name__), functools.partial(_take_instance, plain))


_SEQUENCES = (
    *(collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection),
    *(list, tuple),
)


def _union(members: tuple[Any, ...]) -> Kind | None:
    if Path in members:
        members = tuple(member for member in members if member is not str)
    kinds: list[Kind] = []
    if complex in members:  # ScalarLike, whose members Python merges into the outer union
        from jaxnet.arguments.jax_kinds import SCALAR, scalars

        members = tuple(member for member in members if member not in scalars())
        kinds.append(SCALAR)
    if float in members:
        members = tuple(member for member in members if member is not int)
    for member in members:
        if (kind := kind_of(member)) is None:
            return None
        kinds.append(kind)
    kinds.sort(key=lambda kind: kind.says == "None")

    def take(value: Any) -> Any:
        for kind in kinds:
            try:
                return kind.take(value)
            except Unfit:
                continue
        raise Unfit

    return Kind(" or ".join(dict.fromkeys(kind.says for kind in kinds)), take)


def _take_text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit
    return value


def _take_none(value: Any) -> None:
    if value is not None:
        raise Unfit


def _take_same(known: tuple[Any, ...], value: Any) -> Any:
    if not any(value is one or (isinstance(value, str) and value == one) for one in known):
        raise Unfit
    return value


def _take_callable(value: Any) -> Any:
    if not callable(value):
        raise Unfit
    return value


def _take_instance(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise Unfit
    return value


def _take_mapping(values: Kind | None, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Unfit
    return value if values is None else {name: values.take(part) for name, part in value.items()}


def _take_parts(parts: tuple[Kind | None, ...], value: Any) -> tuple[Any, ...]:
    given = _take_sequence(None, value)
    if len(given) != len(parts):
        raise Unfit
    return tuple(p.take(v) if p else v for p, v in zip(parts, given, strict=True))


def _take_sequence(part: Kind | None, value: Any) -> Any:
    if hasattr(value, "dtype") and getattr(value, "ndim", 0):
        value = list(value)  # an array of NumPy or JAX
    # Sets have no order and iterators can be read only once, so they are refused, as are texts.
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, collections.abc.Sequence):
        raise Unfit
    if part is None:
        return value
    converted = [part.take(one) for one in value]
    return converted if isinstance(value, list) else tuple(converted)


def _take_array(hint: Any, value: Any) -> Any:
    """Return an array of NumPy or JAX that fits a jaxtyping annotation."""
    if hint.array_type is np.ndarray:
        value = take_numpy(value)
    elif isinstance(value, np.ndarray | np.generic):
        from jaxnet.arguments.jax_kinds import on_device

        value = on_device(value)
    if not isinstance(value, hint):
        raise Unfit
    return value


def _array_says(hint: Any) -> str:
    numbers = {"Float": "floats", "Int": "integers", "Bool": "booleans", "Key": "random keys"}
    word = hint.__name__.partition("[")[0]
    axes = ", ".join(hint.dim_str.split())
    return f"an array of {numbers.get(word, word.lower())} [{axes}]"


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


_KINDS: dict[Any, Kind | None] = {
    Any: None,
    object: None,
    int: Kind("a whole number", take_whole),
    float: Kind("a finite number", take_number),
    str: Kind("a text", _take_text),
    bool: Kind("True or False", take_flag),
    Path: Kind("a path", take_path),
    type(None): Kind("None", _take_none),
}
