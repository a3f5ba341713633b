"""The figures of a run folder: the best run, all runs, and accuracy over hyperparameters."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxnet import plots
from jaxnet.host.files import write_whole
from jaxnet.sweeps.results.rows import Row, swept
from jaxnet.sweeps.results.sweep_result import SweepResult

MAX_CURVES = 300  # more would only show as one area
MAX_POINTS = 5000  # in a scatter


def draw(result: SweepResult, folder: Path) -> None:
    """Write the figures of a result as PNG files, each named after its content."""
    for name, figure in _figures(result).items():
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120)
        write_whole(folder / f"{name}.png", picture.getvalue())


def _figures(result: SweepResult) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    best, network = result.best, result.network
    if best is not None and network is not None:
        figures["curves"] = plots.learning_curves(
            *best.outcome.history.arrays().values(),
            title=f"best configuration (id {best.id})",
            chance=1 / len(network.class_names),
        )
        shape = network.input_shape
        images = len(shape) == 3 and shape[-1] in (1, 3)
        # Weights show as images only if inputs are pixels, which they are not after a projection.
        pixels = not network.net.takes_images
        if images and pixels and network.preprocessing.method != "pca":
            height, width, channels = shape
            figures["weights"] = plots.weight_images(
                network.params["affine_1"]["w"],
                (height, width, channels),
                title="first-layer weights of the best",
            )
    if len(result.rows) > 1:
        figures["all_curves"] = _all_curves(result)
    axes = [name for name in swept(result.rows) if name != "seed"]
    if axes:
        rows = _thinned(result.rows, MAX_POINTS, best)
        columns = {name: [_plotted(row.settings.get(name)) for row in rows] for name in axes}
        accuracy = [row.outcome.val_accuracy for row in rows]
        diverged = [not row.ok for row in rows]
        figures["accuracy"] = plots.accuracy_over_pairs(
            columns, accuracy, diverged, title="best validation accuracy"
        )
        if len(axes) > 1 and any(diverged):
            x, y = _most_different(columns, diverged)
            figures["diverged"] = plots.diverging_map(
                x, columns[x], y, columns[y], diverged, [row.outcome.steps for row in rows]
            )
        if len({row.settings["seed"] for row in rows}) > 1:
            name = "learning_rate" if "learning_rate" in axes else axes[0]
            figures["replicates"] = plots.replicate_means(name, columns[name], accuracy, diverged)
    return figures


def _all_curves(result: SweepResult) -> Figure:
    rows = _thinned(result.rows, MAX_CURVES, result.best)
    histories = [row.outcome.history for row in rows]
    steps = np.unique(np.concatenate([history.evaluated for history in histories]))
    curves = []
    for history in histories:
        known = ~np.isnan(history.val_accuracy)
        at, values = history.evaluated[known], history.val_accuracy[known]
        # Runs that were cut or extended have other evaluation steps, so curves are interpolated.
        curve = np.interp(steps, at, values) if len(at) else np.full(len(steps), np.nan)
        curves.append(np.where(steps <= (at[-1] if len(at) else 0), curve, np.nan))
    shown = "" if len(rows) == len(result.rows) else f" ({len(rows)} of {len(result.rows)})"
    best = None if result.best is None else [row.id for row in rows].index(result.best.id)
    return plots.learning_fan(
        steps,
        np.asarray(curves),
        np.asarray([not row.ok for row in rows]),
        best=best,
        best_label="best" if result.best is None else f"best (id {result.best.id})",
        title=f"validation accuracy of all configurations{shown}",
    )


def _thinned(rows: Sequence[Row], most: int, best: Row | None) -> list[Row]:
    """Return at most `most` rows, evenly over their ids, and the best."""
    chosen = {int(i) for i in np.linspace(0, len(rows) - 1, min(most, len(rows)))}
    return [row for i, row in enumerate(rows) if i in chosen or (best and row.id == best.id)]


def _most_different(columns: dict[str, list[Any]], diverged: Sequence[bool]) -> tuple[str, str]:
    """Return the two axes along which the share of diverged runs varies most."""

    def spread(name: str) -> float:
        shares: dict[str, list[bool]] = {}
        for value, bad in zip(columns[name], diverged, strict=True):
            shares.setdefault(repr(value), []).append(bad)
        # Weighted by counts, so that an axis of all-different values does not win by chance.
        sizes = [len(bad) for bad in shares.values()]
        means = [float(np.mean(bad)) for bad in shares.values()]
        return float(np.cov(means, aweights=sizes, ddof=0)) / (len(means) / len(diverged) + 0.1)

    first, second, *_ = sorted(columns, key=spread, reverse=True)
    return first, second


def _plotted(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
