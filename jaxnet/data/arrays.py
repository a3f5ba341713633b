"""Checks that turn a user's arrays into images and labels; an error says what to change."""

import numpy as np
from jaxtyping import Shaped

from jaxnet.errors import DataError

# Labels beyond this are no class numbers at all, but hashes or dates.
MAX_CLASSES = 1 << 16

_CHANNEL_COUNTS = (1, 3, 4)  # grey, colours, colours and opacity
_MIN_SIDE_PIXELS = 5  # a shorter axis is more likely to be the channels


def as_images(images: object, where: str) -> np.ndarray:
    """Return images `[n, *shape]` of any floating type as float32, others as they are.

    Raises DataError, which names `where`, for anything but an array of numbers, and for values
    that are masked or beyond float32. `check_images` checks the rest.
    """
    array = as_array(images, where)
    _check_shape(array, where)
    if array.dtype.kind != "f":
        return array
    check_finite(array, where)  # before the conversion, which would hide the value
    return array.astype(np.float32, copy=False)


def as_array(values: object, where: str) -> np.ndarray:
    """Return an array of numbers; raise DataError for other objects and for masked values."""
    if isinstance(values, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(values)
        if masked.any():
            raise DataError(
                f"{where}: {_count(int(masked.sum()), 'value')} masked, the first "
                f"{_position(masked)}. Fill them with array.filled(value), or leave these rows out."
            )
        values = values.data
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise DataError(
            f"{where}: expected an array, or lists of equal lengths, got {type(values).__name__} "
            f"({error}). Give every row the same shape."
        ) from None
    except TypeError:  # a random key of JAX
        raise DataError(f"{where}: expected numbers, got {type(values).__name__}") from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: expected numbers, got {array.dtype}. Convert with array.astype(np.float32) "
            "if they are numbers; texts need a number each, such as np.unique(texts, "
            "return_inverse=True)[1] gives."
        )
    return array


def check_images(images: np.ndarray, where: str) -> None:
    """Raise DataError unless images are uint8 or finite float32 `[n, *shape]`, and not empty."""
    _check_shape(images, where)
    if images.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"{where}: expected uint8 or float32, got {images.dtype}. Convert with "
            "images.astype(np.uint8) if the values are 0..255, else images.astype(np.float32)."
        )
    check_finite(images, where)


def _check_shape(images: np.ndarray, where: str) -> None:
    if images.ndim < 2 or images.size == 0:
        raise DataError(
            f"{where}: expected [n, height, width, channels] or [n, features] with nothing empty, "
            f"got shape {list(images.shape)}. Reshape so that the first axis counts the images."
        )


def check_finite(images: Shaped[np.ndarray, "n *shape"], where: str) -> None:
    """Raise DataError, which names the first, if values are NaN, infinite or beyond float32."""
    if images.dtype.kind != "f" or images.size == 0:
        return
    most = np.finfo(np.float32).max
    with np.errstate(invalid="ignore"):
        if -most <= images.min() and images.max() <= most:  # both comparisons are false for NaN
            return
    wrong = ~((images >= -most) & (images <= most))
    raise DataError(
        f"{where}: {_count(int(wrong.sum()), 'value')} NaN or infinite in float32, the first "
        f"{_position(wrong)}: {images[wrong][0]}. Remove or replace them (np.nan_to_num), or scale "
        "the values down."
    )


def channels_first(shape: tuple[int, ...]) -> str | None:
    """Return a warning for a shape that looks like channels × height × width, else None."""
    if len(shape) != 3 or shape[0] not in _CHANNEL_COUNTS or min(shape[1:]) < _MIN_SIDE_PIXELS:
        return None
    return (
        f"images {list(shape)} look like {shape[0]} channels of {shape[1]}×{shape[2]} pixels, "
        "expected channels last: np.moveaxis(images, 1, -1)"
    )


def as_labels(labels: object, images: int, where: str) -> np.ndarray:
    """Return one whole number for each of the images; the dtype may be bool, integer or floating.

    The result is not yet int32, because a large value would wrap around into the valid range:
    call `check_labels` before the conversion.
    """
    array = as_array(labels, where)
    check_label_shape(array, images, where)
    if array.dtype.kind == "b":
        return array.astype(np.int32)
    if array.dtype.kind == "f":
        # The comparison is false for NaN. Beyond 2⁵³ float64 cannot tell whole numbers apart.
        wrong = np.flatnonzero(~(np.abs(array) < 2**53) | (array != np.trunc(array)))
        if wrong.size:
            raise DataError(
                f"{where}: the label of row {wrong[0]} is {array[wrong[0]]}{_more(wrong)}, "
                "expected whole numbers from 0. Give each class a number, and leave out rows "
                "without a label."
            )
        return array.astype(np.int64)
    return array


def check_label_shape(labels: np.ndarray, images: int, where: str) -> None:
    """Raise DataError unless there is one label for each image."""
    if labels.shape != (images,):
        raise DataError(
            f"{where}: expected one label for each of the {images} images, shape [{images}], got "
            f"shape {list(labels.shape)}. Use class numbers, not one-hot rows; "
            "labels.ravel() drops an extra axis."
        )


def check_labels(labels: Shaped[np.ndarray, "n"], classes: int, where: str) -> None:
    """Raise DataError, which names `where`, row and value, unless all labels are in 0..classes-1.

    A label out of range is not an error on the device: it gives NaN or, for -1, silently the last
    class. Every constructor of a `DataSet` therefore calls this check.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        row = int(wrong[0])
        lowest = int(labels.min())
        remedy = (
            f"They begin with {lowest}: subtract it (labels - {lowest})"
            if lowest > 0
            else "Renumber the labels from 0"
        )
        raise DataError(
            f"{where}: the label of row {row} is {labels[row]}{_more(wrong)}, expected "
            f"0..{classes - 1}. {remedy}, or give as many class names as there are classes."
        )


def count_classes(train: Shaped[np.ndarray, "n"], test: Shaped[np.ndarray, "m"], name: str) -> int:
    """Return the number of classes, which is the largest label plus 1.

    Raises DataError if labels start at 1 or have gaps, because a class would have no example.
    """
    labels = {*np.unique(train).tolist(), *np.unique(test).tolist()}
    if not labels:
        return 1
    lowest, classes = min(labels), max(labels) + 1
    if lowest < 0 or classes > MAX_CLASSES:  # for `check_labels` to refuse
        return max(1, min(classes, MAX_CLASSES))
    if len(labels) == classes:
        return classes
    if lowest > 0 and len(labels) == classes - lowest:
        remedy = f"Subtract {lowest} (labels - {lowest})"
        what = f"labels run from {lowest} to {classes - 1}, expected 0 to {classes - lowest - 1}"
    else:
        lacking = sorted(set(range(classes)) - labels)
        shown = ", ".join(map(str, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
        remedy = "Renumber them (np.searchsorted(np.unique(labels), labels))"
        what = f"labels run to {classes - 1}, but no example has the label {shown}"
    raise DataError(
        f"{name}: the {what}. {remedy}, or give class_names for all {classes} classes, "
        "including the classes without examples."
    )


def _more(wrong: np.ndarray) -> str:
    return f" ({wrong.size} such rows)" if wrong.size > 1 else ""


def _count(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count:,} {noun}s are"


def _position(wrong: np.ndarray) -> str:
    row, *column = (int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    if not column:
        return f"in row {row}"
    return f"in row {row}, column {column[0] if len(column) == 1 else column}"
