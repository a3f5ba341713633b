"""Check images for a trained network: their shape and scale should be as in training."""

import math
import warnings

import numpy as np

from jaxnet.data.arrays import as_array, check_finite
from jaxnet.data.scale import Scale
from jaxnet.errors import ConfigurationError, DataError, DataWarning


def as_inputs(images: object, input_shape: tuple[int, ...], trained_on: Scale) -> np.ndarray:
    """Return images `[n, *input_shape]` of finite numbers; n may be 0.

    Raises ConfigurationError for another shape, and DataError for booleans, NaN, infinity and
    anything but numbers. Warns with DataWarning if the scale differs from the training images'.
    """
    array = as_array(images, "images")
    if array.ndim < 2 or array.shape[1:] != input_shape:
        shape = ", ".join(map(str, input_shape))
        raise ConfigurationError(
            f"expected images of shape [n, {shape}], got {list(array.shape)}: "
            f"{_remedy(array.shape, input_shape)}"
        )
    if array.dtype.kind == "b":
        raise DataError(
            f"expected images of numbers, got {array.dtype}: convert with images.astype(np.uint8), "
            "times the value of white in training"
        )
    check_finite(array, "images")
    if len(array) and (scale := Scale.of(array)).is_unlike(trained_on):
        warnings.warn(
            f"images range {scale}, but the network was trained on images {trained_on}: give "
            "images in the same scale",
            DataWarning,
            stacklevel=5,
        )
    return array


def _remedy(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the edit that gives images the expected shape."""
    image = got[1:]
    if got == expected:
        return "for one image give image[None]"
    if len(image) == 3 and (*image[1:], image[0]) == expected:
        return "put the channels last, np.moveaxis(images, 1, -1)"
    if len(image) == 3 and (image[2], image[1], image[0]) == expected:
        return "put the channels last, np.transpose(images, (0, 3, 2, 1))"
    # A reshape of other axes would mix the pixels.
    flat = 1 in (len(image), len(expected)) or _longer(image) == _longer(expected)
    if flat and math.prod(image) == math.prod(expected):
        return f"reshape them, images.reshape(-1, {', '.join(map(str, expected))})"
    return "use the network that was trained on such images"


def _longer(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length != 1]
