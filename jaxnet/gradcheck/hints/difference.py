"""The difference of a wrong gradient from the right one, and words for where they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_MAX_SAME_RESIDUAL = 1e-8
"""Two arrays with a smaller relative residual count as the same."""


@dataclass(kw_only=True)
class Difference:
    """One leaf: a = manual, n = reference, d = a − n, and `wrong` marks the entries that differ."""

    a: np.ndarray
    n: np.ndarray
    bound: np.ndarray
    parameter: np.ndarray | None
    dimensions: Mapping[str, int]
    cotangent: float | None = 1.0
    sizes: frozenset[int] = frozenset()

    def __post_init__(self):
        self.d = self.a - self.n
        largest = np.abs(self.n).max(initial=0)
        slack = 1e-12 * np.maximum(np.abs(self.a), np.abs(self.n)) + 1e-15 * largest
        self.wrong = np.abs(self.d) > self.bound + slack
        self.noise = np.linalg.norm(self.bound)

    def same(self, x: np.ndarray, y: np.ndarray, slack: float = 1.0) -> bool:
        """Whether x = y within rounding and a bound that does not hide the difference."""
        # The second condition: any two arrays agree within a bound as large as their difference.
        miss = np.linalg.norm(x - y)
        size = max(np.linalg.norm(x), np.linalg.norm(y))
        noise = slack * self.noise
        return bool(
            miss <= _MAX_SAME_RESIDUAL * size + noise and miss <= 0.05 * np.linalg.norm(self.d)
        )

    def is_multiple(self, factor: float) -> np.ndarray:
        """Return where a = factor·n within rounding and the bound."""
        y = factor * self.n
        slack = max(1.0, abs(factor)) * self.bound
        return (
            np.abs(self.a - y) <= _MAX_SAME_RESIDUAL * np.maximum(np.abs(self.a), np.abs(y)) + slack
        )


def slope_of(y: np.ndarray, x: np.ndarray) -> float:
    """Return the least-squares ρ of y = ρ·x, 0 for x = 0."""
    x, y = x.ravel(), y.ravel()
    largest = np.abs(x).max(initial=0)
    if largest == 0:
        return 0.0
    x = x / largest  # squares of gradients of 1e-200 underflow
    return float(x @ y / (x @ x) / largest)


def cosine_of(x: np.ndarray, y: np.ndarray) -> float:
    """Return the cosine of the angle between two arrays."""
    x, y = (array.ravel() / np.abs(array).max() for array in (x, y))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def where_wrong(wrong: np.ndarray) -> str:
    """Return " at ..." if the wrong entries are few, or fill few indices of an axis; else ""."""
    if wrong.size >= 20 and wrong.sum() <= min(5, wrong.size / 10):
        return f" at {join_words([index_text(i) for i in np.argwhere(wrong).tolist()])}"
    best = None
    for axis, n in enumerate(wrong.shape):
        hit = np.flatnonzero(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
        if n > 2 and 3 * len(hit) <= n and (best is None or len(hit) / n < best[0]):
            best = len(hit) / n, axis, hit.tolist()
    if best is None or (wrong.ndim < 2 and wrong.size < 20):
        return ""
    _, axis, hit = best
    more = f" and {len(hit) - 5} more" if len(hit) > 5 else ""
    return f" at index {join_words(hit[:5])}{more} of axis {axis}"


def index_text(position: Sequence[int]) -> str:
    """Return an index as text, such as [1, 2]."""
    return f"[{', '.join(map(str, position))}]"


def join_words(items: Sequence[object]) -> str:
    """Return items as "a, b and c"."""
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def axis_name(case: Difference, axis: int) -> str:
    """Return " (batch)" where the axis has the size of a named dimension, else ""."""
    names = [name for name, n in case.dimensions.items() if n == case.a.shape[axis]]
    return f" ({' or '.join(names)})" if names else ""


def zeros_text(case: Difference, wrong: np.ndarray) -> str:
    """Say in how many of the wrong entries only one of the two gradients is 0."""
    lost = int((wrong & (case.a == 0)).sum())
    extra = int(wrong.sum()) - lost
    texts = [f"0 in {lost} where the reference is not"] if lost else []
    texts += [f"not 0 in {extra} where the reference is"] if extra else []
    return " and ".join(texts)


def totals_agree(case: Difference) -> bool:
    """Whether the sums over all entries agree, and do not cancel to nothing."""
    got, expected = np.array([case.a.sum()]), np.array([case.n.sum()])
    # The nature of the function may make both of them 0, which says nothing.
    large = abs(expected[0]) > 1e-2 * np.abs(case.n).sum()
    return bool(large and case.same(got, expected, case.a.size**0.5))
