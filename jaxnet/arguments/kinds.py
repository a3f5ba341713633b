"""The kinds of values that an annotation can ask for, below the modules that make such kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.arguments.checks import Unfit

# NumPy files some of these under kind "V" (void), although they are floats.
_SMALL_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Kind:
    """What an annotation asks for: its name in messages, and a function that converts a value.

    `take` returns the converted value, or raises Unfit for a value that does not fit.
    """

    says: str
    take: Callable[[Any], Any]


def take_numpy(value: Any) -> np.ndarray:
    """Return an array of numbers in the byte order of this machine."""
    if not hasattr(value, "dtype") and not isinstance(value, list | tuple):
        raise Unfit
    if isinstance(value, np.ma.MaskedArray):
        raise Unfit("fill its masked values, with filled(value)")  # np.asarray would drop the mask
    try:
        array = np.asarray(value)
    except Exception:  # a ragged list, a traced array
        raise Unfit from None
    if array.dtype.kind not in "biuf" and array.dtype.name not in _SMALL_FLOATS:
        raise Unfit
    return array.astype(array.dtype.newbyteorder("="), copy=False)
