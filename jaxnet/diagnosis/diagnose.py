"""Apply all checks to one run, or to a sweep and its best run."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnet.arguments.checks import whole
from jaxnet.arguments.signatures import checked
from jaxnet.data.splits import LabelShift
from jaxnet.diagnosis.capacity import overfit, underfit
from jaxnet.diagnosis.finding import Diagnosis, Observed
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
from jaxnet.sweeps.folder.recorded import read_run
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
    """Return the faults of a run: evidence in numbers, a sentence, the setting to change.

    `run` is a result of `train` or `sweep`, the path of a run folder, or a bare history. For a
    sweep the checks judge its best run and its space: the part that diverges, whether the best
    lies at an edge, whether the ranking is noise. For a single run with a folder they judge its
    layers, too. A bare history lacks facts that some checks need: pass the `settings` of the run,
    the number of `classes` and the number of `validation` images. The loss of a user's model is
    unknown, unless you pass `settings={"loss": "softmax"}`. An empty result is no proof that
    nothing is wrong.

    Labels that are distributed differently in validation or test come first. The other checks
    follow the course's notes on "babysitting" a run (cs231n.github.io/neural-networks-3): first
    loss, change of the loss, gap between training and validation accuracy, dead and saturated
    units, gradients by layer, ratio of updates to weights. The thresholds stand beside each check
    in `jaxnet/diagnosis`.

    >>> import jaxnet
    >>> result = jaxnet.train(steps=60, hidden=(20,), learning_rate=1e-6)
    >>> print(jaxnet.diagnose(result).names)
    ['loss stands still']
    """
    classes = None if classes is None else whole("classes", classes, 1)
    validation = None if validation is None else whole("validation", validation, 1)
    if isinstance(run, History):
        return _dominant(
            Observed(
                history=run,
                settings=dict(settings or {}),
                classes=classes,
                validation=validation,
            )
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
    """Return the faults of one row; `layers` is the layer history of its run, if there is one."""
    outcome = row.outcome
    return _dominant(
        Observed(
            history=outcome.history.until(outcome.steps) if row.ok else outcome.history,
            settings=row.settings,
            status=outcome.status,
            classes=classes,
            validation=validation,
            train_accuracy=outcome.train_accuracy,
            layers=layers,
            label_shifts=label_shifts,
        )
    )


def diagnose_rows(
    settings: Sequence[Replicates],
    axes: Sequence[str],
    *,
    validation: int | None,
    noise: str | None,
) -> Diagnosis:
    """Return the faults of a sweep's space and ranking, given its settings from the best on."""
    found = (
        much_diverged(settings, axes),
        edge_of_range(settings, axes),
        ranking_noise(settings, validation, noise),
    )
    return Diagnosis(tuple(finding for finding in found if finding is not None))


_FLAT = {"plateau", "capacity too low"}
_STUCK = {"loss stands still", *_FLAT}

# The findings that each one explains. They are left out, as a fix of the cause may cure them.
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
    """Return the findings of all checks without the ones that another explains."""
    findings = [finding for check in CHECKS if (finding := check(run)) is not None]
    explained = set().union(*(_EXPLAINED.get(finding.name, set()) for finding in findings))
    return Diagnosis(tuple(finding for finding in findings if finding.name not in explained))
