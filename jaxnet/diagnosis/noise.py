"""Checks for noise and for the space of a sweep: small batches, heavy penalty, ranking, edges."""

import math
from collections.abc import Sequence

import numpy as np

from jaxnet.diagnosis.finding import Finding, Observed
from jaxnet.sweeps.results.replicates import Replicates

MAX_STEP_NOISE = 0.3  # change of the loss from step to step, as a share of it
MAX_PENALTY_SHARE = 0.33  # of the loss
MAX_DIVERGED_SHARE = 0.4  # of the runs


def noisy_batches(run: Observed) -> Finding | None:
    """The loss jumps by a large part of itself from one minibatch to the next."""
    if run.diverged or not run.enough:
        return None
    late = run.part(0.5, 1)
    # Differences of neighbouring steps, because the fall of the loss hardly contributes to them.
    noise = float(np.std(np.diff(late))) / math.sqrt(2)
    level = float(np.mean(late))
    train, _ = run.accuracies
    # A nearly learned task has a small loss, so that any jump is a large part of it.
    learned = 0.25 * (run.expected_start or float(run.losses[0]))
    if noise < MAX_STEP_NOISE * level or level < learned or train > 0.95:
        return None
    size = run.settings.get("batch_size", 0)
    evidence = {"from step to step": noise, "mean loss": level}
    return Finding(
        "noisy minibatches",
        evidence | ({"batch size": size} if size else {}),
        f"From step to step the loss jumps by {noise / level:.0%} of itself: minibatches are too "
        f"small to agree.",
        (f"a larger batch_size, such as {4 * size}" if size else "a larger batch_size")
        + ", or a lower learning_rate",
    )


def heavy_penalty(run: Observed) -> Finding | None:
    """The L2 penalty is a large part of the loss."""
    if run.layers is None or run.diverged:
        return None
    total = run.layers.penalty + run.layers.data_loss
    share = float((run.layers.penalty / np.where(total > 0, total, 1.0))[-1])
    first = float(run.layers.penalty[0] / total[0]) if total[0] > 0 else 0.0
    l2 = run.settings.get("l2", 0.0)
    expected = run.expected_start
    # A very strong penalty shrinks the weights to nothing; then the last penalty is small, and the
    # loss is like chance.
    flattened = (
        expected is not None and first > MAX_PENALTY_SHARE and run.data_loss(-1) > 0.95 * expected
    )
    if (share < MAX_PENALTY_SHARE or run.accuracies[0] > 0.9) and not flattened:
        return None
    return Finding(
        "regularization dominates",
        {"share of the penalty, last": share, "first": first, "l2": l2},
        f"The L2 penalty is {max(share, first):.0%} of the loss: training shrinks the weights more "
        f"than it fits the data.",
        f"a lower l2, such as {l2 / 10:.2g}",
    )


def ranking_noise(
    settings: Sequence[Replicates], validation: int | None, note: str | None
) -> Finding | None:
    """The lead of the winner may be chance alone."""
    if not note or len(settings) < 2 or not settings[0].count or not settings[1].count:
        return None
    mean = settings[0].mean
    evidence = {"lead over the next": mean - settings[1].mean, "seeds": settings[0].count}
    if validation:
        evidence["standard error of one accuracy"] = math.sqrt(mean * (1 - mean) / validation)
    return Finding(
        "ranking within noise",
        evidence,
        note[0].upper() + note[1:] + ".",
        "replicates=5 (--replicates 5) for the best few, or more validation images (validation)",
    )


def edge_of_range(settings: Sequence[Replicates], axes: Sequence[str]) -> Finding | None:
    """The best value lies at the edge of the space, so a better one may lie beyond."""
    best = settings[0]
    if not best.count:
        return None
    ends = {}
    for name in axes:
        values = _numbers(settings, name)
        value = best.settings.get(name)
        # With fewer than three values each is an end; more than twenty are random draws.
        if 3 <= len(values) <= 20 and value in (values[0], values[-1]):
            rest = [s.mean for s in settings if s.count and s.settings.get(name) != value]
            if rest and best.mean > max(rest):
                ends[name] = (value, "lower" if value == values[0] else "higher")
    if not ends:
        return None
    at = ", ".join(f"{name} {value:g}" for name, (value, _) in ends.items())
    beyond = " and ".join(f"{side} {name}" for name, (_, side) in ends.items())
    return Finding(
        "best at the edge",
        {name: value for name, (value, _) in ends.items()},
        f"The best setting lies at the edge of the space: {at}.",
        f"widen the space: {beyond}",
    )


def much_diverged(settings: Sequence[Replicates], axes: Sequence[str]) -> Finding | None:
    """A large part of the sweep diverged, so part of the space is wasted."""
    runs, bad = sum(len(s.rows) for s in settings), sum(s.diverged for s in settings)
    if bad < MAX_DIVERGED_SHARE * runs:
        return None
    evidence: dict[str, float] = {"diverged": bad, "of": runs}
    change = "leave out the values that diverge"
    for name in ("learning_rate", *axes):
        values = _numbers(settings, name)
        safe = [v for v in values if _share(settings, name, v) < 0.5]
        if len(safe) < len(values) and safe and max(safe) < max(values):
            evidence[f"highest {name} at which most stay finite"] = max(safe)
            change = f"leave out {name} above {max(safe):g}, and spend the runs below it"
            break
    sentence = f"{bad} of {runs} runs diverged."
    return Finding("much of the space diverges", evidence, sentence, change)


def _share(settings: Sequence[Replicates], name: str, value: float) -> float:
    mine = [s for s in settings if s.settings.get(name) == value]
    return sum(s.diverged for s in mine) / sum(len(s.rows) for s in mine)


def _numbers(settings: Sequence[Replicates], name: str) -> list[float]:
    """Return the distinct numbers of a hyperparameter, in order, without names."""
    values = (setting.settings.get(name) for setting in settings)
    return sorted({v for v in values if isinstance(v, int | float) and not isinstance(v, bool)})
