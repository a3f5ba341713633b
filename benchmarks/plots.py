"""Pictures of measurements, drawn from the rows that the JSON files hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.report import RESULTS


def draw(subject: str, rows: Sequence[dict[str, Any]]) -> Path | None:
    """Draw results/SUBJECT.png and return its path; None for what has no picture."""
    if subject.startswith("sweeps_"):
        figure = _bars(subject, rows)
    elif subject.startswith("scaling_"):
        figure = _maps(rows)
    else:
        return None
    path = RESULTS / f"{subject}.png"
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
    return path


def _bars(subject: str, rows: Sequence[dict[str, Any]]) -> Any:
    """Configurations a second, one bar a way of training."""
    shown = [row for row in rows if row["configurations/s"] is not None]
    shown.sort(key=lambda row: row["configurations/s"])
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(shown) + 1), layout="constrained")
    colors = ["tab:blue" if row["what"].startswith("jaxnet") else "0.6" for row in shown]
    rates = [row["configurations/s"] for row in shown]
    bars = axes.barh([row["what"] for row in shown], rates, color=colors)
    axes.bar_label(bars, [f" {rate:.3g}" for rate in rates])
    axes.set_xscale("log")
    axes.set_xlabel("configurations a second (same steps of each; more is better)")
    axes.set_title(subject)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _maps(rows: Sequence[dict[str, Any]]) -> Any:
    """Times faster than one by one, over width and number of networks, one map a batch size."""
    cells = sorted({(row["inputs"], row["batch"]) for row in rows}, reverse=True)
    figure, all_axes = plt.subplots(
        1, len(cells), figsize=(4 * len(cells), 3.6), layout="constrained", squeeze=False
    )
    image: Any = None
    for axes, (inputs, batch) in zip(all_axes[0], cells, strict=True):
        here = [row for row in rows if (row["inputs"], row["batch"]) == (inputs, batch)]
        widths = sorted({row["hidden"] for row in here})
        counts = sorted({row["networks"] for row in here})
        faster = np.full((len(widths), len(counts)), np.nan)
        for row in here:
            faster[widths.index(row["hidden"]), counts.index(row["networks"])] = row["times faster"]
        image = axes.imshow(np.log2(faster), cmap="RdBu", vmin=-3, vmax=3, origin="lower")
        for (i, j), value in np.ndenumerate(faster):
            if not np.isnan(value):
                axes.text(j, i, f"{value:.2g}", ha="center", va="center")
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_yticks(range(len(widths)), list(map(str, widths)))
        axes.set(title=f"{inputs} inputs, batch {batch}", xlabel="networks", ylabel="hidden")
    bar = figure.colorbar(image, ax=all_axes[0, -1], ticks=range(-3, 4))
    bar.set_ticklabels([f"{2.0**i:g}" for i in range(-3, 4)])
    bar.set_label("times faster than one by one")
    return figure
