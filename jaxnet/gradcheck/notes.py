"""Points at which errors hide: zeros, ones, equal rows, a batch of one."""

from typing import Any

import numpy as np

from jaxnet.gradcheck.subject import Subject


def degenerate(subject: Subject, gradient: list[Any]) -> list[str]:
    """Return what at this point could hide an error of the gradient."""
    notes = []
    arguments = subject.problem.arguments
    for leaf in arguments.leaves:
        text = _special(np.asarray(leaf.value, np.float64))
        if text:
            notes.append(
                f"{leaf.path} is {text}: a point where errors can hide (degenerate); jitter=True "
                f"checks beside it too"
            )
    for position in arguments.constants:
        value = arguments.everything[position]
        kind = value.dtype.kind if isinstance(value.dtype, np.dtype) else ""
        if np.size(value) < 2 or kind not in "biu":
            continue
        if np.all(np.asarray(value) == np.ravel(value)[0]):
            notes.append(f"{arguments.paths[position]} has equal entries only ({value.ravel()[0]})")
    tiny = [
        leaf.path
        for leaf, g in zip(arguments.leaves, gradient, strict=True)
        if isinstance(g, np.ndarray) and g.size and 0 < np.max(abs(g)) < 1e-30
    ]
    if tiny:
        notes.append(f"the gradient is below 1e-30 in {', '.join(tiny)}")
    return notes


def _special(value: np.ndarray) -> str | None:
    if value.size < 2:
        return None
    if not value.any():
        return "all zeros"
    if np.all(value == 1):
        return "all ones"
    if np.all(value == value.ravel()[0]):
        return f"{value.ravel()[0]:.4g} everywhere"
    if value.ndim > 1 and len(value) > 1 and np.all(value == value[:1]):
        return "made of equal rows"
    return None
