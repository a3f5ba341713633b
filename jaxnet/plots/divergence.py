"""The share of diverged runs of a sweep over any two hyperparameters."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.plots.axis import MAX_CELLS, Axis, Column, as_numbers, check_lengths, make_axis, scale
from jaxnet.plots.cells import cell_font_size, cell_inches, hatch_cell, paint_cells, write_cell
from jaxnet.plots.style import BLUE, ORANGE, finish, set_title

# A larger share is darker, also in greyscale.
SHARES = LinearSegmentedColormap.from_list("diverged", ["#F4F4F4", "#F5B98A", ORANGE])


@checked
def diverging_map(
    x_name: str,
    x_values: Column,
    y_name: str,
    y_values: Column,
    diverged: Column,
    steps: Column | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw which runs diverged over two hyperparameters; one entry a run.

    A cell shows the share of its runs that `diverged`, "k/n" (0 for none), and below it the median
    of the `steps` at which these k diverged; other runs' entries are not read. It is hatched if
    all diverged. With more than 12 distinct values on an axis each run is a point: a circle if it
    stayed finite, a cross if not. Raises ConfigurationError for empty columns and columns of
    different lengths.
    """
    columns = {x_name: x_values, y_name: y_values, "diverged": diverged}
    check_lengths(columns if steps is None else {**columns, "steps": steps})
    x, y, bad = (
        make_axis(x_name, x_values),
        make_axis(y_name, y_values),
        as_numbers("diverged", diverged, bool),
    )
    ended = None if steps is None else as_numbers("steps", steps)
    if max(len(x.levels), len(y.levels)) > MAX_CELLS:
        figure = Figure(figsize=(6, 4.2), layout="constrained")
        axes = figure.subplots()
        _points(axes, x, y, bad, ended)
    else:
        wide, high = cell_inches(x, y)
        width, height = min(max(wide, 2.6), 7.5), min(max(high, 1.8), 6.0)
        figure = Figure(figsize=(width + 2.0, height + 1.3), layout="constrained")
        axes = figure.subplots()
        _cells(axes, x, y, bad, ended, width)
        bar = figure.colorbar(ScalarMappable(Normalize(0, 1), SHARES), ax=axes, aspect=30, pad=0.02)
        bar.set_label("share of runs that diverged", fontsize=9)
    scale(axes, "x", x)
    scale(axes, "y", y)
    set_title(figure, title)
    return figure


def _cells(
    axes: Axes, x: Axis, y: Axis, bad: np.ndarray, ended: np.ndarray | None, inches: float
) -> None:
    shape = len(y.levels), len(x.levels)
    lost, count = np.zeros(shape, int), np.zeros(shape, int)
    np.add.at(lost, (y.which, x.which), bad)
    np.add.at(count, (y.which, x.which), 1)
    share = np.divide(lost, count, out=np.full(shape, np.nan), where=count > 0)
    paint_cells(axes, share, Normalize(0, 1), SHARES)
    size = cell_font_size(inches, shape[1])
    for i, j in np.argwhere(count).tolist():
        k, n = lost[i, j], count[i, j]
        main, below = f"{k}/{n}" if k else "0", ""
        if k and ended is not None:
            here = bad & (y.which == i) & (x.which == j)
            below = f"step {np.median(ended[here]):.0f}"
        if k == n:
            hatch_cell(axes, (j, i), "\n".join(filter(None, [main, below])), size=0.85 * size)
        else:
            write_cell(axes, (j, i), main, below, size=size, on=SHARES(share[i, j]))


def _points(axes: Axes, x: Axis, y: Axis, bad: np.ndarray, ended: np.ndarray | None) -> None:
    ring = {"s": 18, "facecolors": "none", "edgecolors": BLUE, "linewidths": 0.9}
    if not bad.all():
        axes.scatter(x.positions[~bad], y.positions[~bad], label=f"finite ({(~bad).sum()})", **ring)
    if bad.any():
        when = "" if ended is None else f", median step {np.median(ended[bad]):.0f}"
        cross = {"marker": "x", "s": 22, "color": ORANGE, "linewidths": 1.2}
        text = f"diverged ({bad.sum()}{when})"
        axes.scatter(x.positions[bad], y.positions[bad], label=text, **cross)
    finish(axes)
