"""Random arguments described by a text such as x=f64[3,4] y=i32[3]<10 key."""

import contextlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError, unknown

_DTYPES = {
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "bf16": "bfloat16",
    **{f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": "bool",
}

_ITEM = re.compile(r"(?:(?P<name>[^=\s]*)=)?(?P<value>[^=\s]+)")

_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*)(?:\[(?P<shape>[^\]]*)\])?(?:<(?P<below>\d+))?")

_LITERALS = {"true": True, "false": False, "none": None}


def build_arguments(
    function: Callable, spec: str, seed: int = 0, name: str = "the function"
) -> tuple[Callable, tuple]:
    """Draw the arguments that a text describes; return a function of them by position, and them.

    The text has one item for each argument, in order or as NAME=ITEM, separated by spaces:

        f64[3,4]    floats, standard normal: f16, bf16, f32, f64; f64[] or f64 is a scalar
        i32[3]<10   integers from 0 to 9, 0 or 1 without <10: i8 to i64, u8 to u64
        bool[3]     true or false
        key         a random key; `key` alone also goes to a parameter of that name
        0.5 7 true false none    the value itself; a number with a point is differentiated too

    >>> _, (x, y) = build_arguments(lambda x, y: x, "x=f32[3,4] y=i32[3]<10")
    >>> x.shape, str(x.dtype), y.shape, bool((y < 10).all())
    ((3, 4), 'float32', (3,), True)
    """
    rng = np.random.default_rng([seed, 8])
    positional, named = [], {}
    parameters = _parameters(function)
    # Spaces inside brackets and around = < , do not separate items.
    for item in re.sub(r"\s*([,<=])\s*|(?<=\[)\s+|\s+(?=\])", r"\1", spec).split():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ConfigurationError(f"--args: expected NAME=ITEM or ITEM, got {item!r}")
        value = _value(item, match["value"], rng, seed)
        given = match["name"]
        if given is None and named and item == "key":
            given = "key"
        if given is None:
            if named:
                raise ConfigurationError(f"--args: {item} without a name follows one with a name")
            positional.append(value)
        elif given in named:
            raise ConfigurationError(f"--args: {given} is given twice")
        elif parameters is not None and given not in parameters:
            raise ConfigurationError(f"--args: {unknown(f'argument of {name}', given, parameters)}")
        else:
            named[given] = value
    if not positional and not named:
        raise ConfigurationError('--args is empty: give one item an argument, "x=f64[3,4] key"')
    _demand_fit(function, name, positional, named)
    if parameters is not None:
        # A hand-written gradient gets the arguments by position, in the order of the function.
        named = {given: named[given] for given in parameters if given in named}
    return _by_position(function, len(positional), list(named)), (*positional, *named.values())


def _parameters(function: Callable) -> list[str] | None:
    """Return the names of parameters that can be given, or None if any name can."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _demand_fit(function: Callable, name: str, positional: list, named: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise ConfigurationError(f"--args does not fit {name}{signature}: {error}") from None


def _by_position(function: Callable, positional: int, names: list[str]) -> Callable:
    """Return the function with its named arguments as further positional ones, in this order."""
    if not names:
        return function

    def call(*args):
        return function(*args[:positional], **dict(zip(names, args[positional:], strict=True)))

    kind = inspect.Parameter.POSITIONAL_ONLY
    own = _parameters(function) or []
    first = [own[i] if i < len(own) else f"args{i}" for i in range(positional)]
    parameters = [inspect.Parameter(name, kind) for name in [*first, *names]]
    call.__signature__ = inspect.Signature(parameters)  # names for the report
    return call


def _value(item: str, text: str, rng: np.random.Generator, seed: int) -> Any:
    if text == "key":
        return jax.random.key(seed)
    if text in _LITERALS:
        return _LITERALS[text]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    match = _ARRAY.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"--args: {item!r} is no argument: expected an array such as f64[3,4] or i32[3]<10, "
            f"key, a number, true, false or none"
        )
    if match["dtype"] not in _DTYPES:
        known = [*_DTYPES, "key", *_LITERALS]
        raise ConfigurationError(f"--args: {unknown('dtype', match['dtype'], known)}")
    dtype = jnp.dtype(_DTYPES[match["dtype"]])
    shape = _shape(item, match["shape"] or "")
    below = match["below"]
    if below is not None and (dtype.kind not in "iu" or int(below) < 1):
        raise ConfigurationError(f"--args: {item!r}: < expects integers and a number above 0")
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, int(below or 2), shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    return np.asarray(rng.normal(size=shape)).astype(dtype)


def _shape(item: str, text: str) -> tuple[int, ...]:
    sizes = [size for size in text.split(",") if size]
    if not all(size.isdecimal() for size in sizes):
        raise ConfigurationError(f"--args: {item!r}: expected a shape such as [3,4], got [{text}]")
    return tuple(map(int, sizes))
