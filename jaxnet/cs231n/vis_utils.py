"""The course's grids, which show several images in one picture."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, ScalarLike

from jaxnet.errors import ConfigurationError


def visualize_grid(
    Xs: np.ndarray, ubound: ScalarLike = 255.0, padding: int = 1
) -> Float[np.ndarray, "rows columns channels"]:
    """Return a square grid of images, each stretched to [0, ubound] by its own extremes.

    Xs is [n, height, width, channels]. Images fill the grid by rows, with `padding` black pixels
    between them and black cells at the end. An image of one value is black, where the course
    divides 0 by 0. Pass first-layer weights W1 as
    W1.reshape(32, 32, 3, -1).transpose(3, 0, 1, 2), and the result to plt.imshow as bytes,
    .astype("uint8").
    """
    _check_images(Xs)
    count, height, width, channels = Xs.shape
    side = math.ceil(math.sqrt(count))
    grid = np.zeros(
        (side * (height + padding) - padding, side * (width + padding) - padding, channels)
    )
    for i, image in enumerate(Xs):
        grid[_cell(i, side, height, width, padding)] = ubound * _stretch(image)
    return grid


def vis_grid(Xs: np.ndarray) -> Float[np.ndarray, "rows columns channels"]:
    """Return a square grid of images, stretched together to [0, 1].

    Xs is [n, height, width, channels]. Gaps of one pixel, also after the last row and column,
    have the smallest value.
    """
    _check_images(Xs)
    count, height, width, channels = Xs.shape
    side = math.ceil(math.sqrt(count))
    grid = np.full((side * (height + 1), side * (width + 1), channels), Xs.min(), Xs.dtype)
    for i, image in enumerate(Xs):
        grid[_cell(i, side, height, width, 1)] = image
    return _stretch(grid)


def vis_nn(rows: Sequence[Sequence[np.ndarray]]) -> Float[np.ndarray, "rows columns channels"]:
    """Return rows of images (such as a query and its neighbours) as one picture in [0, 1].

    Every row must have as many images as the first. The gaps of one pixel are 1 before the picture
    is stretched to [0, 1], which is nearly black among pixels from 0 to 255.
    """
    first = np.asarray(rows[0][0])
    _check_images(first[None])
    columns, (height, width, channels) = len(rows[0]), first.shape
    grid = np.ones((len(rows) * (height + 1), columns * (width + 1), channels), first.dtype)
    for i, row in enumerate(rows):
        if len(row) != columns:
            raise ConfigurationError(
                f"expected {columns} images in each row, as in the first, got {len(row)} in row {i}"
            )
        for j, image in enumerate(row):
            grid[_cell(i * columns + j, columns, height, width, 1)] = image
    return _stretch(grid)


def _cell(i: int, columns: int, height: int, width: int, padding: int) -> tuple[slice, slice]:
    y, x = (i // columns) * (height + padding), (i % columns) * (width + padding)
    return slice(y, y + height), slice(x, x + width)


def _stretch(image: np.ndarray) -> np.ndarray:
    """Return an image stretched to [0, 1]; a constant one becomes 0, one with NaN becomes NaN."""
    if image.dtype.kind != "f":
        image = image.astype(np.float64)  # the range of int8 pixels does not fit int8
    low, high = image.min(), image.max()
    return np.zeros_like(image) if low == high else (image - low) / (high - low)


def _check_images(images: np.ndarray) -> None:
    if images.ndim != 4 or 0 in images.shape:
        raise ConfigurationError(
            f"expected images [n, height, width, channels], got {images.shape}: reshape flat "
            f"pixels, transpose(0, 2, 3, 1) channels that come first, add an axis to grey images"
        )
