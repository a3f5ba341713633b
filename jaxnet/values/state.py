"""The attributes of an object, wherever it keeps them."""

from typing import Any


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object's own, those in slots included.

    What its class says of pickling is not asked: it may leave out what decides.
    """
    state: Any = object.__getstate__(value)
    own, slots = state if isinstance(state, tuple) else (state, None)
    return {**(own or {}), **(slots or {})}
