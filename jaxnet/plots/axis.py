"""One hyperparameter as an axis of a plot: its values in order, their positions, their labels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from jaxnet.arguments.checks import shown
from jaxnet.errors import ConfigurationError

Column = Sequence[Any] | np.ndarray

MAX_CELLS = 12  # distinct values on an axis; a table with more cells is not readable


class Axis(NamedTuple):
    """One hyperparameter: its sorted distinct values, and their index for each configuration."""

    name: str
    levels: list[Any]
    which: np.ndarray
    even: int = MAX_CELLS

    @property
    def continuous(self) -> bool:
        """Whether values are placed by size; names, and up to `even` values, are evenly spaced."""
        numbers = all(_is_number(v) and math.isfinite(v) for v in self.levels)
        return numbers and len(self.levels) > self.even

    @property
    def positions(self) -> np.ndarray:
        """The position of each configuration on the axis."""
        return np.array(self.levels, np.float64)[self.which] if self.continuous else self.which

    @property
    def labels(self) -> list[str]:
        """The shortest texts that differ for different values: 0.001, 1e-5, relu, 160-80."""
        for digits in range(4, 18):
            labels = [_text(level, digits) for level in self.levels]
            if len(set(labels)) == len(labels):
                return labels
        return [repr(level) for level in self.levels]


def make_axis(name: str, values: Column, *, even: int = MAX_CELLS) -> Axis:
    """Return the axis of a column; more than `even` distinct numbers are placed by size."""
    plain = [_plain(value) for value in values]
    levels = sorted(set(plain), key=_order)
    index = {value: i for i, value in enumerate(levels)}
    return Axis(name, levels, np.array([index[value] for value in plain]), even)


def _plain(value: Any) -> Any:
    """Return a hashable value of built-in types."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _order(value: Any) -> tuple[int, Any]:
    """Sort numbers by size, then tuples element by element, then everything else by its text."""
    if _is_number(value):
        return 0, value
    return (1, tuple(map(_order, value))) if isinstance(value, tuple) else (2, str(value))


def _text(value: Any, digits: int) -> str:
    if isinstance(value, tuple):
        return "-".join(_text(v, digits) for v in value) or "none"
    if isinstance(value, float):
        return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")
    return str(value)


def check_lengths(columns: Mapping[str, Column]) -> None:
    """Raise ConfigurationError unless every column has one entry a run, for one run or more."""
    for name, values in columns.items():
        if getattr(values, "ndim", 1) == 0:
            raise ConfigurationError(f"{name}: expected a list of values, got {shown(values)}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        got = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ConfigurationError(f"expected one value per configuration in each column, got {got}")


def as_numbers(name: str, column: Column, dtype: type = np.float64) -> np.ndarray:
    """Return a column as an array; raise ConfigurationError for texts and ragged lists."""
    try:
        if isinstance(column, str | bytes):
            raise ValueError("a text")
        return np.asarray(column, dtype)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError(
            f"{name}: expected numbers, one each, got {shown(column)}"
        ) from None


def scale(axes: Axes, side: Literal["x", "y"], axis: Axis) -> None:
    """Label one side of the axes, and set its ticks and its scale, linear or logarithmic."""
    line = getattr(axes, f"{side}axis")
    line.set_label_text(axis.name)
    few = len(axis.levels) <= MAX_CELLS
    positive = [v for v in axis.levels if axis.continuous and v > 0]
    if axis.continuous and axis.levels[0] >= 0 and _logarithmic(positive, few):
        symlog = {"value": "symlog", "linthresh": positive[0], "linscale": 0.5}
        kind = {"value": "log"} if axis.levels[0] > 0 else symlog
        getattr(axes, f"set_{side}scale")(**kind)
    if few or not axis.continuous:
        labels = axis.labels
        at = axis.levels if axis.continuous else np.arange(len(labels))
        line.set_ticks([], minor=True)
        line.set_ticks(at, labels=labels)
        line.set_tick_params(labelsize=8)
        if side == "x" and max(map(len, labels)) > 8:
            line.set_tick_params(labelrotation=30)
    if not axis.continuous:
        getattr(axes, f"set_{side}lim")(-0.5, len(axis.levels) - 0.5)


def _logarithmic(positive: Sequence[float | int], few: bool) -> bool:
    """Whether numbers span decades, so that a logarithmic axis shows them better.

    A few numbers should span one decade and be better separated by their logarithms. For many,
    which are random draws, the median decides as well, as uniform draws also come close to 0.
    """
    if len(positive) < 2:
        return False
    low, middle, high = positive[0], positive[len(positive) // 2], positive[-1]
    if not few:
        return high > 100 * low and high > 5 * middle
    gaps = [np.diff(v).min() / (v[-1] - v[0]) for v in (np.log(positive), np.array(positive))]
    return high >= 10 * low and bool(gaps[0] >= gaps[1])
