"""Means over seeds against a hyperparameter, with their confidence intervals."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Transform, offset_copy

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.intervals import mean_interval
from jaxnet.plots.axis import MAX_CELLS, Axis, Column, as_numbers, check_lengths, make_axis, scale
from jaxnet.plots.style import BLUE, COLOURS, GREY, ORANGE, finish, set_title

MARKERS, LINES = "osD^vPp*", ("-", "--", "-.", ":")
SERIES_DISTANCE_POINTS = 10  # between two series at one value; single runs are drawn halfway
MEANS_HEIGHT_INCHES = 3.4
ROW_HEIGHT_INCHES = 0.18  # of the row that marks the diverged runs of one series


@checked
def replicate_means(
    name: str,
    values: Column,
    accuracy: Column,
    diverged: Column,
    *,
    series: tuple[str, Column] | None = None,
    title: str = "",
    label: str = "validation accuracy",
) -> Figure:
    """Draw the mean accuracy over seeds against a hyperparameter, with its 95 % interval.

    There is one entry a run. The runs of one value count as replicates, so they should differ only
    in this hyperparameter, the `series` and the seed. Each run is a faint point. Runs that
    `diverged` count in no mean; a cross at the bottom has their number, "k/n". The interval is
    `jaxnet.intervals.mean_interval`; a single run has none, and an interval far wider than the
    runs leaves the plot. Numbers are placed by size, on a log axis if they span decades; names and
    tuples are evenly spaced. `series` is the name and the values of a second hyperparameter, at
    most 8, each with a line and a marker, a little apart so that intervals stay readable. Raises
    ConfigurationError for empty columns, columns of different lengths, and too many series.
    """
    columns = {name: values, "accuracy": accuracy, "diverged": diverged}
    check_lengths(columns if series is None else {**columns, series[0]: series[1]})
    heights, bad = as_numbers("accuracy", accuracy), as_numbers("diverged", diverged, bool)
    x = make_axis(name, values, even=0)
    runs = _Runs(x, heights, bad)
    lines = make_axis(*(series or ("", [""] * len(bad))))
    if (count := len(lines.levels)) > len(MARKERS):
        raise ConfigurationError(
            f"expected at most {len(MARKERS)} values of {lines.name}, a line each, got {count}: "
            f"choose some of them, or draw an accuracy_map"
        )
    even = not x.continuous or len(x.levels) <= MAX_CELLS
    width = min(max((0.55 + 0.17 * count) * len(x.levels), 6), 11) if even else 8
    width += 1.6 if series else 0  # the legend
    strip = ROW_HEIGHT_INCHES * (count + 0.5) * bad.any()
    below = strip / (MEANS_HEIGHT_INCHES + strip)
    figure = Figure(figsize=(width, MEANS_HEIGHT_INCHES + strip + 0.8), layout="constrained")
    axes = figure.subplots()
    scale(axes, "x", x)
    for i, level in enumerate(lines.labels):
        shift = SERIES_DISTANCE_POINTS * (i - (count - 1) / 2)
        look = {"color": COLOURS(0.75 * i / (count - 1)) if count > 1 else BLUE}
        look |= {"marker": MARKERS[i], "ls": LINES[i % len(LINES)] if x.continuous else "none"}
        mine = lines.which == i
        texts = ("mean, 95 % interval", "one run") if series is None else (level, None)
        means = _means(axes, shift, runs, mine & ~bad, look, texts)
        for artist in means.get_children():  # the strip below is for the diverged
            artist.set_clip_path(Rectangle((0, below), 1, 1 - below, transform=axes.transAxes))
        along = offset_copy(axes.get_xaxis_transform(), figure, x=shift, units="points")
        at = below * (i + 0.75) / (count + 0.5)
        _diverged(axes, along, runs, mine, at, look["color"] if series else ORANGE)
    if bad.any():
        colour = GREY if series else ORANGE
        axes.plot([], [], "x", color=colour, ms=6, label="diverged (of its runs)")
    _limit(axes, x, heights[~bad & np.isfinite(heights)], below)
    axes.set_ylabel(label)
    finish(axes)
    if series is not None:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
        axes.legend(title=lines.name, fontsize=8, title_fontsize=9, **beside)
    set_title(figure, title)
    return figure


class _Runs(NamedTuple):
    """All runs: the hyperparameter, the accuracies, and which diverged."""

    x: Axis
    heights: np.ndarray
    bad: np.ndarray


def _means(
    axes: Axes,
    shift: float,
    runs: _Runs,
    chosen: np.ndarray,
    look: dict,
    texts: tuple[str, str | None],
) -> ErrorbarContainer:
    x, heights, _ = runs
    chosen = chosen & np.isfinite(heights)
    single = np.bincount(x.which[chosen], minlength=len(x.levels)) == 1
    at = np.full(len(x.levels), np.nan)
    mean, reach = at.copy(), at.copy()
    for i in np.unique(x.which[chosen]):
        mine = heights[chosen & (x.which == i)]
        at[i], mean[i] = x.levels[i] if x.continuous else i, mine.mean()
        reach[i] = mean[i] - mean_interval(mine)[0]
    moved, aside = (
        offset_copy(axes.transData, axes.get_figure(root=True), x=by, units="points")
        for by in (shift, shift - SERIES_DISTANCE_POINTS / 2)
    )
    faint = {**look, "ls": "none", "alpha": 0.4, "ms": 4, "mew": 0}
    points = chosen & ~single[x.which]  # a single run is its own mean
    if points.any():
        axes.plot(x.positions[points], heights[points], transform=aside, label=texts[1], **faint)
    bars = {"capsize": 3, "lw": 1.5, "ms": 6}
    return axes.errorbar(at, mean, reach, label=texts[0], transform=moved, **look, **bars)


def _limit(axes: Axes, x: Axis, heights: np.ndarray, below: float) -> None:
    """Show all runs with some room, and a share `below`; far wider intervals leave the axes."""
    if x.continuous:
        to_axis = axes.xaxis.get_transform()
        first, last = to_axis.transform(np.array(x.levels, np.float64)[[0, -1]])
        room = 0.12 * (last - first) or 0.5
        axes.set_xlim(*to_axis.inverted().transform(np.array([first - room, last + room])))
    low, high = (heights.min(), heights.max()) if len(heights) else (0.0, 1.0)
    room = 0.15 * (high - low) or 0.05
    low, high = low - room, high + room
    axes.set_ylim(low, high)
    if below:  # a strip for diverged runs, in which the axis has no values
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
        axes.axhline(low, color=GREY, lw=0.6)
        axes.set_ylim(low - (high - low) * below / (1 - below), high)


def _diverged(
    axes: Axes,
    along: Transform,
    runs: _Runs,
    mine: np.ndarray,
    height: float,
    colour: Any,
) -> None:
    x, _, bad = runs
    for i in np.unique(x.which[mine & bad]):
        here = mine & (x.which == i)
        where = x.levels[i] if x.continuous else i
        axes.plot([where], [height], "x", color=colour, ms=6, transform=along)
        note = f"  {(here & bad).sum()}/{here.sum()}"
        axes.text(where, height, note, fontsize=7, va="center", transform=along)
