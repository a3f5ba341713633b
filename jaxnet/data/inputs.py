"""Images handed to a trained network: of the shape and scale of those it was trained on, or not."""

import math
import warnings

import numpy as np

from jaxnet.data.arrays import as_array, check_finite
from jaxnet.data.scale import Scale
from jaxnet.errors import ConfigurationError, DataError, DataWarning


def as_inputs(images: object, input_shape: tuple[int, ...], trained_on: Scale) -> np.ndarray:
    """Return images `[n, *input_shape]` of finite numbers, n from 0 up.

    ConfigurationError for another shape, DataError for what are no such numbers, DataWarning for
    another scale than that of the images trained on.
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
            "times what white was in training"
        )
    check_finite(array, "images")
    if len(array) and (scale := Scale.of(array)).is_unlike(trained_on):
        warnings.warn(
            f"images range {scale}, those that the network was trained on {trained_on}: give them "
            "in the same scale",
            DataWarning,
            stacklevel=5,
        )
    return array


def _remedy(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return what makes images of the expected shape of those given."""
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
