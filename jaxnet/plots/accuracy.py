"""Accuracy over the hyperparameters of a sweep: maps, scatters, and all pairs in one figure."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.axis import MAX_CELLS, Axis, Column, as_numbers, check_lengths, make_axis, scale
from jaxnet.plots.cells import cell_font_size, cell_inches, hatch_cell, paint_cells, write_cell
from jaxnet.plots.style import BLUE, COLOURS, GREY, ORANGE, finish, set_title

BEST = "best validation accuracy"


@checked
def accuracy_map(
    x_name: str,
    x_values: Column,
    y_name: str,
    y_values: Column,
    accuracy: Column,
    diverged: Column,
    *,
    title: str = "",
    label: str = BEST,
) -> Figure:
    """Draw the best validation accuracy over two hyperparameters; one entry per configuration.

    Each cell shows the maximum `accuracy` (NaN: none) of its configurations and, below it, "k/n
    div." if k of its n configurations `diverged`; if all did, it is hatched and says "diverged". A
    diverged configuration counts in the maximum with its given accuracy; NaN leaves it out. Values
    may be numbers, strings or tuples. With more than 12 distinct values on an axis (random search)
    each configuration is a point, or a cross if it diverged. `label` describes the accuracies if
    they do not belong to single runs ("mean over 5 seeds"). Raises ConfigurationError for empty
    columns and columns of different lengths.
    """
    accuracy, diverged = _checked({x_name: x_values, y_name: y_values}, accuracy, diverged)
    pair = _Pair(make_axis(x_name, x_values), make_axis(y_name, y_values), accuracy, diverged)
    return _pair_grid([pair], title, label)


@checked
def accuracy_over_pairs(
    columns: Mapping[str, Column],
    accuracy: Column,
    diverged: Column,
    *,
    title: str = "",
    label: str = BEST,
) -> Figure:
    """Draw `accuracy_map` for every pair of the swept hyperparameters, with one colour bar.

    `columns` maps a name to its value in each configuration; a swept one has more than one
    distinct value. With one swept hyperparameter, the plot is accuracy against it. Raises
    ConfigurationError without any, and for columns of different lengths.
    """
    accuracy, diverged = _checked(columns, accuracy, diverged)
    swept = [a for a in (make_axis(*item) for item in columns.items()) if len(a.levels) > 1]
    if not swept:
        raise ConfigurationError(
            "expected a hyperparameter with more than one distinct value, got "
            f"{', '.join(columns) or 'no columns'} with one each; a single run has learning_curves"
        )
    if len(swept) == 1:
        return _strip(swept[0], accuracy, diverged, title, label)
    pairs = [_Pair(x, y, accuracy, diverged) for x, y in itertools.combinations(swept, 2)]
    return _pair_grid(pairs, title, label)


class _Pair(NamedTuple):
    """Two hyperparameters, with accuracy and divergence of each configuration."""

    x: Axis
    y: Axis
    accuracy: np.ndarray
    diverged: np.ndarray

    @property
    def scatter(self) -> bool:
        """Whether there are too many values for a table of cells."""
        return max(len(self.x.levels), len(self.y.levels)) > MAX_CELLS

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return best accuracy (NaN: none), and counts of diverged and all, each [y, x levels]."""
        shape, at = (len(self.y.levels), len(self.x.levels)), (self.y.which, self.x.which)
        best, bad, count = np.full(shape, np.nan), np.zeros(shape, int), np.zeros(shape, int)
        np.fmax.at(best, at, self.accuracy)
        np.add.at(bad, at, self.diverged)
        np.add.at(count, at, 1)
        best[bad == count] = np.nan  # no configuration, or all diverged
        return best, bad, count

    def shown(self) -> np.ndarray:
        """Return the accuracies that the plot shows as colours."""
        if self.scatter:
            return np.where(self.diverged, np.nan, self.accuracy)
        return self.cells()[0].ravel()


def _checked(
    columns: Mapping[str, Column], accuracy: Column, diverged: Column
) -> tuple[np.ndarray, np.ndarray]:
    check_lengths({**columns, "accuracy": accuracy, "diverged": diverged})
    return as_numbers("accuracy", accuracy), as_numbers("diverged", diverged, bool)


