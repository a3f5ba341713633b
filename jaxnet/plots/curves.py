"""The loss and the accuracies of one run over its steps."""

import numpy as np
from jaxtyping import Num
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.plots.style import BLUE, GREY, ORANGE, finish, set_title


@checked
def learning_curves(
    steps: Num[np.ndarray, " recorded"],
    loss: Num[np.ndarray, " recorded"],
    evaluated_steps: Num[np.ndarray, " evaluated"],
    train_accuracy: Num[np.ndarray, " evaluated"],
    val_accuracy: Num[np.ndarray, " evaluated"],
    *,
    title: str = "",
    status: str = "ok",
    chance: float | None = None,
) -> Figure:
    """Draw one run: training loss on the left, training and validation accuracy on the right.

    Losses that are not finite are left out; if the run ends with one, its last finite loss is
    marked. A loss over more than two decades gets a log axis; more than 100 finite points get a
    trailing mean. A `status` other than "ok" appears in the title; `chance` is the accuracy of
    guessing.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)

    loss = np.asarray(loss, np.float64)
    finite = np.isfinite(loss)
    x, y = steps[finite], loss[finite]
    many, style = len(y) > 100, ".-" if len(y) <= 50 else "-"
    raw = {"color": BLUE, "lw": 0.5 if many else 1.2, "alpha": 0.4 if many else 1.0}
    if len(y) == 0:
        left.text(0.5, 0.5, "no finite loss", ha="center", transform=left.transAxes)
    else:
        left.plot(steps, np.where(finite, loss, np.nan), style, label="training loss", **raw)
    if many:  # trailing, because a centred mean would show an explosion before it happens
        window = len(y) // 50
        total, count = (np.convolve(v, np.ones(window))[: len(y)] for v in (y, np.ones_like(y)))
        left.plot(x, total / count, color=BLUE, lw=1.8, label=f"mean of the last {window}")
    if len(y) and not finite[-1]:
        mark = f"last finite loss (step {x[-1]:.0f})"
        left.plot(x[-1:], y[-1:], "X", color=ORANGE, ms=9, label=mark)
    if len(y) and 0 < y.min() < y.max() / 100:
        left.set_yscale("log")
    left.set(xlabel="step", ylabel="loss")

    best = "validation"
    if np.isfinite(val_accuracy).any():
        at = np.nanargmax(val_accuracy)
        best += f" (best {val_accuracy[at]:.3f} at step {evaluated_steps[at]:.0f})"
    look = {"ms": 4, "markevery": max(1, len(evaluated_steps) // 15)}
    right.plot(evaluated_steps, train_accuracy, "o-", color=BLUE, label="train", **look)
    right.plot(evaluated_steps, val_accuracy, "s--", color=ORANGE, label=best, **look)
    if chance is not None:
        right.axhline(chance, color=GREY, ls=(0, (6, 4)), lw=1, label=f"chance {chance:.3g}")
    right.set(xlabel="step", ylabel="accuracy")

    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
        finish(axes)
    outcome = "" if status == "ok" else f"status {status}"
    set_title(figure, ": ".join(filter(None, [title, outcome])))
    return figure
