"""What the best network says of the validation images: whom it confuses, where it is surest."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, UInt8

from jaxnet.data import Examples
from jaxnet.errors import DataError
from jaxnet.host.tensors import read_fields, write_tensors
from jaxnet.training.network import Network

MISTAKES = 24


@dataclass(frozen=True, eq=False)
class Judged:
    """Of each validation image its class, the predicted one and the softmax share of that.

    `mistakes` are the rows of the surest wrong predictions, surest first, and `images` their
    pixels. Validation images, not test images: a mistake that is looked at is a reason to change
    something, and the test images are for a network that is done.
    """

    labels: Int32[np.ndarray, "n"]
    predicted: Int32[np.ndarray, "n"]
    confidence: Float32[np.ndarray, "n"]
    mistakes: Int64[np.ndarray, "m"]
    images: UInt8[np.ndarray, "m *shape"]

    def confusion(self, classes: int) -> Int64[np.ndarray, "classes classes"]:
        """Return how many images of class i (row) were taken for class j (column)."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts

    def save(self, path: Path) -> None:
        """Write the arrays as safetensors."""
        write_tensors(path, dict(vars(self)), {})

    @classmethod
    def load(cls, path: Path) -> "Judged":
        """Read what `save` wrote; DataError where it cannot be."""
        found = cls(**read_fields(path, _FIELDS))
        n, m = len(found.labels), len(found.mistakes)
        numbers = (found.labels, found.predicted, found.mistakes)
        if (
            any(len(series) != n for series in (found.predicted, found.confidence))
            or any(len(series) and series.min() < 0 for series in numbers)
            or (m and found.mistakes.max() >= n)
            or len(found.images) != m
        ):
            raise DataError(f"{path}: classes, predictions and images do not fit together")
        return found


_FIELDS = {
    "labels": ("i", 1),
    "predicted": ("i", 1),
    "confidence": ("f", 1),
    "mistakes": ("i", 1),
    "images": ("u", None),
}


def judge(network: Network, examples: Examples) -> Judged:
    """Return what a network says of these examples."""
    return judge_scores(network.scores(examples.images).astype(np.float64), examples)


def judge_scores(scores: Float64[np.ndarray, "n classes"], examples: Examples) -> Judged:
    """Return what these scores say of the examples."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    predicted = scores.argmax(axis=1)
    confidence = 1 / shares.sum(axis=1)  # the largest share is exp(0) of the sum
    wrong = np.flatnonzero(predicted != examples.labels)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return Judged(
        np.asarray(examples.labels, np.int32),
        predicted.astype(np.int32),
        confidence.astype(np.float32),
        mistakes.astype(np.int64),
        _pixels(examples.images[mistakes]),
    )


def _pixels(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8 or not images.size:
        return images.astype(np.uint8)
    low, high = images.min(), images.max()
    return (255 * (images - low) / (high - low if high > low else 1)).astype(np.uint8)
