"""The run that checks observe, and their findings: evidence, a sentence, a setting to change."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from jaxnet.data.splits import LabelShift
from jaxnet.host.terminal import printable
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.results.record import History


@dataclass(frozen=True)
class Finding:
    """One fault of a run: its name, the evidence, a sentence on it, and the setting to change."""

    name: str
    evidence: Mapping[str, float | int]
    sentence: str
    change: str

    def to_dict(self) -> dict[str, str]:
        """Return the parts as texts."""
        return {
            "name": self.name,
            "evidence": ", ".join(f"{name} {value:.4g}" for name, value in self.evidence.items()),
            "sentence": self.sentence,
            "change": self.change,
        }

    def __str__(self) -> str:
        parts = self.to_dict()
        return printable(
            f"{parts['name']}: {parts['sentence']}\n"
            f"  evidence: {parts['evidence']}\n"
            f"  try: {parts['change']}"
        )


@dataclass(frozen=True)
class Diagnosis:
    """All findings, the most serious first; false if there are none."""

    findings: tuple[Finding, ...]

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    @property
    def names(self) -> list[str]:
        """The names of the findings."""
        return [finding.name for finding in self.findings]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.findings)) or "nothing wrong was found"


@dataclass(frozen=True, eq=False, kw_only=True)
class Observed:
    """One run as the checks see it. An unknown field is None, and its checks find nothing."""

    history: History
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: str = "ok"
    classes: int | None = None
    validation: int | None = None
    train_accuracy: float = math.nan
    layers: LayerHistory | None = None
    label_shifts: Mapping[str, LabelShift] = field(default_factory=dict)

    @cached_property
    def losses(self) -> np.ndarray:
        """The finite losses of the recorded steps, with the penalty."""
        return self.history.loss[np.isfinite(self.history.loss)].astype(np.float64)

    @cached_property
    def steps(self) -> np.ndarray:
        """The steps of `losses`."""
        return self.history.steps[np.isfinite(self.history.loss)]

    @property
    def diverged(self) -> bool:
        """Whether the loss became infinite or not a number."""
        return self.status.startswith("diverged") or not np.isfinite(self.history.loss).all()

    @property
    def enough(self) -> bool:
        """Whether there are enough losses to judge how they change."""
        return len(self.losses) >= 20

    def part(self, begin: float | int, end: float | int) -> np.ndarray:
        """Return the losses of a part of the run, such as (0.9, 1) for the last tenth."""
        n = len(self.losses)
        first = min(int(begin * n), n - 1)
        return self.losses[first : max(first + 1, math.ceil(end * n))]

    @property
    def flat(self) -> bool:
        """Whether the loss certainly falls by less than 5 % in the last quarter."""
        before, after = self.part(0.5, 0.75), self.part(0.75, 1)
        error = math.hypot(*(np.std(np.diff(p)) / math.sqrt(2 * len(p)) for p in (before, after)))
        return bool(before.mean() - after.mean() + 2 * error < 0.05 * after.mean())

    @property
    def expected_start(self) -> float | None:
        """The data loss of uninformative scores: softmax ln C, SVM C − 1, squared error 1.

        It is None for a user's model, whose loss may be any, unless `settings` name it.
        """
        loss = self.settings.get("loss", None if "model" in self.settings else "softmax")
        if loss == "squared_error":
            return 1.0
        if self.classes is None or self.classes < 2 or loss not in ("softmax", "svm"):
            return None
        return math.log(self.classes) if loss == "softmax" else self.classes - 1.0

    def data_loss(self, at: int) -> float:
        """Return the first (0) or last (−1) loss without the penalty, if the penalty is known.

        The last is a median over the last tenth, because the loss of one minibatch is noisy.
        """
        if self.layers is not None and at == 0 and self.layers.steps[0] == 0:
            return float(self.layers.data_loss[0])
        if not len(self.losses):
            return math.nan
        penalty = 0.0 if self.layers is None else float(self.layers.penalty[at])
        return float(self.losses[0] if at == 0 else np.median(self.part(0.9, 1))) - penalty

    @property
    def penalized(self) -> bool:
        """Whether the losses contain an unknown penalty."""
        return self.layers is None and self.settings.get("l2", 0.0) > 0

    @property
    def guessed(self) -> bool | None:
        """Whether the validation accuracy is at most two standard errors above guessing.

        It is None if accuracy, classes or the number of validation images are unknown, or if there
        are too few images to distinguish any accuracy from guessing.
        """
        accuracy = self.accuracies[1]
        if self.classes is None or not self.validation or math.isnan(accuracy):
            return None
        if self.validation < 4 * self.classes:
            return None
        chance = 1 / self.classes
        return accuracy <= chance + 2 * math.sqrt(chance * (1 - chance) / self.validation)

    @property
    def accuracies(self) -> tuple[float, float]:
        """The last training accuracy (over all images, if known) and validation accuracy."""
        seen = np.flatnonzero(np.isfinite(self.history.val_accuracy))
        if not len(seen):
            return math.nan, math.nan
        last = seen[-1]
        train = self.train_accuracy
        if math.isnan(train):
            train = float(self.history.train_accuracy[last])
        return train, float(self.history.val_accuracy[last])

    @property
    def validation_error(self) -> float:
        """The standard error of the last validation accuracy; 0 if the images are not counted."""
        accuracy = self.accuracies[1]
        if not self.validation:
            return 0.0
        return math.sqrt(max(accuracy * (1 - accuracy), 0) / self.validation)
