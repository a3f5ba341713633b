"""The split of a training set into rows to train on and rows to validate on."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from jaxnet.arguments.checks import one_of, whole
from jaxnet.errors import ConfigurationError

SPLITS = ("stratified", "tail")

Rows = Int64[np.ndarray, "_"] | slice  # the indices of rows, or a range of them

# A shift is reported if it is larger than this share of the rows, and if a random split would have
# such a shift with less than this probability.
MIN_SHIFT_SHARE = 0.1
MAX_CHANCE_PROBABILITY = 1e-6


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of a data set: images `[n, *shape]` uint8 or float32, labels `[n]` int32."""

    images: UInt8[np.ndarray, "n *shape"] | Float32[np.ndarray, "n *shape"]
    labels: Int32[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.labels)


class Splits(NamedTuple):
    """The examples that a run trains on, is chosen by, and is tested on."""

    train: Examples
    validation: Examples
    test: Examples


def check_split(kind: str, seed: int) -> None:
    """Raise ConfigurationError for an unknown split, or a seed without effect."""
    one_of("split", kind, SPLITS)
    seed = whole("split_seed", seed, 0)
    if kind == "tail" and seed:
        raise ConfigurationError(
            f"split_seed belongs to split='stratified', got {seed} with split='tail', which draws "
            "nothing: leave it out"
        )


def split_rows(
    labels: Int32[np.ndarray, "n"], validation: int, train: int, kind: str, seed: int
) -> tuple[Rows, Rows]:
    """Return the rows to train on and the rows to validate on, each in the order of the data.

    tail        trains on the first `train` rows and validates on the next `validation`, the
                course's convention
    stratified  draws both within each class c, about rows · count(c) / n rows, rounded by largest
                remainders (ties: the lower class); validation leaves every class a row to train
                on, as long as `train` allows one for each

    The draw depends on labels and seed alone. Row i gets the i-th number of the Philox generator
    whose key is the seed, a stream that is the same in every version of NumPy. In each class, the
    rows with the lowest numbers validate, and the next ones train.
    """
    if kind == "tail":
        return slice(0, train), slice(train, train + validation)
    counts = np.bincount(labels).astype(np.int64)
    spare = counts - 1 if train >= np.count_nonzero(counts) else counts
    to_validate = _apportion(validation, counts, np.maximum(spare, 0))
    to_train = _apportion(train, counts, counts - to_validate)
    drawn = np.random.Philox(key=seed).random_raw(len(labels))
    order = np.lexsort((drawn, labels))
    begins = np.cumsum(counts) - counts
    rank = np.empty(len(labels), np.int64)  # of each row within its class
    rank[order] = np.arange(len(labels)) - begins[labels[order]]
    validates = to_validate[labels]
    return (
        np.flatnonzero((rank >= validates) & (rank < validates + to_train[labels])),
        np.flatnonzero(rank < validates),
    )


def _apportion(
    rows: int, counts: Int64[np.ndarray, "classes"], most: Int64[np.ndarray, "classes"]
) -> Int64[np.ndarray, "classes"]:
    """Return how many of `rows` each class gives: proportional to `counts`, and at most `most`."""
    shares, remainders = np.divmod(rows * counts, counts.sum())
    shares = np.minimum(shares, most)
    by_remainder = np.argsort(-remainders, kind="stable")
    while missing := rows - int(shares.sum()):
        room = by_remainder[shares[by_remainder] < most[by_remainder]]
        shares[room[:missing]] += 1
    return shares


@dataclass(frozen=True)
class LabelShift:
    """How far the labels of one part are distributed differently from the training labels.

    `distance` is ½ Σ|p − q| over the classes, the share of rows that would have to change their
    label. `unseen` is the share of rows whose class was not trained on. `clear` is True if the
    shift is large and chance is ruled out.
    """

    distance: float
    unseen: float
    clear: bool

    @classmethod
    def from_dict(cls, parts: object) -> "LabelShift | None":
        """Return the shift that a file describes; None if it describes none."""
        match parts:
            case {
                "distance": float() as distance,
                "unseen": float() as unseen,
                "clear": bool(clear),
            }:
                return cls(distance, unseen, clear)
        return None

    def __str__(self) -> str:
        if self.unseen:
            return f"{self.unseen:.0%} of the rows belong to classes that are not trained on"
        return f"{self.distance:.0%} of the rows would need another label for an equal distribution"


def label_shift(
    trained: Int32[np.ndarray, "n"], judged: Int32[np.ndarray, "m"], classes: int
) -> LabelShift:
    """Return how far the labels of the judged rows are distributed from the training labels."""
    if not len(judged):
        return LabelShift(0.0, 0.0, False)
    a, b = (np.bincount(labels, minlength=classes) for labels in (trained, judged))
    n, m = len(trained), len(judged)
    distance = float(np.abs(a / n - b / m).sum() / 2)
    # For two draws from one distribution, the mean distance is at most half the sum of the standard
    # deviations. One row changes the distance by 1/n or 1/m, so McDiarmid's inequality bounds how
    # far it exceeds its mean by chance.
    shares, scatter = (a + b) / (n + m), 1 / n + 1 / m
    mean = float(np.sqrt(shares * (1 - shares) * scatter).sum() / 2)
    apart = distance > mean + math.sqrt(-math.log(MAX_CHANCE_PROBABILITY) / 2 * scatter)
    # A bound on the probability that all rows of any one class are drawn to be judged.
    absent = b[a == 0]
    lacking = classes * (m / (n + m)) ** int(absent.max(initial=0)) < MAX_CHANCE_PROBABILITY
    clear = distance > MIN_SHIFT_SHARE and (apart or lacking)
    return LabelShift(distance, float(absent.sum() / m), clear)
