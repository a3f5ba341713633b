"""Accuracy over the hyperparameters of a sweep: maps, scatters, and all pairs in one figure."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import BLUE, COLOURS, GREY, ORANGE, finish, set_title

Column = Sequence[Any] | np.ndarray

MOST_CELLS = 12  # distinct values per axis up to which a table of cells is readable
BEST = "best validation accuracy"


def accuracy_map(
    x_name: str,
    x_values: Column,
    y_name: str,
    y_values: Column,
    accuracy: Column,
    diverged: Column,
    *,
    title: str = "",
) -> Figure:
    """Draw the best validation accuracy over two hyperparameters; one entry per configuration.

    Each cell shows the maximum `accuracy` (NaN: none) of its configurations and, below it, "k/n
    div." where k of its n configurations `diverged`; it is hatched and says "diverged" where all
    did. In the maximum, a diverged configuration counts with the accuracy given for it: give NaN to
    leave it out. Values may be numbers, strings or tuples. With more than 12 distinct values on an
    axis (random search) each configuration is a point, or a cross if diverged, whatever its
    accuracy. Raises ConfigurationError for columns of different lengths or none.
    """
    accuracy, diverged = _checked({x_name: x_values, y_name: y_values}, accuracy, diverged)
    pair = _Pair(_axis(x_name, x_values), _axis(y_name, y_values), accuracy, diverged)
    return _pair_grid([pair], title)


def accuracy_over_pairs(
    columns: Mapping[str, Column], accuracy: Column, diverged: Column, *, title: str = ""
) -> Figure:
    """Draw `accuracy_map` for every pair of the swept hyperparameters, with one colour bar.

    `columns` maps a name to its value in each configuration; the swept ones have more than one
    distinct value. With one swept, the picture is accuracy against it. Raises ConfigurationError
    with none, or for columns of different lengths.
    """
    accuracy, diverged = _checked(columns, accuracy, diverged)
    swept = [a for a in (_axis(*item) for item in columns.items()) if len(a.levels) > 1]
    if not swept:
        raise ConfigurationError(
            "expected a hyperparameter with more than one distinct value, got "
            f"{', '.join(columns) or 'no columns'} with one each; a single run has learning_curves"
        )
    if len(swept) == 1:
        return _strip(swept[0], accuracy, diverged, title)
    pairs = [_Pair(x, y, accuracy, diverged) for x, y in itertools.combinations(swept, 2)]
    return _pair_grid(pairs, title)


class _Axis(NamedTuple):
    """One hyperparameter: its sorted distinct values, and which of them each configuration has."""

    name: str
    levels: list[Any]
    which: np.ndarray

    @property
    def continuous(self) -> bool:
        """Whether to place the values by size; a few values, or names, are evenly spaced."""
        numbers = all(_is_number(v) and math.isfinite(v) for v in self.levels)
        return numbers and len(self.levels) > MOST_CELLS

    @property
    def positions(self) -> np.ndarray:
        """Where each configuration lies on the axis."""
        return np.array(self.levels, np.float64)[self.which] if self.continuous else self.which

    @property
    def labels(self) -> list[str]:
        """The shortest texts that tell the values apart: 0.001, 1e-5, relu, 160-80."""
        for digits in range(4, 18):
            labels = [_text(level, digits) for level in self.levels]
            if len(set(labels)) == len(labels):
                return labels
        return [repr(level) for level in self.levels]


class _Pair(NamedTuple):
    """Two hyperparameters and what became of each configuration."""

    x: _Axis
    y: _Axis
    accuracy: np.ndarray
    diverged: np.ndarray

    @property
    def scatter(self) -> bool:
        """Whether there are too many values for a table of cells."""
        return max(len(self.x.levels), len(self.y.levels)) > MOST_CELLS

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return best accuracy (NaN: none), diverged and configurations, each [y, x levels]."""
        shape, at = (len(self.y.levels), len(self.x.levels)), (self.y.which, self.x.which)
        best, bad, count = np.full(shape, np.nan), np.zeros(shape, int), np.zeros(shape, int)
        np.fmax.at(best, at, self.accuracy)
        np.add.at(bad, at, self.diverged)
        np.add.at(count, at, 1)
        best[bad == count] = np.nan  # all diverged, or no configuration
        return best, bad, count

    def shown(self) -> np.ndarray:
        """Return the accuracies that the picture shows as colours."""
        if self.scatter:
            return np.where(self.diverged, np.nan, self.accuracy)
        return self.cells()[0].ravel()


def _axis(name: str, values: Column) -> _Axis:
    plain = [_plain(value) for value in values]
    levels = sorted(set(plain), key=_order)
    where = {value: i for i, value in enumerate(levels)}
    return _Axis(name, levels, np.array([where[value] for value in plain]))


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


