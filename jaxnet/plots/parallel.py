"""All configurations as lines across their hyperparameters, one axis each."""

from collections.abc import Mapping

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.axis import Axis, Column, as_numbers, check_lengths, make_axis
from jaxnet.plots.style import COLOURS, GREY, ORANGE, set_title


@checked
def parallel_coordinates(
    columns: Mapping[str, Column],
    accuracy: Column,
    diverged: Column,
    *,
    title: str = "",
    label: str = "validation accuracy",
) -> Figure:
    """Draw each configuration as a line through its values, ending at its accuracy.

    `columns` maps a hyperparameter to its value in each configuration. Up to 12 values are evenly
    spaced; more are placed by size, on a log scale if they are positive and span decades. The best
    configurations are drawn last and thickest; diverged ones are dashed and end below the
    accuracies. Raises ConfigurationError for empty columns and columns of different lengths.
    """
    check_lengths({**columns, "accuracy": accuracy, "diverged": diverged})
    if not columns:
        raise ConfigurationError("expected at least one hyperparameter, got none")
    axes_of = [make_axis(name, values) for name, values in columns.items()]
    heights, bad = as_numbers("accuracy", accuracy), as_numbers("diverged", diverged, bool)
    bad = bad | ~np.isfinite(heights)
    low, high = (heights[~bad].min(), heights[~bad].max()) if (~bad).any() else (0.0, 1.0)
    norm = Normalize(low, high if high > low else low + 1)
    last = np.where(bad, -0.12, np.asarray(norm(np.where(bad, low, heights))))
    positions = np.stack([*(_positions(axis) for axis in axes_of), last], axis=1)

    figure = Figure(figsize=(2.2 + 1.7 * len(axes_of), 4.5), layout="constrained")
    axes = figure.subplots()
    x = np.arange(positions.shape[1])
    lines = [np.column_stack([x, row]) for row in positions]
    dashed = [lines[i] for i in np.flatnonzero(bad)]
    axes.add_collection(LineCollection(dashed, colors=ORANGE, ls="--", lw=0.7, alpha=0.5))
    good = np.flatnonzero(~bad)
    good = good[np.argsort(heights[good], kind="stable")]
    share = np.asarray(norm(heights[good]))
    axes.add_collection(
        LineCollection(
            [lines[i] for i in good], colors=COLOURS(share), lw=0.5 + 2 * share**4, alpha=0.8
        )
    )
    for i, axis in enumerate(axes_of):
        axes.axvline(i, color=GREY, lw=0.8)
        for position, text in _ticks(axis):
            plate = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8}
            axes.text(i, position, text, ha="center", va="center", fontsize=8, bbox=plate)
    axes.axvline(x[-1], color=GREY, lw=0.8)
    if bad.any():
        axes.text(x[-1] + 0.05, -0.12, f"diverged ({bad.sum()})", va="center", fontsize=8)
    axes.set(xlim=(-0.4, x[-1] + 0.5), ylim=(-0.2, 1.08), yticks=[])
    axes.set_xticks(x, labels=[*columns, label])
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, aspect=30, pad=0.01)
    bar.set_label(label, fontsize=9)
    set_title(figure, title)
    return figure


def _scaled(axis: Axis) -> np.ndarray | None:
    """Return the levels on the scale of their axis; None if they are evenly spaced."""
    if not axis.continuous:
        return None
    levels = np.asarray(axis.levels, np.float64)
    return np.log10(levels) if levels[0] > 0 and levels[-1] >= 10 * levels[0] else levels


def _positions(axis: Axis) -> np.ndarray:
    scaled = _scaled(axis)
    if scaled is not None:
        return ((scaled - scaled[0]) / (scaled[-1] - scaled[0]))[axis.which]
    return axis.which / (len(axis.levels) - 1) if len(axis.levels) > 1 else axis.which + 0.5


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    scaled, labels = _scaled(axis), axis.labels
    if scaled is None and len(labels) <= 12:
        return [
            (i / max(1, len(labels) - 1) if len(labels) > 1 else 0.5, t)
            for i, t in enumerate(labels)
        ]
    ends = (0, len(labels) // 2, len(labels) - 1)
    if scaled is None:
        return [(i / (len(labels) - 1), labels[i]) for i in ends]
    width = scaled[-1] - scaled[0]
    return [((scaled[i] - scaled[0]) / width, f"{axis.levels[i]:.2g}") for i in ends]