def _pair_grid(pairs: Sequence[_Pair], title: str, label: str) -> Figure:
    values = np.concatenate([pair.shown() for pair in pairs])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    norm = Normalize(low, high) if high > low else Normalize(low - 0.01, high + 0.01)

    across = min(len(pairs), 3 if len(pairs) <= 9 else 4)
    down = math.ceil(len(pairs) / across)
    maps = [pair for pair in pairs if not pair.scatter]
    least = (2.2, 1.8) if len(maps) == len(pairs) else (3.2, 2.6)
    wanted = [least, *(cell_inches(pair.x, pair.y) for pair in maps)]
    width, height = min(max(w for w, _ in wanted), 5.5), min(max(h for _, h in wanted), 5.0)
    size = across * (width + 0.9) + 1.1, down * (height + 0.7) + 0.6
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, pair in zip(grid, pairs, strict=False):
        _points(axes, pair, norm) if pair.scatter else _heat_map(axes, pair, norm, width)
        scale(axes, "x", pair.x)
        scale(axes, "y", pair.y)
    for axes in grid[len(pairs) :]:
        axes.remove()
    used = grid[: len(pairs)]
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=used, aspect=30, pad=0.02)
    bar.set_label(f"{label}\n(of each cell's configurations)" if maps else label, fontsize=9)
    set_title(figure, title)
    return figure


def _heat_map(axes: Axes, pair: _Pair, norm: Normalize, inches: float) -> None:
    best, bad, count = pair.cells()
    paint_cells(axes, best, norm, COLOURS)
    size = cell_font_size(inches, best.shape[1])
    for i, j in np.argwhere(count).tolist():
        k, n, value = bad[i, j], count[i, j], best[i, j]
        if k == n:
            hatch_cell(axes, (j, i), "diverged", size=size)
            continue
        main = "none" if np.isnan(value) else f"{value:.3f}"
        on = (1.0, 1.0, 1.0) if np.isnan(value) else COLOURS(norm(value))
        write_cell(axes, (j, i), main, f"{k}/{n} div." if k else "", size=size, on=on)


def _points(axes: Axes, pair: _Pair, norm: Normalize) -> None:
    x, y, accuracy, diverged = pair.x.positions, pair.y.positions, pair.accuracy, pair.diverged
    good = np.flatnonzero(~diverged & np.isfinite(accuracy))
    good = good[np.argsort(accuracy[good], kind="stable")]  # the best come last, on top
    size = 8 + 50 * np.asarray(norm(accuracy[good])) ** 2  # repeats the colour, for greyscale
    look = {"norm": norm, "cmap": COLOURS, "edgecolors": GREY, "linewidths": 0.4}
    axes.scatter(x[good], y[good], s=size, c=accuracy[good], **look)
    if diverged.any():
        cross = {"marker": "x", "s": 18, "color": ORANGE, "linewidths": 1, "label": "diverged"}
        axes.scatter(x[diverged], y[diverged], **cross)
    if len(good):
        top = good[-1:]
        ring = {"s": 130, "facecolors": "none", "edgecolors": "black", "linewidths": 1.2}
        axes.scatter(x[top], y[top], label=f"best {accuracy[top[0]]:.3f}", **ring)
    finish(axes)


def _strip(x: Axis, accuracy: np.ndarray, diverged: np.ndarray, title: str, label: str) -> Figure:
    """Draw accuracy against one hyperparameter: points, and a line through the best."""
    width = 8 if x.continuous else min(max(0.7 * len(x.levels), 5), 9)
    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.subplots()
    at, good = x.positions, ~diverged
    axes.plot(at[good], accuracy[good], "o", color=BLUE, ms=5, alpha=0.6, label="configuration")
    if not x.continuous:
        best = np.full(len(x.levels), np.nan)
        np.fmax.at(best, x.which[good], accuracy[good])
        axes.plot(np.arange(len(best)), best, "-", color=BLUE, lw=1.5, label="best")
    if diverged.any():  # along the bottom, where no accuracy is
        bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform()}
        low = np.full(diverged.sum(), 0.04)
        axes.plot(at[diverged], low, "x", color=ORANGE, ms=7, label="diverged", **bottom)
        for i in [] if x.continuous else np.unique(x.which[diverged]):
            note = f"{diverged[x.which == i].sum()}/{(x.which == i).sum()} div."
            axes.text(i, 0.07, note, ha="center", fontsize=7, **bottom)
        axes.margins(y=0.2)
    axes.set_ylabel(label)
    finish(axes)
    scale(axes, "x", x)
    set_title(figure, title)
    return figure
