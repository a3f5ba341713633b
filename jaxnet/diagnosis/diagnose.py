"""All checks over one run, or over a sweep and its best."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnet.arguments.checks import whole
from jaxnet.arguments.signatures import checked
from jaxnet.data.splits import LabelShift
from jaxnet.diagnosis.capacity import overfit, underfit
from jaxnet.diagnosis.finding import Diagnosis, Finding, Observed
from jaxnet.diagnosis.labels import test_shift, validation_shift
from jaxnet.diagnosis.layers import dead_units, layer_gradients, saturated_units, update_ratio
from jaxnet.diagnosis.noise import (
    edge_of_range,
    heavy_penalty,
    much_diverged,
    noisy_batches,
    ranking_noise,
)
from jaxnet.diagnosis.rate import explosion, plateau, too_low, worse_than_chance
from jaxnet.diagnosis.start import initial_loss
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.results.record import History
from jaxnet.sweeps.results.replicates import Replicates
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.results.sweep_result import SweepResult

CHECKS = (
    *(validation_shift, test_shift),
    *(explosion, initial_loss, worse_than_chance, heavy_penalty, layer_gradients),
    *(dead_units, saturated_units, too_low, update_ratio, noisy_batches),
    *(overfit, underfit, plateau),
)


@checked
def diagnose(
    run: SweepResult | History | Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    classes: int | None = None,
    validation: int | None = None,
) -> Diagnosis:
    """Return what a run says is wrong: evidence in numbers, a sentence, the setting to change.

    `run` is a result of `train` or `sweep`, the path of a run folder, or a bare history. Of a sweep
    the space is judged (what diverges, whether the best lies at an edge, whether the ranking is
    noise) and the best run; of a single run that has a folder its layers too. A history alone says
    less: give the `settings` it ran with, the number of `classes` and of `validation` images to
    have what depends on them. Of a user's model the loss is not known: `settings={"loss":
    "softmax"}` says that it is one of ours. Nothing found is no proof that nothing is wrong.

    Labels that are distributed differently in validation or test come first. The other checks are
    those of the course's notes on "babysitting" a run
    (cs231n.github.io/neural-networks-3): first loss, course of the loss, gap between training and
    validation accuracy, dead and saturated units, gradients by layer, ratio of updates to weights;
    thresholds stand beside each check in `jaxnet/diagnosis`.

    >>> import jaxnet
    >>> result = jaxnet.train(steps=60, hidden=(20,), learning_rate=1e-6)
    >>> print(jaxnet.diagnose(result).names)
    ['loss stands still']
    """
    classes = None if classes is None else whole("classes", classes, 1)
    validation = None if validation is None else whole("validation", validation, 1)
    if isinstance(run, History):
        return _dominant(
            Observed(run, dict(settings or {}), classes=classes, validation=validation)
        )
    if isinstance(run, SweepResult):
        classes = len(run.network.class_names) if run.network is not None else classes
        row = run.best or run.rows[0]
        found = diagnose_row(
            _with(row, settings),
            classes=classes,
            layers=run.layers,
            validation=validation or run.validation,
            label_shifts=run.label_shifts,
        )
        if len(run.rows) == 1:
            return found
        axes = [name for name in run.swept if name != "seed"]
        wide = diagnose_rows(run.replicates, axes, validation=run.validation, noise=run.noise)
        return Diagnosis((*wide, *found))
    from jaxnet.sweeps.folder.recorded import read_run

    recorded = read_run(run)
    found = diagnose_row(
        _with(recorded.best or recorded.rows[0], settings),
        classes=recorded.classes,
        layers=recorded.layers,
        validation=recorded.validation,
        label_shifts=recorded.label_shifts,
    )
    if len(recorded.rows) == 1:
        return found
    wide = diagnose_rows(
        recorded.settings, recorded.axes, validation=recorded.validation, noise=recorded.noise
    )
    return Diagnosis((*wide, *found))


def _with(row: Row, settings: Mapping[str, Any] | None) -> Row:
    return dataclasses.replace(row, settings={**row.settings, **(settings or {})})


def diagnose_row(
    row: Row,
    *,
    classes: int | None,
    layers: LayerHistory | None,
    validation: int | None,
    label_shifts: Mapping[str, LabelShift],
) -> Diagnosis:
    """Return what one row says is wrong; `layers` are those of its run, if they were noted."""
    outcome = row.outcome
    return _dominant(
        Observed(
            outcome.history.until(outcome.steps) if row.ok else outcome.history,
            row.settings,
            outcome.status,
            classes,
            validation,
            outcome.train_accuracy,
            layers,
            label_shifts,
        )
    )


def diagnose_rows(
    settings: Sequence[Replicates],
    axes: Sequence[str],
    *,
    validation: int | None,
    noise: str | None,
) -> Diagnosis:
    """Return what the settings of a sweep, best first, say of its space and its ranking."""
    found = (
        much_diverged(settings, axes),
        edge_of_range(settings, axes),
        ranking_noise(settings, validation, noise),
    )
    return Diagnosis(tuple(finding for finding in found if finding is not None))


_FLAT = {"plateau", "capacity too low"}
_STUCK = {"loss stands still", *_FLAT}

# What explains the others: fix it first, and look again.
_EXPLAINED = {
    "label shift": {"overfitting", "no better than chance"},
    "diverged": {"explosion", "no better than chance", "updates too large", "exploding gradients"},
    "explosion": {"no better than chance", "noisy minibatches", "updates too large", *_FLAT},
    "initial loss too high": {"no better than chance"},
    "regularization dominates": {*_STUCK, "no better than chance", "updates too large"},
    "vanishing gradients": {*_STUCK, "no better than chance", "updates too small"},
    "dead relu units": {*_STUCK, "no better than chance", "updates too small"},
    "loss stands still": {"updates too small", *_FLAT, "no better than chance"},
    "learning rate too low": {"updates too small", "no better than chance"},
    "no better than chance": _FLAT,
    "capacity too low": {"plateau"},
    "updates too small": _FLAT,
    "noisy minibatches": _FLAT,
}


def _dominant(run: Observed) -> Diagnosis:
    found = [finding for check in CHECKS if (finding := check(run)) is not None]
    names = {finding.name for finding in found}
    explained = set().union(*(_EXPLAINED.get(name, set()) for name in names))
    kept: list[Finding] = [finding for finding in found if finding.name not in explained]
    return Diagnosis(tuple(kept))
