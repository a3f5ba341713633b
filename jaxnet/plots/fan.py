"""The learning curves of all configurations of a sweep in one plot."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import BLUE, GREY, ORANGE, finish, set_title


@checked
def learning_fan(
    steps: Num[np.ndarray, " points"],
    values: Num[np.ndarray, "runs points"],
    diverged: Bool[np.ndarray, " runs"],
    *,
    best: int | None = None,
    best_label: str = "best",
    title: str = "",
    label: str = "validation accuracy",
) -> Figure:
    """Draw the curves of all runs: faint lines, the best on top, a cross where one diverged.

    `values` has a row a run, with NaN after its end and at other runs' steps; a curve connects the
    finite values. A run that `diverged` has a cross at its last finite value; the legend counts
    the runs without any. `best` is the row of the run to emphasize. `label` describes the values,
    if they are losses for example; values over more than two decades get a log axis. Raises
    ConfigurationError if `best` is no row.
    """
    if best is not None and not 0 <= best < len(values):
        raise ConfigurationError(f"expected best from 0 to {len(values) - 1}, got {best}")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    curves = []
    for row in np.asarray(values, np.float64):
        there = np.isfinite(row)
        curves.append(np.c_[steps[there], row[there]])
    alpha = float(np.clip(30 / max(len(curves), 1), 0.2, 0.6))
    ok = [c for c, bad in zip(curves, diverged, strict=True) if len(c) and not bad]
    bad = [c for c, bad in zip(curves, diverged, strict=True) if len(c) and bad]
    faint: dict[str, Any] = {"lw": 0.9, "alpha": alpha}
    axes.add_collection(LineCollection(ok, colors=GREY, **faint))
    axes.add_collection(LineCollection(bad, colors=ORANGE, linestyles="--", **faint))
    if ok:
        axes.plot([], [], color=GREY, lw=0.9, label=f"finite ({len(ok)})")
    if diverged.any():
        unseen = int(diverged.sum()) - len(bad)
        early = f", {unseen} of them before any value" if unseen else ""
        ends = np.array([c[-1] for c in bad]).reshape(-1, 2)
        text = f"diverged ({diverged.sum()}{early})"
        axes.plot(*ends.T, "X", color=ORANGE, ms=6, mec="white", mew=0.4, ls="none", label=text)
    if best is not None:
        curve = curves[best]
        end = f" ({curve[-1, 1]:.3f})" if len(curve) else ""
        many = max(1, len(curve) // 15)
        top = {"color": BLUE, "lw": 2.2, "ms": 5, "markevery": many, "zorder": 3}
        axes.plot(*curve.T, "o-", label=best_label + end, **top)
    seen = np.concatenate([c[:, 1] for c in curves]) if curves else np.zeros(0)
    if len(seen) and 0 < seen.min() < seen.max() / 100:
        axes.set_yscale("log")
    axes.autoscale_view()
    axes.set(xlabel="step", ylabel=label)
    axes.locator_params(axis="x", integer=True)
    finish(axes)
    set_title(figure, title)
    return figure
