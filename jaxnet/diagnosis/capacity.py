"""Training against validation accuracy: too much capacity, or too little."""

import math

import numpy as np

from jaxnet.diagnosis.finding import Finding, Observed

GAP = 0.1  # from which the training images are known by heart


def overfit(run: Observed) -> Finding | None:
    """Training accuracy is far above validation accuracy."""
    train, val = run.accuracies
    if run.diverged or math.isnan(train) or math.isnan(val):
        return None
    error = math.sqrt(max(val * (1 - val), 0) / run.validation) if run.validation else 0.0
    if train - val <= GAP + 2 * error:
        return None
    return Finding(
        "overfitting",
        {"training accuracy": train, "validation accuracy": val, "gap": train - val},
        f"It has {train:.1%} of the training images right and {val:.1%} of the others: part of "
        f"what it learned holds for the training images alone.",
        "more l2 or dropout, augmentation or more training images; or stop earlier (patience)",
    )


def underfit(run: Observed) -> Finding | None:
    """No gap, no progress, and errors on the training images: the network is too small."""
    train, val = run.accuracies
    if run.diverged or math.isnan(train) or math.isnan(val) or not run.enough:
        return None
    start = float(np.median(run.part(0, 0.05)))
    after = float(np.mean(run.part(0.75, 1)))
    learned = start - after > 0.05 * start
    error = math.sqrt(max(val * (1 - val), 0) / run.validation) if run.validation else 0.0
    if train - val > 0.02 + 2 * error or train > 0.9 or not run.flat or not learned:
        return None
    return Finding(
        "capacity too low",
        {"training accuracy": train, "validation accuracy": val, "loss at the end": after},
        f"Training and validation accuracy are alike ({train:.1%}, {val:.1%}) and the loss has "
        f"stopped falling: the network cannot hold more.",
        "more units or layers (hidden), less l2 or dropout",
    )
