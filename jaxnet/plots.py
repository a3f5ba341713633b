"""Pictures of a sweep: learning curves, first-layer weights, accuracy over the hyperparameters.

Every function takes plain NumPy arrays or sequences and returns a `matplotlib.figure.Figure`; the
caller saves it. pyplot is never imported: no global state, no window, no choice of backend.
"""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from jaxnet.errors import ConfigurationError

Column = Sequence[Any] | np.ndarray

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"  # Okabe-Ito: distinct to colour-blind eyes
COLOURS = colormaps["viridis"]  # perceptually uniform: order survives greyscale printing
MOST_CELLS = 12  # distinct values per axis up to which a table of cells is readable
BEST = "best validation accuracy"


def learning_curves(
    steps: Num[np.ndarray, " recorded"],
    loss: Num[np.ndarray, " recorded"],
    evaluated_steps: Num[np.ndarray, " evaluated"],
    train_accuracy: Num[np.ndarray, " evaluated"],
    val_accuracy: Num[np.ndarray, " evaluated"],
    *,
    title: str = "",
    status: str = "ok",
    chance: float | None = None,
) -> Figure:
    """Draw one run: training loss on the left, training and validation accuracy on the right.

    Losses that are not finite are left out; if the run ends so, its last finite loss is marked.
    A loss over more than two decades gets a log axis; more than 100 finite points get a trailing
    mean. A `status` other than "ok" is written in the title; `chance` is the accuracy of guessing.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)

    loss = np.asarray(loss, np.float64)
    finite = np.isfinite(loss)
    x, y = steps[finite], loss[finite]
    many, style = len(y) > 100, ".-" if len(y) <= 50 else "-"
    raw = {"color": BLUE, "lw": 0.5 if many else 1.2, "alpha": 0.4 if many else 1.0}
    if len(y) == 0:
        left.text(0.5, 0.5, "no finite loss", ha="center", transform=left.transAxes)
    else:
        left.plot(steps, np.where(finite, loss, np.nan), style, label="training loss", **raw)
    if many:  # trailing, because a centred mean would show an explosion before it happens
        window = len(y) // 50
        total, count = (np.convolve(v, np.ones(window))[: len(y)] for v in (y, np.ones_like(y)))
        left.plot(x, total / count, color=BLUE, lw=1.8, label=f"mean of the last {window}")
    if len(y) and not finite[-1]:
        mark = f"last finite loss (step {x[-1]:.0f})"
        left.plot(x[-1:], y[-1:], "X", color=ORANGE, ms=9, label=mark)
    if len(y) and 0 < y.min() < y.max() / 100:
        left.set_yscale("log")
    left.set(xlabel="step", ylabel="loss")

    best = "validation"
    if np.isfinite(val_accuracy).any():
        at = np.nanargmax(val_accuracy)
        best += f" (best {val_accuracy[at]:.3f} at step {evaluated_steps[at]:.0f})"
    look = {"ms": 4, "markevery": max(1, len(evaluated_steps) // 15)}
    right.plot(evaluated_steps, train_accuracy, "o-", color=BLUE, label="train", **look)
    right.plot(evaluated_steps, val_accuracy, "s--", color=ORANGE, label=best, **look)
    if chance is not None:
        right.axhline(chance, color=GREY, ls=(0, (6, 4)), lw=1, label=f"chance {chance:.3g}")
    right.set(xlabel="step", ylabel="accuracy")

    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
        _finish(axes)
    _title(figure, ": ".join(filter(None, [title, "" if status == "ok" else f"status {status}"])))
    return figure


def weight_images(
    weights: Float[np.ndarray, "inputs units"],
    image_shape: tuple[int, int, int],
    *,
    columns: int | None = None,
    limit: int = 100,
    title: str = "",
) -> Figure:
    """Draw the incoming weights of each first-layer unit as an image, in one grid.

    Column j of `weights` becomes an image of `image_shape` (height, width, channels), rescaled to
    its own minimum..maximum; grey for one channel, RGB for three. Of more than `limit` units, the
    ones of largest norm are shown, largest first. A constant unit is mid-grey; one with a NaN or
    infinity is marked "NaN". Raises ConfigurationError for a shape that does not fit.
    """
    h, w, c = image_shape
    inputs, units = weights.shape
    if c not in (1, 3):
        raise ConfigurationError(
            f"image_shape {image_shape}: expected 1 channel (grey) or 3 (RGB), got {c}"
        )
    if inputs != h * w * c:
        raise ConfigurationError(
            f"weights: expected {h} * {w} * {c} = {h * w * c} inputs for {image_shape=}, "
            f"got {inputs}; pass the weights of the first layer, [inputs, units]"
        )
    if min(units, limit, 1 if columns is None else columns) < 1:
        raise ConfigurationError(
            f"expected at least one unit, limit and column; got {units=}, {limit=}, {columns=}"
        )
    weights = np.asarray(weights, np.float64)
    note = ""
    if units > limit:
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(weights, axis=0)
        weights = weights[:, np.argsort(-norms, kind="stable")[:limit]]  # NaN sorts last
        note = f"{limit} of {units} units: largest norm first"
    shown = weights.shape[1]
    columns = min(columns or math.ceil(math.sqrt(shown)), shown)
    rows = math.ceil(shown / columns)

    grid = np.ones((rows * (h + 1) - 1, columns * (w + 1) - 1, c))
    width = min(max(0.75 * columns, 3.0), 10.0)
    height = min(width * grid.shape[0] / grid.shape[1], 14.0)
    titles = "\n".join(filter(None, [title, note]))
    room = 0.25 * (titles.count("\n") + 1) if titles else 0
    figure = Figure(figsize=(width, height + room), layout="constrained")
    axes = figure.subplots()
    for unit, image in enumerate(weights.T.reshape(shown, h, w, c)):
        top, side = unit // columns * (h + 1), unit % columns * (w + 1)
        tile = grid[top : top + h, side : side + w]
        if not np.isfinite(image).all():
            axes.text(side + (w - 1) / 2, top + (h - 1) / 2, "NaN", ha="center", va="center")
            continue
        low, high = image.min(), image.max()
        tile[:] = (image - low) / (high - low) if high > low else 0.5
    axes.imshow(grid[..., 0] if c == 1 else grid, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    _title(figure, titles)
    return figure


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
    _title(figure, title)
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
    _finish(axes)


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
    _finish(axes)
    _scale(axes, "x", x)
    _title(figure, title)
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


def _finish(axes: Axes) -> None:
    """Add a pale grid, and a one-line legend above the axes, where it covers no data."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    above = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.99), "borderaxespad": 0.2}
    compact = {"frameon": False, "fontsize": 8, "columnspacing": 1.2, "markerscale": 0.8}
    if handles:
        axes.legend(ncols=len(handles), **above, **compact)


def _title(figure: Figure, text: str) -> None:
    wide = int(figure.get_figwidth() * 11)
    lines = [textwrap.fill(line, wide) for line in text.split("\n")]
    if text:
        figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)
