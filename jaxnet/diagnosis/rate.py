"""Checks of how the loss changes, which shows whether the learning rate fits."""

import math

import numpy as np

from jaxnet.diagnosis.finding import Finding, Observed

_START_MIDDLE_END = ((0.0, 0.1), (0.45, 0.55), (0.9, 1.0))  # parts of a run


def explosion(run: Observed) -> Finding | None:
    """The loss became infinite, or many times its first value, so the rate is too high."""
    rate = run.settings.get("learning_rate", math.nan)
    steps, losses = run.steps, run.losses
    if run.diverged:
        named = run.status.partition("@")[2]
        step = float(named) if named else float(steps[-1] + 1 if len(steps) else 0)
        evidence = {"step": step}
        if len(losses):
            evidence["last finite loss"] = float(losses[-1])
        return Finding(
            "diverged",
            evidence | _rate(rate),
            f"The loss stopped being finite at step {step:.0f}: each update overshoots by more "
            f"than the last.",
            _lower(rate) + "; or clip_norm=1, or schedule warm-up (warmup_steps)",
        )
    if not run.enough:
        return None
    high = np.flatnonzero(losses > 4 * losses[0])
    if len(high) and np.median(run.part(0.9, 1)) > 0.5 * losses[0]:
        step = float(steps[high[0]])
        return Finding(
            "explosion",
            {"step": step, "first loss": float(losses[0]), "highest": float(losses.max())}
            | _rate(rate),
            f"From step {step:.0f} on the loss is over four times its first value, up to "
            f"{losses.max():.3g}.",
            _lower(rate) + "; or clip_norm=1, or warmup_steps",
        )
    return None


def worse_than_chance(run: Observed) -> Finding | None:
    """At the end the network classifies validation images no better than guessing.

    The validation accuracy decides if it is known for enough images. Otherwise the loss decides:
    it is at least the loss of guessing, and no longer falls.
    """
    if run.diverged or not run.enough:
        return None
    expected, guessed, (train, accuracy) = run.expected_start, run.guessed, run.accuracies
    last = math.nan if run.penalized else run.data_loss(-1)
    if guessed is None:
        falling = last < 0.9 * float(np.median(run.part(0.5, 0.6)))
        guessed = expected is not None and last >= 0.98 * expected and not falling
    if not guessed:
        return None
    evidence = {"validation accuracy": accuracy, "training accuracy": train}
    sentence = f"After {run.history.steps[-1] + 1} steps the validation accuracy is {accuracy:.1%}"
    if run.classes is not None:
        evidence["accuracy of guessing"] = 1 / run.classes
        sentence += f", and guessing gives {1 / run.classes:.1%}"
    if expected is not None and math.isfinite(last):
        evidence |= {"last loss": last, "loss of guessing": expected}
        sentence += f"; the loss is {last:.3g}, and guessing costs {expected:.3g}"
    return Finding(
        "no better than chance",
        evidence,
        f"{sentence}.",
        "check that images and labels are in the same order; if they are, "
        + _lower(run.settings.get("learning_rate", math.nan))
        + " or more steps",
    )


def too_low(run: Observed) -> Finding | None:
    """The loss falls in a straight line, or hardly at all, so the rate is too low."""
    if run.diverged or not run.enough:
        return None
    start, middle, end = (float(np.median(run.part(*p))) for p in _START_MIDDLE_END)
    noise = float(np.std(np.diff(run.losses[len(run.losses) // 2 :]))) / math.sqrt(2)
    error = 1.6 * noise / math.sqrt(max(1, len(run.losses) // 10))  # of a median over a tenth
    rate = run.settings.get("learning_rate", math.nan)
    evidence = {"at first": start, "halfway": middle, "at the end": end} | _rate(rate)
    first, second = start - middle, middle - end
    if abs(start - end) < 0.02 * start and abs(start - end) < max(0.02 * start, 3 * error):
        if (run.accuracies[0] or 0) > 0.9:
            return None
        return Finding(
            "loss stands still",
            evidence,
            f"The loss changed only from {start:.4g} to {end:.4g} in the whole run.",
            _higher(rate) + "; but init_scale first if layers get no gradient",
        )
    straight = second > 0.75 * first and first + second > 5 * error and end > 0.35 * start
    if straight and first > 0:
        return Finding(
            "learning rate too low",
            evidence,
            f"The loss falls nearly in a straight line and is still falling: {first:.3g} in the "
            f"first half, {second:.3g} in the second. At a fitting rate the curve bends early.",
            _higher(rate) + ", or train for more steps",
        )
    return None


def plateau(run: Observed) -> Finding | None:
    """The loss fell, then stood still with errors left on training images."""
    if run.diverged or not run.enough or len(run.losses) < 60:
        return None
    start = float(np.median(run.part(0, 0.05)))
    before, after = float(np.mean(run.part(0.5, 0.75))), float(np.mean(run.part(0.75, 1)))
    train, _ = run.accuracies
    fell, late = start - after, before - after
    if fell < 0.05 * start or not train < 0.9 or not run.flat:
        return None
    if run.settings.get("schedule", "constant") != "constant":
        return None  # a rate that falls to 0 ends in a plateau
    return Finding(
        "plateau",
        {"fell by": fell, "of that in the last quarter": late, "training accuracy": train},
        f"The loss fell by {fell:.3g} and then stood still, with {1 - train:.0%} of the training "
        f"images misclassified.",
        "let the rate fall (schedule='cosine'); if that does not help, more units (hidden)",
    )


def _rate(rate: float | int) -> dict[str, float]:
    return {} if math.isnan(rate) else {"learning rate": rate}


def _lower(rate: float | int) -> str:
    return "a lower learning_rate" + ("" if math.isnan(rate) else f", such as {rate / 3:.2g}")


def _higher(rate: float | int) -> str:
    return "a higher learning_rate" + ("" if math.isnan(rate) else f", such as {rate * 3:.2g}")
