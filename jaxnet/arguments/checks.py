"""Checks of single arguments: return the plain value, or raise an error of one line."""

import math
import os
from collections.abc import Iterable
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from jaxnet.errors import ConfigurationError, unknown

LARGEST = 2**63 - 1  # the largest integer of NumPy, SQLite and the operating system
_MAX_CHARACTERS = 100  # of a value in a message
_MAX_NAME_BYTES = 255  # of a file's name, on all common file systems


class Unfit(ValueError):
    """A value that does not fit; an optional text says why."""


def shown(value: Any) -> str:
    """Return a value in a few words on one line, without the address of an object.

    >>> shown("adm"), shown([1, 2]), shown(x for x in "abc"), shown(shown)
    ("'adm'", '[1, 2]', 'a generator', 'the function shown')
    """
    if getattr(value, "shape", ()) != ():
        return f"an array {value.dtype}{list(value.shape)}"
    try:
        text = repr(held(value))
    except Exception:  # a user's object, or an integer of thousands of digits
        text = ""
    if text and " at 0x" not in text and "\n" not in text and len(text) <= _MAX_CHARACTERS:
        return text
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    return f"a {type(value).__name__}"


def held(value: Any) -> Any:
    """Return the number of a NumPy scalar or a 0-d array; return other values as they are.

    >>> import numpy as np
    >>> held(np.int64(3)), held(np.array(0.5)), held("3")
    (3, 0.5, '3')
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        try:
            return value.item()
        except Exception:  # a traced array or a random key has no number
            return value
    return value


def take_whole(value: Any) -> int:
    """Return a whole number of 64 bits; raise Unfit for others, also booleans and 2.0."""
    value = held(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise Unfit
    taken = int(value)
    if abs(taken) > LARGEST:
        raise Unfit
    return taken


def take_number(value: Any) -> int | float:
    """Return a finite Python number; raise Unfit for others, also booleans and texts."""
    value = held(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise Unfit
    try:
        if isinstance(value, Integral) and abs(int(value)) <= LARGEST:
            return int(value)
        number = float(value)
        if math.isfinite(number):
            return number
    except OverflowError:  # an integer of hundreds of digits
        pass
    raise Unfit


def take_flag(value: Any) -> bool:
    """Return True or False; raise Unfit for others, also 0 and 1."""
    value = held(value)
    if not isinstance(value, bool):
        raise Unfit
    return value


def take_path(value: Any) -> Path:
    """Return a path with ~ expanded; raise Unfit if no file can have this name."""
    try:
        text = os.fspath(value)
        if not isinstance(text, str) or not text or "\0" in text:
            raise Unfit
        path = Path(text).expanduser()
        names = [os.fsencode(part) for part in path.parts]
    except (TypeError, RuntimeError, UnicodeError):  # not a path, no such home, no such characters
        raise Unfit from None
    if any(len(name) > _MAX_NAME_BYTES for name in names):
        raise Unfit
    return path


def whole(name: str, value: Any, lowest: int = 0, highest: int = LARGEST) -> int:
    """Return a whole number in a range, or raise ConfigurationError that names the argument.

    >>> whole("steps", 2.0, 1)
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: steps: expected a whole number from 1 up, got 2.0
    """
    try:
        taken = take_whole(value)
    except Unfit:
        taken = None
    if taken is None or not lowest <= taken <= highest:
        if taken is not None and taken > highest:
            limit = f" from {lowest} to {highest:,}"
        else:
            limit = "" if lowest == -LARGEST else f" from {lowest} up"
        raise ConfigurationError(f"{name}: expected a whole number{limit}, got {shown(value)}")
    return taken


def number(
    name: str,
    value: Any,
    low: float | int = -math.inf,
    high: float | int = math.inf,
    *,
    above: bool = False,
) -> int | float:
    """Return a finite number from `low` (with `above`: above it) to `high`, or raise an error.

    >>> number("memory", "2GB", 0, above=True)
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: memory: expected a number above 0, got '2GB'
    """
    try:
        taken = take_number(value)
        if (low < taken if above else low <= taken) and taken <= high:
            return taken
    except Unfit:
        pass
    least = "" if low == -math.inf else f" above {low:g}" if above else f" from {low:g}"
    most = "" if high == math.inf else f" to {high:g}"
    up = " up" if least and not above and not most else ""
    raise ConfigurationError(f"{name}: expected a number{least}{most}{up}, got {shown(value)}")


def flag(name: str, value: Any) -> bool:
    """Return True or False; ConfigurationError for all else, 0 and 1 included.

    >>> flag("batch_invariant", 1)
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: batch_invariant: expected True or False, got 1
    """
    try:
        return take_flag(value)
    except Unfit:
        raise ConfigurationError(f"{name}: expected True or False, got {shown(value)}") from None


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """Return a known name, or raise ConfigurationError with the near match."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        got = value if isinstance(value, str) else shown(value)
        raise ConfigurationError(unknown(name, got, known))
    return value
