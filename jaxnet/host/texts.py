"""Read texts that may not be trusted: their size is bounded, and every fault is a ValueError."""

import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_KEY_PARTS = 50  # of a dotted key
_STRINGS = re.compile(r""" "(?:[^"\\]|\\.)*" | '[^']*' """, re.VERBOSE)
MAX_BYTES = 1 << 28  # a list of a million configurations has about 150 MB


def read_text(path: Path) -> str:
    """Return a file as text; raise ValueError if it is not UTF-8 or above MAX_BYTES."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    return content.decode("utf-8")


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; raise ValueError for any fault.

    Python's reader also raises RecursionError, for deeply nested brackets.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def to_json(
    value: Any,
    *,
    spelled: bool = False,
    default: Callable[[Any], Any] | None = None,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
) -> str:
    """Return JSON text that every reader accepts; NaN and infinities become null.

    With `spelled` they become the strings "nan", "inf" and "-inf". A value that JSON has no type
    for is written as `default(value)`.

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
    """Return the table of a TOML text; raise ValueError for any fault.

    Python's reader takes time and memory that grow with the square of the parts of a dotted key,
    a.a.a.a: 13 s and 2.3 GB for 40 kB. Such a key is refused before.
    """
    for line in text.split("\n"):
        if line.count(".") > MAX_KEY_PARTS:
            keys = re.split(r"[,=\[\]{}#]", _STRINGS.sub("s", line))
            if max(key.count(".") for key in keys) > MAX_KEY_PARTS:
                raise ValueError("nested too deeply")
    try:
        table = tomllib.loads(text)
        repr(table)  # refuses tables that are nested too deeply for any message to print
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return table
