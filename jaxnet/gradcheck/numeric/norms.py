"""Norms and scales of arrays, computed so that no square overflows or underflows."""

import numpy as np


def scale(point: np.ndarray) -> float:
    """Return the root mean square of a leaf, 1 if it is all zeros."""
    return rms(point) or 1.0


def rms(a: np.ndarray) -> float:
    """Return the root mean square."""
    largest = float(np.max(abs(a), initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean((a / largest) ** 2)))


def norm(a: np.ndarray) -> float:
    """Return the Euclidean norm."""
    return rms(a) * float(np.sqrt(np.size(a)))


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """Return |a − b| / |b| with Euclidean norms, 1 for b = 0."""
    if not np.any(b):
        return float(np.any(a))
    return float(min(norm(np.asarray(a - b)) / norm(b), np.finfo(float).max))
