"""The distribution of the outputs of each layer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxnet.arguments.checks import whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import BLUE, ORANGE, set_title

_MAX_BINS = 10_000  # more than a screen has columns


@checked
def activation_histograms(
    activations: Sequence[np.ndarray], *, title: str = "", bins: int = 50
) -> Figure:
    """Draw a histogram of the outputs of each layer, one beside the other, on one scale.

    `activations[l]` are the outputs [rows, units] of layer l. The title of each has its mean, its
    deviation and the share of outputs that are exactly 0 (relu), which also have a separate bar.
    Raises ConfigurationError without layers, and for a layer without a finite output.
    """
    if not activations:
        raise ConfigurationError("expected the outputs of at least one layer, got none")
    bins = whole("bins", bins, 1, _MAX_BINS)
    flat = [np.asarray(layer, np.float64).ravel() for layer in activations]
    finite = [layer[np.isfinite(layer)] for layer in flat]
    for i, layer in enumerate(finite):
        if not layer.size:
            raise ConfigurationError(f"layer {i + 1} has no finite output: did the run diverge?")
    ends = np.array([np.quantile(layer, [0.001, 0.999]) for layer in finite])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    figure = Figure(figsize=(max(4.0, 2.3 * len(finite)), 2.9), layout="constrained")
    grid = figure.subplots(1, len(finite), sharex=True, sharey=True, squeeze=False)[0]
    width = edges[1] - edges[0]
    for i, (axes, layer) in enumerate(zip(grid, finite, strict=True)):
        zero = layer == 0
        counts, _ = np.histogram(layer[~zero], edges)
        axes.bar(edges[:-1], counts / layer.size, width, align="edge", color=BLUE)
        text = f"layer {i + 1}\nmean {layer.mean():.2g}, dev. {layer.std():.2g}"
        if zero.any():
            axes.bar([0], [zero.mean()], 1.5 * width, color=ORANGE, hatch="//", edgecolor="white")
            text += f"\n{zero.mean():.0%} are 0"
        axes.set_title(text, fontsize=8)
        axes.tick_params(labelsize=8)
    grid[0].set_ylabel("share of outputs")
    figure.supxlabel("output", fontsize=10)
    set_title(figure, title)
    return figure
