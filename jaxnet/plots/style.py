"""The style of all plots: colours, legends, titles. It avoids pyplot, which has global state."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"  # Okabe-Ito: distinct to colour-blind eyes
COLOURS = colormaps["viridis"]  # perceptually uniform: order survives greyscale printing


def finish(axes: Axes) -> None:
    """Add a pale grid, and a one-line legend above the axes, where it covers no data."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    handles, _ = axes.get_legend_handles_labels()
    above = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.99), "borderaxespad": 0.2}
    compact = {"frameon": False, "fontsize": 8, "columnspacing": 1.2, "markerscale": 0.8}
    if handles:
        axes.legend(ncols=len(handles), **above, **compact)


def set_title(figure: Figure, text: str) -> None:
    """Write a title over the whole figure, wrapped to its width, with `$` as a plain character."""
    wide = int(figure.get_figwidth() * 11)
    lines = [textwrap.fill(line, wide) for line in text.split("\n")]
    if text:
        figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)


def readable_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return black or white, whichever has the higher contrast (WCAG luminance) on a colour."""
    c = np.array(colour[:3])
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"
