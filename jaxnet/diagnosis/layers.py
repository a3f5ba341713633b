"""Checks inside the network: dead and saturated units, gradients and updates by layer."""

import math

import numpy as np

from jaxnet.diagnosis.finding import Finding, Observed

MAX_DEAD_SHARE, MAX_SATURATED_SHARE = 0.4, 0.4  # of the units, of the outputs of a layer
MAX_GRADIENT_RATIO = 100  # between the gradients of the first and the last layer
# The norm of a healthy gradient lies between these, as inputs and errors are about 1.
MIN_GRADIENT, MAX_GRADIENT = 1e-5, 30
# The ratio of update to weight; the rule of thumb is 1e-3.
MIN_UPDATE_RATIO, MAX_UPDATE_RATIO = 3e-5, 3e-2


def dead_units(run: Observed) -> Finding | None:
    """Many relu units give 0 for every image, so that they can no longer learn."""
    if run.layers is None or not run.layers.dead.size:
        return None
    last = run.layers.dead[-1]
    worst = int(np.argmax(np.nan_to_num(last)))
    if not last[worst] > MAX_DEAD_SHARE:
        return None
    return Finding(
        "dead relu units",
        {"layer": worst + 1, "dead": float(last[worst]), "at the start": _first(run, worst)},
        f"{last[worst]:.0%} of the units of hidden layer {worst + 1} give 0 for every "
        f"observed image: their gradient is 0, so they no longer learn.",
        "a lower learning_rate, activation='leaky_relu', or norm='batch'",
    )


def _first(run: Observed, layer: int) -> float:
    assert run.layers is not None
    return float(run.layers.dead[0, layer])


def saturated_units(run: Observed) -> Finding | None:
    """Many outputs of tanh or sigmoid lie near the ends of their range, where slopes are near 0."""
    if run.layers is None or not run.layers.saturated.size:
        return None
    last = run.layers.saturated[-1]
    worst = int(np.argmax(np.nan_to_num(last)))
    if not last[worst] > MAX_SATURATED_SHARE:
        return None
    return Finding(
        "saturated units",
        {"layer": worst + 1, "saturated": float(last[worst])},
        f"{last[worst]:.0%} of the outputs of hidden layer {worst + 1} lie at the ends of the "
        f"activation's range, where its slope is near 0 and little gradient passes.",
        "a lower init_scale, norm='batch', preprocessing='standardize', or activation='relu'",
    )


def layer_gradients(run: Observed) -> Finding | None:
    """Gradients vanish or explode on their way through the layers."""
    if run.layers is None or run.layers.gradient.shape[1] < 3:
        return None  # gradients vanish by products over several hidden layers
    gradient = run.layers.gradient
    first, last = np.nan_to_num(gradient[:, 0]), np.nan_to_num(gradient[:, -1])
    ratios = first[last > 0] / last[last > 0]
    share = float(np.median(ratios)) if len(ratios) else 1.0
    largest = float(np.nanmax(gradient[0])) if np.isfinite(gradient[0]).any() else math.inf
    evidence = {"layers": gradient.shape[1], "first layer over last": share}
    evidence["largest, at the start"] = largest
    learned = (run.accuracies[0] or 0.0) > 0.9
    if (share < 1 / MAX_GRADIENT_RATIO or largest < MIN_GRADIENT) and not learned:
        return Finding(
            "vanishing gradients",
            evidence,
            f"The gradient of the first layer is {share:.2g} of the last one's, and the largest "
            f"of any layer was {largest:.1g} at the start: the first layers hardly learn.",
            "init='he' with init_scale=1, norm='batch', or activation='relu'",
        )
    if share > MAX_GRADIENT_RATIO or largest > MAX_GRADIENT:
        return Finding(
            "exploding gradients",
            evidence,
            f"The gradient of the first layer is {share:.2g} times the last one's, and the largest "
            f"of any layer was {largest:.2g} at the start: each layer multiplies it.",
            "init='he' with init_scale=1 (or lower), norm='batch', or clip_norm=1",
        )
    return None


def update_ratio(run: Observed) -> Finding | None:
    """Updates are far from a thousandth of the weights in most of the run."""
    if run.layers is None or run.diverged:
        return None
    ratio = run.layers.ratio[:-1] if len(run.layers.steps) > 1 else run.layers.ratio
    if not np.isfinite(ratio).any():
        return None
    with np.errstate(all="ignore"):
        middle = np.nanmedian(np.where(np.isfinite(ratio), ratio, np.nan), axis=0)
    middle = middle[np.isfinite(middle)]
    most = float(middle.max())
    rate = run.settings.get("learning_rate", math.nan)
    evidence = {"update over weight": most, "rule of thumb": 1e-3, "learning rate": rate}
    if most < MIN_UPDATE_RATIO:
        fades = run.settings.get("schedule", "constant") != "constant"
        return Finding(
            "updates too small",
            evidence,
            f"Most of the time no layer's updates are more than {most:.1g} of its weights, where "
            f"about 1e-3 is usual: the weights hardly move.",
            ("a schedule that falls later, or " if fades else "")
            + f"a higher learning_rate, such as {rate * 3:.2g}",
        )
    if most > MAX_UPDATE_RATIO:
        return Finding(
            "updates too large",
            evidence,
            f"Each update changes the weights of a layer by {most:.1g} of their size, where about "
            f"1e-3 is usual.",
            f"a lower learning_rate, such as {rate / 3:.2g}",
        )
    return None
