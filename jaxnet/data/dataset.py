"""A data set in memory: images, labels, and the split into training, validation and test."""

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxnet.arguments.checks import LARGEST, shown, whole
from jaxnet.data.arrays import (
    as_array,
    as_images,
    as_labels,
    channels_first,
    check_images,
    check_label_shape,
    check_labels,
    count_classes,
)
from jaxnet.data.scale import Scale
from jaxnet.data.splits import Examples, Rows, Splits, check_split, split_rows
from jaxnet.errors import ConfigurationError, DataError, DataWarning


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet:
    """Training and test images with their labels, checked once and read-only from then on.

    Images are uint8 or float32 `[n, *shape]`, channel-last where they have channels: 28×28×1 for
    Fashion-MNIST, 32×32×3 for CIFAR-10. Labels are int32 `[n]` in 0..C-1, where C is the number of
    class names. `source` says where the data came from. Anything else raises DataError.
    `default_split` is the kind that `split` uses by default: "stratified", or "tail" for published
    data sets whose rows are in random order, so that results compare with others' splits.

    The fields are read-only views of the given arrays (no copy is made), because the fingerprint
    is computed once.
    """

    name: str
    # The annotations are plain arrays, because `__post_init__` checks shape and dtype: its errors
    # name a remedy, and a type checker in front of it would hide them.
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str
    default_split: str = "stratified"

    def __post_init__(self) -> None:
        for field in ("name", "source"):
            if not isinstance(getattr(self, field), str):
                raise DataError(f"{field}: expected a text, got {shown(getattr(self, field))}")
        object.__setattr__(self, "class_names", _as_names(self.class_names))
        for field in ("train_images", "train_labels", "test_images", "test_labels"):
            if not isinstance(getattr(self, field), np.ndarray):
                raise DataError(
                    f"{field}: expected a NumPy array, got {shown(getattr(self, field))}. "
                    "Use DataSet.from_arrays, which converts."
                )
        for part in ("train", "test"):
            where = f"{self.name} ({self.source}), {part}"
            images = as_array(getattr(self, f"{part}_images"), f"{where} images")
            labels = as_array(getattr(self, f"{part}_labels"), f"{where} labels")
            check_images(images, f"{where} images")
            check_label_shape(labels, len(images), f"{where} labels")
            if labels.dtype != np.int32:
                raise DataError(
                    f"{where} labels: expected int32, got {labels.dtype}. "
                    "Use DataSet.from_arrays, which converts, or labels.astype(np.int32)."
                )
            check_labels(labels, len(self.class_names), f"{where} labels")
            for field, array in ((f"{part}_images", images), (f"{part}_labels", labels)):
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, field, view)
        train, test = self.train_images, self.test_images
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            raise DataError(
                f"{self.name} ({self.source}): training images are {train.dtype} "
                f"{list(train.shape[1:])} {Scale.of(train)}, but test images are {test.dtype} "
                f"{list(test.shape[1:])} {Scale.of(test)}. Give both the same shape, scale and "
                "dtype."
            )
        check_split(self.default_split, 0)

    @classmethod
    def from_arrays(
        cls,
        images: ArrayLike,
        labels: ArrayLike,
        test_images: ArrayLike,
        test_labels: ArrayLike,
        class_names: tuple[str, ...] | list[str] | None = None,
        name: str = "arrays",
    ) -> "DataSet":
        """Make a data set of your own arrays.

        Images `[n, *shape]` are uint8, or of any floating type, which becomes float32; NaN,
        infinity and masked values are refused. Labels are whole numbers `[n]`, of any dtype;
        without `class_names` the classes are named "0", "1", ... up to the largest label, and each
        must have an example. Raises DataError for anything else. Warns with DataWarning if test
        images have another scale than training images, and if the channels come first.

        >>> x, y = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1])
        >>> DataSet.from_arrays(x, y, x[:2], y[:2]).class_names
        ('0', '1', '2')
        """
        if not isinstance(name, str):
            raise DataError(f"name: expected a text, got {shown(name)}")
        x, x_test = (
            as_images(a, f"{name}, {part} images")
            for part, a in (("train", images), ("test", test_images))
        )
        y, y_test = (
            as_labels(a, len(x_part), f"{name}, {part} labels")
            for part, a, x_part in (("train", labels, x), ("test", test_labels, x_test))
        )
        if class_names is None:
            class_names = [str(c) for c in range(count_classes(y, y_test, name))]
        class_names = _as_names(class_names)
        # Before the cast to int32, which would wrap a large value around into the range.
        check_labels(y, len(class_names), f"{name}, train labels")
        check_labels(y_test, len(class_names), f"{name}, test labels")
        data = cls(
            name=name,
            train_images=x,
            train_labels=y.astype(np.int32),
            test_images=x_test,
            test_labels=y_test.astype(np.int32),
            class_names=class_names,
            source="arrays",
        )
        data._warn_of_unlikely_images()
        return data

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image, such as (32, 32, 3)."""
        return self.train_images.shape[1:]

    @property
    def nbytes(self) -> int:
        """The bytes of the four arrays."""
        return sum(array.nbytes for array in self._arrays)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256, in hex, of shape, dtype and content of the four arrays, not of files."""
        digest = hashlib.sha256()  # 0.1 s for CIFAR-10's 184 MB; blake2b takes twice as long
        for array in self._arrays:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def split(
        self, validation: int, train: int | None = None, *, kind: str | None = None, seed: int = 0
    ) -> Splits:
        """Hold out `validation` training rows, and train on `train` others (default: all).

        `kind` (default: `default_split`) says which rows:

        stratified  draws within each class by `seed`, so that every part has the classes in the
                    same shares, however the rows are ordered
        tail        validates on the rows after the training rows, which is the course's
                    convention: with CIFAR-10, `split(1000)` trains on rows 0..48999 and validates
                    on 49000..49999, and `split(1000, train=500)` validates on rows 500..1499; the
                    parts are views, no copies

        Raises ConfigurationError if there are too few rows.
        """
        trained, held_out = self.split_rows(validation, train, kind=kind, seed=seed)
        return Splits(
            Examples(self.train_images[trained], self.train_labels[trained]),
            Examples(self.train_images[held_out], self.train_labels[held_out]),
            Examples(self.test_images, self.test_labels),
        )

    def split_rows(
        self, validation: int, train: int | None = None, *, kind: str | None = None, seed: int = 0
    ) -> tuple[Rows, Rows]:
        """Return the rows that `split` trains on, and the rows that it validates on."""
        kind = self.default_split if kind is None else kind
        check_split(kind, seed)
        train, validation = self.split_sizes(validation, train)
        return split_rows(self.train_labels, validation, train, kind, seed)

    def split_sizes(self, validation: int, train: int | None = None) -> tuple[int, int]:
        """Return the numbers of rows that `split` trains and validates on."""
        rows = len(self.train_labels)
        validation = whole("validation", validation, -LARGEST)
        train = rows - validation if train is None else whole("train", train, -LARGEST)
        if validation < 0 or train < 1 or train + validation > rows:
            raise ConfigurationError(
                f"cannot split {self.name} into {train} training and {validation} validation "
                f"rows: it has {rows} training rows. Ask for validation ≥ 0 and train ≥ 1 with "
                f"train + validation ≤ {rows}."
            )
        return train, validation

    def is_sorted(self) -> bool:
        """Whether the training labels change from row to row at most half as often as by chance.

        They do if rows are sorted by class, or come in long runs of one class.
        """
        labels = self.train_labels
        shares = np.bincount(labels) / len(labels)
        by_chance = (len(labels) - 1) * (1 - float(shares @ shares))
        return bool(np.count_nonzero(labels[1:] != labels[:-1]) < by_chance / 2)

    def _warn_of_unlikely_images(self) -> None:
        train, test = Scale.of(self.train_images), Scale.of(self.test_images)
        if train.is_unlike(test):
            warnings.warn(
                f"{self.name}: training images range {train}, test images {test}: give both in "
                "the same scale",
                DataWarning,
                stacklevel=3,
            )
        if (sentence := channels_first(self.input_shape)) is not None:
            warnings.warn(f"{self.name}: {sentence}", DataWarning, stacklevel=3)

    @property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.train_images, self.train_labels, self.test_images, self.test_labels


def _as_names(names: Any) -> tuple[str, ...]:
    """Return the names of the classes; raise DataError unless they are a list or tuple of texts."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"class_names: expected a list of texts, such as ['cat', 'dog'], got {shown(names)}"
        )
    return tuple(names)
