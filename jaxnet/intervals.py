"""95 % confidence intervals of a mean and of a difference, as (low, high)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Interval = tuple[float, float]

CONFIDENCE = 0.95
UNKNOWN: Interval = (math.nan, math.nan)


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Return `x̄ ± t s/√n`, t the 97.5 % point of Student's distribution with n - 1 degrees.

    `s` is the sample standard deviation, with n - 1 in the denominator. The interval is (NaN, NaN)
    for fewer than two values, which have no spread. It assumes independent, nearly normal values.

    >>> low, high = mean_interval([0.50, 0.52, 0.54])
    >>> f"{low:.4f} {high:.4f}"
    '0.4703 0.5697'

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return UNKNOWN
    return _around(x.mean(), x.std(ddof=1) / math.sqrt(len(x)), len(x) - 1)


def welch_interval(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> Interval:
    """Return `ā - b̄ ± t √(u + v)`, where `u = s_a²/n_a`, `v = s_b²/n_b`: unequal variances.

    The degrees of freedom are `(u + v)² / (u²/(n_a - 1) + v²/(n_b - 1))`. The interval is
    (NaN, NaN) if `a` or `b` has fewer than two values.

    Source: Welch, "The generalization of 'Student's' problem ...", Biometrika 34 (1947).
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(x), len(y)) < 2:
        return UNKNOWN
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    below = u**2 / (len(x) - 1) + v**2 / (len(y) - 1)
    degrees = (
        (u + v) ** 2 / below if below > 0 else len(x) + len(y) - 2
    )  # both constant: degrees do not matter
    return _around(x.mean() - y.mean(), math.sqrt(u + v), degrees)


def proportion_interval(p: float, q: float, n: int) -> Interval:
    """Return `p - q ± 1.96 √(p(1-p)/n + q(1-q)/n)` for the accuracies of two nets on n images.

    It adds the variances as if each net had its own images. Two nets on the same images often make
    the same mistakes, so the true interval is narrower and this one is an upper bound. McNemar's
    test would be sharper, but it needs both predictions for every image.
    """
    error = math.sqrt((p * (1 - p) + q * (1 - q)) / n)
    return _around(p - q, error, math.inf)


def _around(centre: float, error: float, degrees: float | int) -> Interval:
    reach = _quantile(degrees) * float(error)
    return float(centre) - reach, float(centre) + reach


@lru_cache(maxsize=256)
def _quantile(degrees: float | int) -> float:
    from scipy.special import stdtrit  # comes with jax; 0.3 s to import

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))
