"""Checks that validation and test labels are distributed as the training labels are."""

from jaxnet.diagnosis.finding import Finding, Observed


def validation_shift(run: Observed) -> Finding | None:
    """The validation labels are distributed differently from the training labels."""
    return _shift(
        run,
        "validation",
        "label shift",
        "The accuracy that ranks runs measures other classes than were trained, which may look "
        "like overfitting.",
        "split='stratified' (--split stratified), which draws within each class",
    )


def test_shift(run: Observed) -> Finding | None:
    """The test labels are distributed differently from the training labels."""
    return _shift(
        run,
        "test",
        "label shift of the test set",
        "The test accuracy measures other classes than were trained.",
        "a test set drawn from the same rows as the training set",
    )


def _shift(run: Observed, part: str, name: str, sentence: str, change: str) -> Finding | None:
    shift = run.label_shifts.get(part)
    if shift is None or not shift.clear:
        return None
    return Finding(
        name,
        {"distance": shift.distance, "of classes not trained on": shift.unseen},
        f"The {part} labels are distributed differently from the training labels: {shift}. "
        f"{sentence}",
        change,
    )
