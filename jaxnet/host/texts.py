"""Texts that may come from others: bounded, and with one kind of error for all that they can be."""

import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_PARTS = 50  # of a dotted key
_STRINGS = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' """, re.VERBOSE)
MOST_BYTES = 1 << 28  # a list of a million configurations has about 150 MB


def read_text(path: Path) -> str:
    """Return a file as text; OSError, or ValueError if it is not UTF-8 or above MOST_BYTES."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes")
    return content.decode("utf-8")


def parse_json(text: str) -> Any:
    """Return what a JSON text holds; ValueError for all that is wrong with it.

    Python's reader raises RecursionError for brackets within brackets, beside its own errors.
    """
    try:
        return json.loads(text, parse_constant=_refused)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def to_json(
    value: Any,
    *,
    spelled: bool = False,
    default: Callable[[Any], Any] | None = None,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
) -> str:
    """Return JSON that every reader takes: NaN and infinities, which it lacks, are null.

    With `spelled` they are the strings "nan", "inf" and "-inf". What is of no type of JSON is
    written as `default(value)`.

    >>> to_json({"loss": float("nan"), "bounds": (1.5, float("inf"))})
    '{"loss": null, "bounds": [1.5, null]}'
    """

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: finite(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [finite(part) for part in value]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(float(value)) if spelled else None
        if default is None or value is None or isinstance(value, str | int):
            return value
        return finite(default(value))

    return json.dumps(finite(value), indent=indent, separators=separators, allow_nan=False)


def parse_toml(text: str) -> dict[str, Any]:
    """Return what a TOML text holds; ValueError for all that is wrong with it.

    A key of many parts, a.a.a.a, takes Python's reader time and memory by their square: 13 s and
    2.3 GB for 40 kB. It is refused before.
    """
    for line in text.split("\n"):
        if line.count(".") > MOST_PARTS:
            pieces = re.split(r"[,=\[\]{}#]", _STRINGS.sub("s", line))
            if max(piece.count(".") for piece in pieces) > MOST_PARTS:
                raise ValueError("nested too deeply")
    try:
        found = tomllib.loads(text)
        repr(found)  # dotted keys nest without end: what no message could print is refused here
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return found