def _checked(
    columns: Mapping[str, Column], accuracy: Column, diverged: Column
) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracy (float64) and diverged (bool) after checking one entry per configuration."""
    lengths = {name: len(values) for name, values in columns.items()}
    lengths |= {"accuracy": len(accuracy), "diverged": len(diverged)}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        got = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ConfigurationError(f"expected one value per configuration in each column, got {got}")
    return np.asarray(accuracy, np.float64), np.asarray(diverged, bool)


def _pair_grid(pairs: Sequence[_Pair], title: str) -> Figure:
    values = np.concatenate([pair.shown() for pair in pairs])
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    norm = Normalize(low, high) if high > low else Normalize(low - 0.01, high + 0.01)

    across = min(len(pairs), 3 if len(pairs) <= 9 else 4)
    down = math.ceil(len(pairs) / across)
    maps = [pair for pair in pairs if not pair.scatter]
    least = (2.2, 1.8) if len(maps) == len(pairs) else (3.2, 2.6)
    width = min(max([least[0]] + [0.62 * len(pair.x.levels) for pair in maps]), 5.5)
    height = min(max([least[1]] + [0.5 * len(pair.y.levels) for pair in maps]), 5.0)
    size = across * (width + 0.9) + 1.1, down * (height + 0.7) + 0.6
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1))
    grid = list(figure.subplots(down, across, squeeze=False).flat)
    for axes, pair in zip(grid, pairs, strict=False):
        _points(axes, pair, norm) if pair.scatter else _heat_map(axes, pair, norm, width)
        _scale(axes, "x", pair.x)
        _scale(axes, "y", pair.y)
    for axes in grid[len(pairs) :]:
        axes.remove()
    used = grid[: len(pairs)]
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=used, aspect=30, pad=0.02)
    bar.set_label(f"{BEST}\n(of each cell's configurations)" if maps else BEST, fontsize=9)
    set_title(figure, title)
    return figure


def _heat_map(axes: Axes, pair: _Pair, norm: Normalize, inches: float) -> None:
    best, bad, count = pair.cells()
    x, y = (np.arange(n + 1) - 0.5 for n in best.shape[::-1])
    colours = {"norm": norm, "cmap": COLOURS, "edgecolors": "white", "lw": 1}
    axes.pcolormesh(x, y, np.ma.masked_invalid(best), **colours)
    size = min(9.0, 72 * inches / best.shape[1] / 5.5)  # "diverged" is 5 font sizes wide
    for i, j in np.argwhere(count):
        k, n, value = bad[i, j], count[i, j], best[i, j]
        style = {"ha": "center", "color": "black", "fontsize": size}
        if k == n:
            hatched = {"fc": "white", "ec": "0.6", "lw": 0, "hatch": "////"}
            axes.add_patch(Rectangle((x[j], y[i]), 1, 1, **hatched))
            plate = {"fc": "white", "ec": "none", "pad": 1}
            axes.text(j, i, "diverged", va="center", bbox=plate, **style)
            continue
        if not np.isnan(value):
            style["color"] = _readable_on(COLOURS(norm(value)))
        main = "none" if np.isnan(value) else f"{value:.3f}"
        axes.text(j, i, main, va="bottom" if k else "center", **style)
        if k:
            style["fontsize"] = 0.75 * size
            axes.text(j, i - 0.08, f"{k}/{n} div.", va="top", **style)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _points(axes: Axes, pair: _Pair, norm: Normalize) -> None:
    x, y, accuracy, diverged = pair.x.positions, pair.y.positions, pair.accuracy, pair.diverged
    good = np.flatnonzero(~diverged & np.isfinite(accuracy))
    good = good[np.argsort(accuracy[good], kind="stable")]  # the best are drawn last, on top
    size = 8 + 50 * np.asarray(norm(accuracy[good])) ** 2  # repeats what the colour says
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


def _strip(x: _Axis, accuracy: np.ndarray, diverged: np.ndarray, title: str) -> Figure:
    """Draw accuracy against the only hyperparameter: a point each, a line through the best."""
    width = 8 if x.continuous else min(max(0.7 * len(x.levels), 5), 9)
    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.subplots()
    at, good = x.positions, ~diverged
    axes.plot(at[good], accuracy[good], "o", color=BLUE, ms=5, alpha=0.6, label="configuration")
    if not x.continuous:
        best = np.full(len(x.levels), np.nan)
        np.fmax.at(best, x.which[good], accuracy[good])
        axes.plot(np.arange(len(best)), best, "-", color=BLUE, lw=1.5, label="best")
    if diverged.any():  # along the bottom, whatever their accuracies are
        bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform()}
        low = np.full(diverged.sum(), 0.04)
        axes.plot(at[diverged], low, "x", color=ORANGE, ms=7, label="diverged", **bottom)
        for i in [] if x.continuous else np.unique(x.which[diverged]):
            note = f"{diverged[x.which == i].sum()}/{(x.which == i).sum()} div."
            axes.text(i, 0.07, note, ha="center", fontsize=7, **bottom)
        axes.margins(y=0.2)
    axes.set_ylabel(BEST)
    finish(axes)
    _scale(axes, "x", x)
    set_title(figure, title)
    return figure


def _scale(axes: Axes, side: Literal["x", "y"], axis: _Axis) -> None:
    """Name a side of the axes and tick it: at the values, or by size (log over two decades)."""
    line = getattr(axes, f"{side}axis")
    line.set_label_text(axis.name)
    if not axis.continuous:
        labels = axis.labels
        line.set_ticks(np.arange(len(labels)), labels=labels)
        line.set_tick_params(labelsize=8)
        if side == "x" and max(map(len, labels)) > 8:
            line.set_tick_params(labelrotation=30)
        getattr(axes, f"set_{side}lim")(-0.5, len(labels) - 0.5)
        return
    positive = [v for v in axis.levels if v > 0]
    if axis.levels[0] >= 0 and axis.levels[-1] > 100 * positive[0]:
        symlog = {"value": "symlog", "linthresh": positive[0], "linscale": 0.5}
        kind = {"value": "log"} if axis.levels[0] > 0 else symlog
        getattr(axes, f"set_{side}scale")(**kind)


def _readable_on(colour: Column) -> str:
    """Return black or white, whichever has the higher contrast (WCAG luminance) on a colour."""
    c = np.array(colour[:3])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"
