"""Checks of training against validation accuracy: too much capacity, or too little."""

import math

import numpy as np

from jaxnet.diagnosis.finding import Finding, Observed

MAX_ACCURACY_GAP = 0.1  # a larger one means that the network memorized training images


def overfit(run: Observed) -> Finding | None:
    """Training accuracy is far above validation accuracy."""
    train, val = run.accuracies
    if run.diverged or math.isnan(train) or math.isnan(val):
        return None
    if train - val <= MAX_ACCURACY_GAP + 2 * run.validation_error:
        return None
    return Finding(
        "overfitting",
        {"training accuracy": train, "validation accuracy": val, "gap": train - val},
        f"It classifies {train:.1%} of the training images correctly, but {val:.1%} of the "
        f"validation images: it partly memorized the training images.",
        "more l2 or dropout, augmentation or more training images; or stop earlier "
        "(stop={'patience': 4})",
    )


def underfit(run: Observed) -> Finding | None:
    """The network is too small: it has no gap, no progress, and errors on training images."""
    train, val = run.accuracies
    if run.diverged or math.isnan(train) or math.isnan(val) or not run.enough:
        return None
    start = float(np.median(run.part(0, 0.05)))
    after = float(np.mean(run.part(0.75, 1)))
    learned = start - after > 0.05 * start
    gap = train - val > 0.02 + 2 * run.validation_error
    if gap or train > 0.9 or not run.flat or not learned:
        return None
    return Finding(
        "capacity too low",
        {"training accuracy": train, "validation accuracy": val, "loss at the end": after},
        f"Training and validation accuracy are close ({train:.1%}, {val:.1%}) and the loss has "
        f"stopped falling: the network is too small to learn more.",
        "more units or layers (hidden), less l2 or dropout",
    )
