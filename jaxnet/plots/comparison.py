"""Several runs in one plot, which compares optimizers or any other setting."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import set_title
from jaxnet.sweeps.results.record import History

LINES, MARKERS = ("-", "--", "-.", ":"), "osD^vPp*"
COLOURS = colormaps["tab10"]


@checked
def optimizer_comparison(runs: Mapping[str, History], *, title: str = "") -> Figure:
    """Draw the histories of several runs, by name: loss, training and validation accuracy.

    Losses are trailing means over a fiftieth of the run; more than two decades get a log axis. The
    legend has the best validation accuracy of each. Raises ConfigurationError without runs, and
    for more than 10, which no reader can distinguish.
    """
    if not 1 <= len(runs) <= 10:
        raise ConfigurationError(f"expected 1 to 10 runs, got {len(runs)}: choose some")
    figure = Figure(figsize=(12, 4), layout="constrained")
    grid = figure.subplots(1, 3)
    seen = []
    for i, (name, history) in enumerate(runs.items()):
        look = {"color": COLOURS(i), "ls": LINES[i % len(LINES)]}
        loss = np.asarray(history.loss, np.float64)
        there = np.isfinite(loss)
        x, y = history.steps[there], loss[there]
        window = max(1, len(y) // 50)
        if len(y):
            total, count = (np.convolve(v, np.ones(window))[: len(y)] for v in (y, np.ones_like(y)))
            grid[0].plot(x, total / count, lw=1.5, **look)
            seen.append(y)
        val = history.val_accuracy
        best = f"{np.nanmax(val):.3f}" if there.all() and np.isfinite(val).any() else "diverged"
        marked = {**look, "marker": MARKERS[i % len(MARKERS)], "ms": 4}
        grid[1].plot(history.evaluated, history.train_accuracy, **marked)
        grid[2].plot(history.evaluated, val, **marked, label=f"{name} ({best})")
    all_losses = np.concatenate(seen) if seen else np.zeros(0)
    if len(all_losses) and 0 < all_losses.min() < all_losses.max() / 100:
        grid[0].set_yscale("log")
    grid[0].set(xlabel="step", ylabel="training loss")
    grid[1].set(xlabel="step", ylabel="training accuracy")
    grid[2].set(xlabel="step", ylabel="validation accuracy")
    for axes in grid:
        axes.grid(alpha=0.25)
    handles, texts = grid[2].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=min(len(texts), 5), fontsize=9)
    set_title(figure, title)
    return figure
