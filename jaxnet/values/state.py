"""The attributes of an object, from its dictionary and its slots."""

from typing import Any


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object itself, including slots.

    It does not use the pickling methods of its class, which may leave out what matters.
    """
    state: Any = object.__getstate__(value)
    own, slots = state if isinstance(state, tuple) else (state, None)
    return {**(own or {}), **(slots or {})}
