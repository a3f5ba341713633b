"""The split of a training set: which rows judge, and which are trained on."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8

from jaxnet.arguments.checks import one_of, whole
from jaxnet.errors import ConfigurationError

SPLITS = ("stratified", "tail")

Rows = Int64[np.ndarray, "_"] | slice  # of an array, one by one or all between two

# A difference between two parts is worth a word from this share of the rows on, if chance makes it
# less than once in a million splits.
SMALLEST_SHIFT = 0.1
CHANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of a data set: images `[n, *shape]` uint8 or float32, labels `[n]` int32."""

    images: UInt8[np.ndarray, "n *shape"] | Float32[np.ndarray, "n *shape"]
    labels: Int32[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.labels)


class Splits(NamedTuple):
    """What a run trains on, what it is chosen by, and what it is judged by."""

    train: Examples
    validation: Examples
    test: Examples


def check_split(kind: str, seed: int) -> None:
    """Raise ConfigurationError for a split that there is not, or a seed without effect."""
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
    """Return the rows to train on and those to validate on, each in the order of the data.

    tail        trains on the first `train` rows and validates on the next `validation`, the
                course's convention
    stratified  draws both within each class: of class c as near as whole rows come to
                rows · count(c) / n, by largest remainders (ties: the lower class); no class is
                drawn empty by the validation rows while there are rows to train on for all

    The draw depends on labels and seed alone. Row i has the i-th number of the Philox generator
    whose key is the seed, a stream that is the same in every version of NumPy; of each class the
    rows with the lowest numbers validate, and those after them train.
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
    place = np.empty(len(labels), np.int64)  # of each row within its class
    place[order] = np.arange(len(labels)) - begins[labels[order]]
    validates = to_validate[labels]
    return (
        np.flatnonzero((place >= validates) & (place < validates + to_train[labels])),
        np.flatnonzero(place < validates),
    )


def _apportion(
    rows: int, counts: Int64[np.ndarray, "classes"], most: Int64[np.ndarray, "classes"]
) -> Int64[np.ndarray, "classes"]:
    """Return how many of `rows` each class gives: in proportion to `counts`, at most `most`."""
    shares, remainders = np.divmod(rows * counts, counts.sum())
    shares = np.minimum(shares, most)
    by_remainder = np.argsort(-remainders, kind="stable")
    while missing := rows - int(shares.sum()):
        room = by_remainder[shares[by_remainder] < most[by_remainder]]
        shares[room[:missing]] += 1
    return shares


@dataclass(frozen=True)
class LabelShift:
    """How far the labels of one part are distributed differently from those trained on.

    `distance` is ½ Σ|p − q| over the classes, the share of rows that would have to change their
    label; `unseen` the share of rows whose class was not trained on; `clear` whether chance is
    ruled out.
    """

    distance: float
    unseen: float
    clear: bool

    @classmethod
    def from_dict(cls, parts: object) -> "LabelShift | None":
        """Return what a file says of a shift, None for what it cannot be."""
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
            return f"{self.unseen:.0%} of the rows are of classes that are not trained on"
        return f"{self.distance:.0%} of the rows would need another label to be distributed alike"


def label_shift(
    trained: Int32[np.ndarray, "n"], judged: Int32[np.ndarray, "m"], classes: int
) -> LabelShift:
    """Return how far the labels of the judged rows are from those trained on."""
    if not len(judged):
        return LabelShift(0.0, 0.0, False)
    a, b = (np.bincount(labels, minlength=classes) for labels in (trained, judged))
    n, m = len(trained), len(judged)
    distance = float(np.abs(a / n - b / m).sum() / 2)
    # Two draws from one distribution are at most half the sum of the standard deviations apart in
    # the mean; as one row moves that by 1/n or 1/m, McDiarmid's inequality bounds the rest.
    shares, scatter = (a + b) / (n + m), 1 / n + 1 / m
    mean = float(np.sqrt(shares * (1 - shares) * scatter).sum() / 2)
    apart = distance > mean + math.sqrt(-math.log(CHANCE) / 2 * scatter)
    # The chance that all rows of one class come to be judged, for any of the classes.
    absent = b[a == 0]
    lacking = classes * (m / (n + m)) ** int(absent.max(initial=0)) < CHANCE
    clear = distance > SMALLEST_SHIFT and (apart or lacking)
    return LabelShift(distance, float(absent.sum() / m), clear)
