"""The numeric derivative: a ladder of steps, Romberg extrapolation and a bound on its error.

phi'(0) from T_k0 = (phi(h_k) − phi(−h_k)) / 2h_k, T_kj = (16^j·T_k,j−1 − T_k−1,j−1) / (16^j − 1)
with h_k = h_0·4^−k; the entry of the table with the least error estimate wins (Ridders 1982). The
noise of phi is measured from differences of neighbouring values (Moré and Wild 2011). One fixed
step was rejected: no step suits both curvature and noise, and no step shows its own error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial
from typing import NamedTuple

import numpy as np

_MAX_DEGREE = 6  # columns of the extrapolation table
# A bound is this many error estimates; the true error was at most 0.3 of one in all measurements.
_ESTIMATES_PER_BOUND = 4.0


class Ladder(NamedTuple):
    """The step sizes first·ratio^−k."""

    first: float = 2.0**-3
    ratio: int = 4
    rungs: int = 11

    @property
    def steps(self) -> np.ndarray:
        """Return the steps, largest first."""
        return self.first * float(self.ratio) ** -np.arange(self.rungs)


LADDER = Ladder()
FINER = Ladder(first=2.0**-19, rungs=10)
COARSER = Ladder(first=2.0**9, rungs=11)
SHIFTED = Ladder(first=2.0**-4, rungs=11)
QUICK = Ladder(first=2.0**-5, rungs=5)
SINGLE = Ladder(first=1.0, ratio=2, rungs=12)  # for functions in float32: noise leaves few steps


@dataclass(frozen=True, kw_only=True)
class Derivative:
    """Derivatives along N lines, each with a bound on its error."""

    value: np.ndarray
    bound: np.ndarray
    consistent: np.ndarray  # whether the smallest steps agree with the value
    jump: np.ndarray  # right minus left derivative where it is certain, else 0
    magnitude: np.ndarray  # the largest |phi| on the line


def differentiate(
    evaluate: Callable[[np.ndarray], np.ndarray],
    count: int,
    centre: float,
    noise: np.ndarray | float,
    roundoff: float,
    ladder: Ladder,
) -> Derivative:
    """Differentiate phi at 0 along `count` lines; `evaluate(steps)` gives phi [count, steps].

    `noise` is the measured noise of phi, `roundoff` the unit roundoff of its arithmetic.
    """
    h = ladder.steps
    values = evaluate(np.broadcast_to(np.concatenate([h, -h]), (count, 2 * len(h))).copy())
    right, left = values[:, : len(h)], values[:, len(h) :]
    with np.errstate(all="ignore"):
        return _from_values(right, left, centre, noise, roundoff, ladder)


def _from_values(right, left, centre, noise, roundoff, ladder) -> Derivative:
    h = ladder.steps
    finite_right, finite_left = np.isfinite(right), np.isfinite(left)
    both = finite_right & finite_left
    # Noise grows as the step shrinks: each difference of two values is divided by it.
    size = np.fmax(np.where(both, np.fmax(abs(right), abs(left)), np.nan), abs(centre))
    magnitude = np.fmax(np.nanmax(np.where(both, size, abs(centre)), axis=1), abs(centre))
    rung_noise = 1.5 * np.fmax(np.broadcast_to(noise, len(right))[:, None], roundoff * size) / h
    central = np.where(both, (right - left) / (2 * h), np.nan)
    value, error = romberg(central, rung_noise, ladder.ratio**2)
    consistent = _consistent(central, rung_noise, value, error, ladder.ratio**2)

    # Near the edge of a domain one side may have no values at all: the other side is used then.
    sides = [(right - centre) / h, (centre - left) / h]
    missing = ~np.isfinite(value)
    if missing.any():
        for slope, finite in zip(sides, (finite_right, finite_left), strict=True):
            use = missing & (finite.sum(axis=1) >= 3)
            slope = np.where(finite, slope, np.nan)
            slope_noise = _one_sided_noise(noise, roundoff, slope, centre, h)
            v, e = romberg(slope, slope_noise, ladder.ratio)
            value, error = np.where(use, v, value), np.where(use, e, error)
            agree = _consistent(slope, slope_noise, v, e, ladder.ratio)
            consistent = np.where(use, agree, consistent)
            missing &= ~use
    jump = _jump((right + left - 2 * centre) / h, rung_noise, ladder.ratio)
    kinked = np.flatnonzero(jump)
    if kinked.size:
        # The error of central differences falls with h at a kink, not with h²: the extrapolation
        # above assumes the wrong power. Each side is smooth, so the one-sided slopes are measured.
        noises = np.broadcast_to(noise, len(jump))[kinked]
        slopes = [slope[kinked] for slope in sides]
        right, left = (
            romberg(s, _one_sided_noise(noises, roundoff, s, centre, h), ladder.ratio)
            for s in slopes
        )
        value[kinked], jump[kinked] = (right[0] + left[0]) / 2, right[0] - left[0]
        error[kinked] = np.fmax(right[1], left[1])
    bound = np.where(np.isfinite(error), _ESTIMATES_PER_BOUND * error, np.inf)
    return Derivative(
        value=value, bound=bound, consistent=consistent, jump=jump, magnitude=magnitude
    )


def _one_sided_noise(noise, roundoff, slope, centre, h) -> np.ndarray:
    """Return the noise of one-sided differences."""
    size = np.fmax(abs(centre), abs(slope * h + centre))
    return 3 * np.fmax(np.broadcast_to(noise, len(slope))[:, None], roundoff * size) / h


def romberg(table: np.ndarray, noise: np.ndarray, power: float | int):
    """Return value and error estimate of the best entry of the extrapolation table.

    Column j removes the j-th power of the step from the error. The error estimate of an entry is
    its distance to the two entries it is made of, and twice the noise that extrapolation amplifies.
    """
    rungs = table.shape[1]
    before, before_noise = table, noise
    best = np.full(len(table), np.nan)
    best_error = np.full(len(table), np.inf)
    with np.errstate(all="ignore"):
        for j in range(1, min(_MAX_DEGREE, rungs - 1) + 1):
            factor = float(power) ** j
            now = np.full_like(table, np.nan)
            now_noise = np.full_like(table, np.nan)
            fine, coarse = before[:, 1:], before[:, :-1]
            now[:, 1:] = (factor * fine - coarse) / (factor - 1)
            now_noise[:, 1:] = (factor * before_noise[:, 1:] + before_noise[:, :-1]) / (factor - 1)
            error = np.full_like(table, np.nan)
            error[:, 1:] = np.fmax(abs(now[:, 1:] - fine), abs(now[:, 1:] - coarse))
            error += 2 * now_noise
            error = np.where(np.isfinite(error), error, np.inf)
            k = np.argmin(error, axis=1)
            rows = np.arange(len(table))
            better = error[rows, k] < best_error
            best = np.where(better, now[rows, k], best)
            best_error = np.where(better, error[rows, k], best_error)
            before, before_noise = now, now_noise
    return best, best_error


def _consistent(raw, noise, value, error, power) -> np.ndarray:
    """Whether the raw differences at the two smallest steps agree with the extrapolated value.

    Their truncation error falls by `power` at each step: a fraction of the last change is allowed.
    """
    agree = np.ones(len(raw), bool)
    for k in (-1, -2):
        finite = np.isfinite(raw[:, k])
        truncation = 2 * abs(raw[:, k] - raw[:, k - 1]) / (power - 1)
        truncation = np.where(np.isfinite(truncation), truncation, 0)
        near = abs(raw[:, k] - value) <= 8 * noise[:, k] + _ESTIMATES_PER_BOUND * error + truncation
        agree &= near | ~finite
    return agree & np.isfinite(value)


def _jump(bend, noise, ratio) -> np.ndarray:
    """Return right minus left derivative at 0, or 0 where it is not certain.

    The `bend` s(h) = (phi(h) + phi(−h) − 2·phi(0)) / h falls to 0 with h if phi is smooth.
    """
    limit = (ratio * bend[:, 1:] - bend[:, :-1]) / (ratio - 1)
    limit_noise = (ratio * 3 * noise[:, 1:] + 3 * noise[:, :-1]) / (ratio - 1)
    # One extrapolation step removes the curvature, which is the first term of s(h).
    settled = abs(limit[:, 1:] - limit[:, :-1])
    error = settled + abs(limit[:, 1:] - bend[:, 2:]) + limit_noise[:, 1:]
    error = np.where(np.isfinite(error), error, np.inf)
    rows, k = np.arange(len(bend)), np.argmin(error, axis=1)
    best, best_error = limit[:, 1:][rows, k], error[rows, k]
    # A kink keeps its jump at the small steps; a kink at a distance does not reach them.
    small = abs(bend[:, -1] - best) <= 6 * noise[:, -1] + 4 * best_error
    certain = (abs(best) > 4 * best_error) & small & np.isfinite(best)
    return np.where(certain, best, 0.0)


def noise_spacing(roundoff: float, size: int) -> float:
    """Return the spacing of the values that measure noise, as a fraction of a line."""
    roundoffs = 4096 if roundoff < 1e-12 else 64
    return float(min(roundoffs * roundoff * np.sqrt(max(size, 1)), 2.0**-6))


NOISE_POINTS = np.arange(9)  # all on one side: a kink at the point must not pass for noise


def noise_level(values: np.ndarray) -> np.ndarray:
    """Return the noise of phi from nine equally spaced values in each row [rows, 9], by ECnoise.

    The k-th differences of independent noise σ have variance σ²·(2k)!/(k!)², while differences of a
    smooth function vanish.
    """
    differences, levels = values, []
    with np.errstate(all="ignore"):
        for k in range(1, 7):
            differences = np.diff(differences, axis=1)
            gamma = factorial(k) ** 2 / factorial(2 * k)
            levels.append(np.sqrt(gamma * np.mean(differences**2, axis=1)))
    level = np.max(levels[3:6], axis=0)
    return np.where(np.isfinite(level), level, 0.0)


def stuck_noise(values: np.ndarray, changes: np.ndarray) -> float:
    """Return half of the smallest change that phi shows, if most neighbouring values are equal.

    Such a function rounds its values to stairs, and differences of equal values miss their height.
    """
    equal = np.mean(np.diff(values, axis=-1) == 0)
    changes = abs(changes[np.isfinite(changes) & (changes != 0)])
    return float(changes.min()) / 2 if equal >= 0.5 and changes.size else 0.0


def on_grid(
    direction: np.ndarray, point: np.ndarray, smallest: float, roundoff: float
) -> np.ndarray:
    """Round a direction so that point ± step·direction are exact for every step of a ladder.

    Otherwise the rounding of the point itself would pass for noise of f. Components that would
    vanish stay as they are.
    """
    _, exponent = np.frexp(abs(point) + abs(direction))
    grid = np.ldexp(2 * roundoff / smallest, exponent)
    rounded = np.round(direction / grid) * grid
    return np.where((rounded == 0) | ~np.isfinite(rounded), direction, rounded)
