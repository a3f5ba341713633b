"""A table of coloured cells over two hyperparameters, with a number in each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Rectangle

from jaxnet.plots.axis import Axis
from jaxnet.plots.style import readable_on


def cell_inches(x: Axis, y: Axis) -> tuple[float, float]:
    """Return width and height of a table whose cells have room for their texts."""
    return 0.62 * len(x.levels), 0.5 * len(y.levels)


def cell_font_size(inches: float, columns: int) -> float:
    """Return the font size for a table of this width: "diverged" is 5 font sizes wide."""
    return min(9.0, 72 * inches / columns / 5.5)


def paint_cells(axes: Axes, values: np.ndarray, norm: Normalize, colours: Colormap) -> None:
    """Colour the cells by their values [y, x]; NaN is white."""
    x, y = (np.arange(n + 1) - 0.5 for n in values.shape[::-1])
    look = {"norm": norm, "cmap": colours, "edgecolors": "white", "lw": 1}
    axes.pcolormesh(x, y, np.ma.masked_invalid(values), **look)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def write_cell(
    axes: Axes,
    at: tuple[int, int],
    main: str,
    below: str,
    *,
    size: float,
    on: Sequence[float] | np.ndarray,
) -> None:
    """Write a line, and a smaller one below, into the cell `at` (x, y), readable on its colour."""
    x, y = at
    style = {"ha": "center", "color": readable_on(on), "fontsize": size}
    axes.text(x, y, main, va="bottom" if below else "center", **style)
    if below:
        style["fontsize"] = 0.75 * size
        axes.text(x, y - 0.08, below, va="top", **style)


def hatch_cell(axes: Axes, at: tuple[int, int], text: str, *, size: float) -> None:
    """Hatch the cell `at` (x, y), all of whose runs diverged, and write a text on a plate."""
    x, y = at
    hatched = {"fc": "none", "ec": "0.6", "lw": 0, "hatch": "////"}
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **hatched))
    plate = {"fc": "white", "ec": "none", "pad": 1}
    style = {"ha": "center", "va": "center", "color": "black", "fontsize": size}
    axes.text(x, y, text, bbox=plate, **style)
