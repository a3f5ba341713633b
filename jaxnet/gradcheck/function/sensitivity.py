"""How much a gradient changes when the point moves by an ulp or two."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from jaxnet.gradcheck.function.gradients import autodiff, manual_gradient
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.numeric.norms import rms


def spread(subject: Subject, gradient: list[np.ndarray]) -> list[np.ndarray]:
    """Return how much autodiff changes, by entry, when the last bits of the point change."""
    worst = [np.zeros(g.shape) for g in gradient]
    for moved in _beside(subject):
        try:
            changed = autodiff(moved, subject.problem.reference)[0]
        except Exception:
            return worst
        worst = [_larger(w, new, old) for w, new, old in zip(worst, changed, gradient, strict=True)]
    return worst


def sensitivity(subject: Subject, number: int, gradient: np.ndarray) -> np.ndarray:
    """Return how much the gradient of one leaf under test changes, by entry, in the same way."""
    worst = np.zeros(gradient.shape)
    for moved in _beside(subject):
        changed = (manual_gradient(moved).entries if subject.has_manual else autodiff(moved)[0])[
            number
        ]
        if isinstance(changed, np.ndarray):
            worst = _larger(worst, changed, gradient)
    return worst


def _beside(subject: Subject, points: int = 4) -> Iterator[Subject]:
    """Yield the subject at points whose entries differ from its own by two ulps at random."""
    step = 2 * float(np.finfo(subject.dtype).eps)
    rng = np.random.default_rng(23)
    for _ in range(points):
        variables = []
        for variable in subject.program.variables:
            x = np.asarray(variable, np.float64)
            variables.append(
                (x * (1 + step * rng.choice([-1.0, 1.0], x.shape))).astype(subject.dtype)
            )
        yield replace(subject, program=subject.program.at_point(variables))


def _larger(worst: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Return the larger of the worst change so far and this one, tied entries left out."""
    change = abs(np.reshape(new, old.shape) - old)
    # A tie moves the gradient by its own size: a kink, not a rounding error.
    size = rms(old)
    small = change <= 1e-6 * (abs(old) + size)
    return np.asarray(np.fmax(worst, np.where(small, change, 0.0)))
