"""The numeric derivative: a ladder of steps, Romberg extrapolation and a bound on its error.

phi'(0) from T_k0 = (phi(h_k) − phi(−h_k)) / 2h_k, T_kj = (16^j·T_k,j−1 − T_k−1,j−1) / (16^j − 1)
with h_k = h_0·4^−k; the entry of the table with the least error estimate is taken. Ridders 1982;
the noise of phi is measured from differences of neighbouring values, Moré and Wild 2011.
"""

from collections.abc import Callable
from math import factorial
from typing import NamedTuple

import numpy as np

_DEGREE = 6  # columns of the table
_RATIO_SAFETY = 4.0  # bounds are this many error estimates: the true error was at most 0.3 of one


class Ladder(NamedTuple):
    """Step sizes first·ratio^−k."""

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
SINGLE = Ladder(first=1.0, ratio=2, rungs=12)  # for functions that compute in float32


class Derivative(NamedTuple):
    """Derivatives along N directions, each with the bound of its error."""

    value: np.ndarray
    bound: np.ndarray
    noise: np.ndarray  # the part of the bound that comes from the noise of the function
    consistent: np.ndarray  # the smallest steps tell the same
    jump: np.ndarray  # right minus left derivative where it is certain, else 0
    one_sided: np.ndarray  # phi is finite on one side only: +1 right, −1 left, 0 both, nan neither
    magnitude: np.ndarray  # largest |phi| met


def differentiate(
    evaluate: Callable[[np.ndarray], np.ndarray],
    count: int,
    centre: float,
    noise: np.ndarray | float,
    unit: float,
    ladder: Ladder,
) -> Derivative:
    """Differentiate phi at 0 along `count` lines; `evaluate(steps)` gives phi [count, steps].

    `noise` is the measured noise of phi, `unit` the rounding unit of its arithmetic.
    """
    h = ladder.steps
    values = evaluate(np.broadcast_to(np.concatenate([h, -h]), (count, 2 * len(h))).copy())
    right, left = values[:, : len(h)], values[:, len(h) :]
    with np.errstate(all="ignore"):
        return _from_values(right, left, centre, noise, unit, ladder)


def _from_values(right, left, centre, noise, unit, ladder) -> Derivative:
    h = ladder.steps
    finite_right, finite_left = np.isfinite(right), np.isfinite(left)
    both = finite_right & finite_left
    size = np.fmax(np.where(both, np.fmax(abs(right), abs(left)), np.nan), abs(centre))
    magnitude = np.fmax(np.nanmax(np.where(both, size, abs(centre)), axis=1), abs(centre))
    rung_noise = 1.5 * np.fmax(np.broadcast_to(noise, len(right))[:, None], unit * size) / h
    central = np.where(both, (right - left) / (2 * h), np.nan)
    value, error, value_noise = romberg(central, rung_noise, ladder.ratio**2)
    consistent = _consistent(central, rung_noise, value, error, ladder.ratio**2)

    # Near the edge of a domain one side may have no values at all.
    sides = [(right - centre) / h, (centre - left) / h]
    missing = ~np.isfinite(value)
    side = np.zeros(len(right))
    if missing.any():
        for sign, slope, finite in [(1, sides[0], finite_right), (-1, sides[1], finite_left)]:
            use = missing & (finite.sum(axis=1) >= 3) & (side == 0)
            slope = np.where(finite, slope, np.nan)
            fuzz = _one_sided_noise(noise, unit, slope, centre, h)
            v, e, n = romberg(slope, fuzz, ladder.ratio)
            value, error = np.where(use, v, value), np.where(use, e, error)
            value_noise = np.where(use, n, value_noise)
            agree = _consistent(slope, fuzz, v, e, ladder.ratio)
            consistent = np.where(use, agree, consistent)
            side = np.where(use, sign, side)
        side = np.where(missing & (side == 0), np.nan, side)
    jump = _jump(right, left, centre, rung_noise, h, ladder.ratio)
    kinked = np.flatnonzero(jump)
    if kinked.size:  # the error of central differences falls with h there, not with h²
        noises = np.broadcast_to(noise, len(jump))[kinked]
        slopes = [slope[kinked] for slope in sides]
        fuzz = [_one_sided_noise(noises, unit, slope, centre, h) for slope in slopes]
        right, left = (romberg(s, f, ladder.ratio) for s, f in zip(slopes, fuzz, strict=True))
        value[kinked], jump[kinked] = (right[0] + left[0]) / 2, right[0] - left[0]
        error[kinked], value_noise[kinked] = np.fmax(right[1], left[1]), np.fmax(right[2], left[2])
    bound = np.where(np.isfinite(error), _RATIO_SAFETY * error, np.inf)
    return Derivative(value, bound, value_noise, consistent, jump, side, magnitude)


