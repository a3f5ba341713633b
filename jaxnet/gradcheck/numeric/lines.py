"""Lines through the point along which f is differentiated: random directions or coordinates."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.numeric.norms import scale
from jaxnet.gradcheck.numeric.romberg import (
    NOISE_POINTS,
    Derivative,
    Ladder,
    differentiate,
    noise_level,
    noise_spacing,
    on_grid,
    stuck_noise,
)


@dataclass(frozen=True)
class Directions:
    """Lines x + t·v for the rows v of a matrix [lines, leaf size]."""

    program: Any
    leaf: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: np.ndarray) -> "Directions":
        """Return some of the lines."""
        return replace(self, rows=self.rows[which])

    def put(self, where: np.ndarray, other: Any) -> "Directions":
        """Return the lines with other ones at the indices `where`."""
        rows = self.rows.copy()
        rows[where] = other.rows
        return replace(self, rows=rows)

    def on_grid(self, ladder: Ladder) -> "Directions":
        """Return the lines whose points are exact at every step of the ladder."""
        point = _flat(self.program, self.leaf)
        smallest = float(ladder.steps[-1])
        return replace(self, rows=on_grid(self.rows, point[None], smallest, self.program.roundoff))

    def values(self, steps: np.ndarray) -> np.ndarray:
        """Return phi [lines, steps]."""
        return self.program.along(self.leaf, self.rows, steps)

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """Return <gradient, v> of each line."""
        return self.rows @ gradient.ravel()

    def weigh(self, gradient: np.ndarray) -> np.ndarray:
        """Return <|gradient|, |v|> of each line."""
        return abs(self.rows) @ abs(gradient.ravel())

    def norms(self) -> np.ndarray:
        """Return |v| of each line."""
        return np.sqrt(np.sum(self.rows**2, axis=1))


@dataclass(frozen=True)
class Coordinates:
    """Lines x + t·s_i·e_i for flat indices i of a leaf."""

    program: Any
    leaf: int
    index: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: np.ndarray) -> "Coordinates":
        """Return some of the lines."""
        return replace(self, index=self.index[which], lengths=self.lengths[which])

    def put(self, where: np.ndarray, other: Any) -> "Coordinates":
        """Return the lines with other ones at the indices `where`."""
        lengths = self.lengths.copy()
        lengths[where] = other.lengths
        return replace(self, lengths=lengths)

    def on_grid(self, ladder: Ladder) -> "Coordinates":
        """Return the lines whose points are exact at every step of the ladder."""
        point = _flat(self.program, self.leaf)[self.index]
        smallest = float(ladder.steps[-1])
        return replace(self, lengths=on_grid(self.lengths, point, smallest, self.program.roundoff))

    def values(self, steps: np.ndarray) -> np.ndarray:
        """Return phi [lines, steps]."""
        return self.program.at(self.leaf, self.index, steps * self.lengths[:, None])

    def project(self, gradient: np.ndarray) -> np.ndarray:
        """Return <gradient, v> of each line."""
        return self.lengths * gradient.ravel()[self.index]

    def weigh(self, gradient: np.ndarray) -> np.ndarray:
        """Return <|gradient|, |v|> of each line."""
        return abs(self.project(gradient))

    def norms(self) -> np.ndarray:
        """Return |v| of each line."""
        return abs(self.lengths)


Lines = Directions | Coordinates


def coordinates(program: Any, leaf: int, index: np.ndarray, least: float = 0.0) -> Coordinates:
    """Return lines along single entries, as long as the entry, the leaf's scale and `least`."""
    point = _flat(program, leaf)
    lengths = np.maximum(abs(point[index]), max(scale(point), least))
    return Coordinates(program, leaf, np.asarray(index, np.int64), lengths)


def random_directions(program: Any, leaf: int, rng: np.random.Generator, count: int) -> Directions:
    """Return directions of random signs and magnitudes U(½, 3/2), as long as the leaf's scale.

    Gaussian components are often near 0, where one wrong entry hides; ±1 lets two equal and
    opposite errors cancel half of the time.
    """
    point = _flat(program, leaf)
    rows = rng.choice([-1.0, 1.0], (count, point.size)) * rng.uniform(0.5, 1.5, (count, point.size))
    return Directions(program, leaf, rows * (scale(point) / np.sqrt(max(point.size, 1))))


def informed_directions(program: Any, leaf: int, *gradients: np.ndarray | None) -> Directions:
    """Return sign(g) and g/|g| of each gradient g, along which it stands out of the noise most."""
    point = _flat(program, leaf)
    rows = [np.empty((0, point.size))]
    for gradient in gradients:
        if gradient is None or not np.any(gradient) or not np.isfinite(gradient).all():
            continue
        flat = gradient.ravel() / np.max(abs(gradient))
        # The signs weigh all entries alike, the gradient itself favours the largest ones.
        rows.append((np.sign(flat) / np.sqrt(np.count_nonzero(flat)))[None])
        rows.append((flat / np.sqrt(np.sum(flat**2)))[None])
    return Directions(program, leaf, np.concatenate(rows) * scale(point))


def proof_share(program: Any) -> float:
    """Return the largest share of a derivative that the bound of a proof may have.

    In float64 no factor of 1.001 passes then; differences in float32 resolve no more than 1 %.
    """
    return 1e-4 if program.roundoff < 1e-12 else 1e-2


def join(*parts: Directions) -> Directions:
    """Return the lines of all parts."""
    return replace(parts[0], rows=np.concatenate([part.rows for part in parts]))


def measure(lines: Lines, centre: float, noise: float, ladder: Ladder) -> Derivative:
    """Differentiate along every line; the lines must be on the ladder's grid."""
    program = lines.program
    return differentiate(lines.values, len(lines), centre, noise, program.roundoff, ladder)


def measure_noise(lines: Lines, centre: float) -> float:
    """Return the noise of phi near the point: the largest on any of the lines."""
    program = lines.program
    size = lines.rows.shape[1] if isinstance(lines, Directions) else 1
    floor = program.roundoff * abs(centre)
    # Values cannot be more exact than the rounding of the result itself.
    levels = [floor]
    for roundoff in {program.roundoff, program.coarsest_roundoff}:
        if roundoff > 2.0**-20 and program.roundoff < 2.0**-20:
            # The spacing for half-precision parts would be larger than the point itself.
            roundoff = 2.0**-24
        spacing = noise_spacing(roundoff, size)
        values = lines.values(np.broadcast_to(NOISE_POINTS * spacing, (len(lines), 9)).copy())
        levels.append(float(noise_level(values).max()))
        levels.append(stuck_noise(values, values - centre))
    return max(levels)


def _flat(program: Any, leaf: int) -> np.ndarray:
    return np.asarray(program.variables[leaf], np.float64).ravel()
