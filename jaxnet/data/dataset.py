"""A data set in memory: images, labels, and the split into training, validation and test."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Shaped, UInt8

from jaxnet.errors import ConfigurationError, DataError

# A guard for labels that are no class numbers at all, such as hashes or dates.
MOST_CLASSES = 1 << 16


def check_labels(labels: Shaped[np.ndarray, "n"], classes: int, where: str) -> None:
    """Raise DataError, naming `where`, row and value, unless all labels are in 0..classes-1.

    A label out of range is not an error on the device: it gives NaN or, for -1, silently the last
    class. So every way into a `DataSet` passes here.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        row = int(wrong[0])
        more = f" ({wrong.size} such rows)" if wrong.size > 1 else ""
        raise DataError(
            f"{where}: the label of row {row} is {labels[row]}{more}, expected 0..{classes - 1}. "
            "Renumber the labels from 0, or give as many class names as there are classes."
        )


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


@dataclass(frozen=True, eq=False)
class DataSet:
    """Training and test images with their labels, checked once and read-only from then on.

    Images are uint8 or float32 `[n, *shape]`, channel-last where they have channels: 28×28×1 for
    Fashion-MNIST, 32×32×3 for CIFAR-10. Labels are int32 `[n]` in 0..C-1, where C is the number of
    class names. `source` says where the data came from. Anything else raises DataError.

    The fields are read-only views of the arrays given (no copy is made), so that the fingerprint
    keeps telling the truth.
    """

    name: str
    # Plain arrays in the signature, as this is where a user's arrays are checked: with a reason and
    # a remedy, which a type checker in front of it would hide.
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            where = f"{self.name} ({self.source}), {part}"
            _check_images(images, f"{where} images")
            _check_label_array(labels, len(images), f"{where} labels")
            if labels.dtype != np.int32:
                raise DataError(
                    f"{where} labels: expected int32, got {labels.dtype}. "
                    "Use DataSet.from_arrays, which converts, or labels.astype(np.int32)."
                )
            check_labels(labels, len(self.class_names), f"{where} labels")
        train, test = self.train_images, self.test_images
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise DataError(
                f"{self.name} ({self.source}): training images are {train.dtype} "
                f"{list(train.shape[1:])} but test images are {test.dtype} "
                f"{list(test.shape[1:])}. Give both the same shape and dtype."
            )
        for field in ("train_images", "train_labels", "test_images", "test_labels"):
            view = getattr(self, field).view()
            view.flags.writeable = False
            object.__setattr__(self, field, view)

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        labels: np.ndarray,
        test_images: np.ndarray,
        test_labels: np.ndarray,
        class_names: tuple[str, ...] | list[str] | None = None,
        name: str = "arrays",
    ) -> "DataSet":
        """Make a data set of your own arrays.

        Images `[n, *shape]` of uint8 stay as they are, of any floating type become float32; NaN and
        infinity are refused. Labels are integers `[n]`; without `class_names` the classes are named
        "0", "1", ... up to the largest label. Raises DataError.

        >>> x, y = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1])
        >>> DataSet.from_arrays(x, y, x[:2], y[:2]).class_names
        ('0', '1', '2')
        """
        train_images, test_images = _as_pixels(images), _as_pixels(test_images)
        train_labels, test_labels = np.asarray(labels), np.asarray(test_labels)
        _check_label_array(train_labels, len(train_images), f"{name}, train labels")
        _check_label_array(test_labels, len(test_images), f"{name}, test labels")
        if class_names is None:
            largest = max(int(y.max(initial=0)) for y in (train_labels, test_labels))
            class_names = [str(c) for c in range(min(largest + 1, MOST_CLASSES))]
        # Before the cast to int32, which would wrap a large value around into the range.
        check_labels(train_labels, len(class_names), f"{name}, train labels")
        check_labels(test_labels, len(class_names), f"{name}, test labels")
        return cls(
            name=name,
            train_images=train_images,
            train_labels=train_labels.astype(np.int32),
            test_images=test_images,
            test_labels=test_labels.astype(np.int32),
            class_names=tuple(class_names),
            source="arrays",
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, such as (32, 32, 3)."""
        return self.train_images.shape[1:]

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays."""
        return sum(array.nbytes for array in self._arrays)

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 over shape, dtype and content of the four arrays, whatever their file."""
        digest = hashlib.sha256()  # 0.1 s for CIFAR-10's 184 MB; blake2b takes twice as long
        for array in self._arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def split(self, validation: int, train: int | None = None) -> Splits:
        """Cut `validation` rows off the training set; everything returned is a view.

        The validation rows are the last of the rows used, which is the course's convention: with
        CIFAR-10, `split(1000)` trains on rows 0..48999 and validates on 49000..49999. `train` keeps
        the first `train` rows only: `split(1000, train=500)` validates on rows 500..1499.
        ConfigurationError if there are fewer rows than asked for.
        """
        rows = len(self.train_labels)
        if train is None:
            train = rows - validation
        if validation < 0 or train < 1 or train + validation > rows:
            raise ConfigurationError(
                f"cannot split {self.name} into {train} training and {validation} validation "
                f"rows: it has {rows} training rows. Ask for validation ≥ 0 and train ≥ 1 with "
                f"train + validation ≤ {rows}."
            )
        end = train + validation
        return Splits(
            Examples(self.train_images[:train], self.train_labels[:train]),
            Examples(self.train_images[train:end], self.train_labels[train:end]),
            Examples(self.test_images, self.test_labels),
        )

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.train_images, self.train_labels, self.test_images, self.test_labels


def _as_pixels(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        return images
    with np.errstate(over="ignore"):  # beyond float32: infinity, refused by _check_images
        return images.astype(np.float32, copy=False)


def _check_images(images: np.ndarray, where: str) -> None:
    if images.ndim < 2 or images.size == 0:
        raise DataError(
            f"{where}: expected [n, height, width, channels] or [n, features] with nothing empty, "
            f"got shape {list(images.shape)}. Reshape so that the first axis counts the images."
        )
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{where}: expected uint8 or float32, got {images.dtype}. Convert with "
            "images.astype(np.uint8) if the values are 0..255, else images.astype(np.float32)."
        )
    if images.dtype == np.float32:
        finite = np.isfinite(images)
        if not finite.all():
            row = int(np.argmin(finite.reshape(len(images), -1).all(axis=1)))
            raise DataError(
                f"{where}: {finite.size - int(finite.sum())} values are NaN or infinite in "
                f"float32, the first in row {row}. Remove or replace them "
                "(np.nan_to_num), or scale the values down."
            )


def _check_label_array(labels: np.ndarray, images: int, where: str) -> None:
    if labels.shape != (images,):
        raise DataError(
            f"{where}: expected one label for each of the {images} images, shape [{images}], got "
            f"shape {list(labels.shape)}. Use class numbers, not one-hot rows; "
            "labels.ravel() drops an extra axis."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{where}: expected integers, got {labels.dtype}. "
            "Convert with labels.astype(np.int32) if they are class numbers."
        )