def _one_sided_noise(noise, unit, slope, centre, h) -> np.ndarray:
    """Return the noise of one-sided differences."""
    size = np.fmax(abs(centre), abs(slope * h + centre))
    return 3 * np.fmax(np.broadcast_to(noise, len(slope))[:, None], unit * size) / h


def romberg(table: np.ndarray, noise: np.ndarray, power: float | int):
    """Return value, error estimate and noise of the best entry of the extrapolation table."""
    rungs = table.shape[1]
    before, before_noise = table, noise
    best = np.full(len(table), np.nan)
    best_error, best_noise = np.full(len(table), np.inf), np.full(len(table), np.inf)
    with np.errstate(all="ignore"):
        for j in range(1, min(_DEGREE, rungs - 1) + 1):
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
            best_noise = np.where(better, now_noise[rows, k], best_noise)
            best_error = np.where(better, error[rows, k], best_error)
            before, before_noise = now, now_noise
    return best, best_error, best_noise


def _consistent(raw, noise, value, error, power) -> np.ndarray:
    """Whether the raw differences at the two smallest steps agree with the chosen value.

    Their own truncation error falls by `power` a step, so a fraction of the last change is allowed.
    """
    agree = np.ones(len(raw), bool)
    for k in (-1, -2):
        finite = np.isfinite(raw[:, k])
        truncation = 2 * abs(raw[:, k] - raw[:, k - 1]) / (power - 1)
        truncation = np.where(np.isfinite(truncation), truncation, 0)
        near = abs(raw[:, k] - value) <= 8 * noise[:, k] + _RATIO_SAFETY * error + truncation
        agree &= near | ~finite
    return agree & np.isfinite(value)


def _jump(right, left, centre, noise, h, ratio) -> np.ndarray:
    """Return right minus left derivative at 0, or 0 where it is not certain.

    s(h) = (phi(h) + phi(−h) − 2·phi(0)) / h falls to 0 with h if phi is smooth.
    """
    s = (right + left - 2 * centre) / h
    limit = (ratio * s[:, 1:] - s[:, :-1]) / (ratio - 1)
    limit_noise = (ratio * 3 * noise[:, 1:] + 3 * noise[:, :-1]) / (ratio - 1)
    settled = abs(limit[:, 1:] - limit[:, :-1])
    error = settled + abs(limit[:, 1:] - s[:, 2:]) + limit_noise[:, 1:]
    error = np.where(np.isfinite(error), error, np.inf)
    rows, k = np.arange(len(s)), np.argmin(error, axis=1)
    best, best_error = limit[:, 1:][rows, k], error[rows, k]
    # A kink keeps its jump at the small steps; a kink at a distance does not reach them.
    small = abs(s[:, -1] - best) <= 6 * noise[:, -1] + 4 * best_error
    certain = (abs(best) > 4 * best_error) & small & np.isfinite(best)
    return np.where(certain, best, 0.0)


def noise_spacing(unit: float, size: int) -> float:
    """Return the spacing of the values from which noise is measured, in units of a direction."""
    ulps = 4096 if unit < 1e-12 else 64
    return float(min(ulps * unit * np.sqrt(max(size, 1)), 2.0**-6))


NOISE_POINTS = np.arange(9)  # on one side: a kink at the point is no noise


def noise_level(values: np.ndarray) -> np.ndarray:
    """Return the noise of phi from nine equally spaced values a row [rows, 9]: ECnoise.

    The k-th differences of independent noise σ have variance σ²·(2k)!/(k!)²; those of a smooth
    function vanish.
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
    """Return half the smallest change that phi ever shows if its neighbouring values are equal."""
    equal = np.mean(np.diff(values, axis=-1) == 0)
    changes = abs(changes[np.isfinite(changes) & (changes != 0)])
    return float(changes.min()) / 2 if equal >= 0.5 and changes.size else 0.0


def on_grid(direction: np.ndarray, point: np.ndarray, smallest: float, unit: float) -> np.ndarray:
    """Round a direction so that point ± step·direction are exact for every step of a ladder.

    Then the half-width of every difference is exactly the step; components that would vanish stay
    as they are.
    """
    _, exponent = np.frexp(abs(point) + abs(direction))
    grid = np.ldexp(2 * unit / smallest, exponent)
    rounded = np.round(direction / grid) * grid
    return np.where((rounded == 0) | ~np.isfinite(rounded), direction, rounded)
