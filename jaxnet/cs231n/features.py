"""Hand-made features of an image: gradient orientations and hues."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Real, ScalarLike

from jaxnet.errors import ConfigurationError

ORIENTATIONS = 9
CELL_PIXELS = 8


def extract_features(
    imgs: Real[np.ndarray, "n *image"],
    feature_fns: Sequence[Callable[[np.ndarray], np.ndarray]],
    verbose: bool = False,
) -> Float[np.ndarray, "n features"] | Float[np.ndarray, "0"]:
    """Return [n, F₁ + … + F_k], the features of each image side by side; an empty array for n = 0.

    Each function takes an image without axes of length 1 and returns [F_i]. Raises
    ConfigurationError if F_i differs between images. `verbose` prints a line every 1,000 images.
    """
    if len(imgs) == 0:
        return np.array([])
    first = [np.asarray(function(imgs[0].squeeze())) for function in feature_fns]
    for i, features in enumerate(first):
        if features.ndim != 1:
            raise ConfigurationError(
                f"expected features [F] of an image from each of feature_fns, got shape "
                f"{features.shape} from number {i}: return its ravel()"
            )
    result = np.zeros((len(imgs), sum(map(len, first))))
    result[0] = np.concatenate(first)
    for i in range(1, len(imgs)):
        image = imgs[i].squeeze()
        features = [np.asarray(function(image)) for function in feature_fns]
        if any(a.shape != b.shape for a, b in zip(features, first, strict=True)):
            raise ConfigurationError(
                f"image {i} has features of shapes {[a.shape for a in features]}, image 0 of "
                f"{[a.shape for a in first]}: return as many for every image"
            )
        result[i] = np.concatenate(features)
        if verbose and i % 1000 == 999:
            print(f"Done extracting features for {i + 1} / {len(imgs)} images")
    return result


def rgb2gray(rgb: Real[np.ndarray, "... channels"]) -> Float[np.ndarray, "..."]:
    """0.299·red + 0.587·green + 0.144·blue.

    These are the course's weights, which give its results, although they add up to 1.03. The
    standard (ITU-R BT.601) has 0.114 for blue.
    """
    # np.dot and @ differ in the last bit, which decides the direction of near-equal neighbours.
    return np.dot(rgb[..., :3], [0.299, 0.587, 0.144])


def hog_feature(
    im: Real[np.ndarray, "height width channels"] | Real[np.ndarray, "height width"],
) -> Float[np.ndarray, " features"]:
    """Return the histogram of oriented gradients: 9 for each cell of 8×8 pixels, 144 for 32×32.

    A pixel adds its gradient's length/64 to the bin of 20° that has its direction, arctan(gy/gx)
    + 90°; other directions than 0° to 180° do not count, nor do pixels beyond the last whole cell.
    The order is by column of cells, then row, then bin. Source: Dalal and Triggs 2005, here
    without their overlapping blocks.
    """
    image = rgb2gray(im) if im.ndim == 3 else np.asarray(im, np.float64)
    cells = _cells(*image.shape)
    gx, gy = np.zeros(image.shape), np.zeros(image.shape)
    gx[:, :-1] = image[:, 1:] - image[:, :-1]
    gy[:-1] = image[1:] - image[:-1]
    direction = np.arctan2(gy, gx + 1e-15) * (180 / np.pi) + 90
    counted = (direction > 0) & (direction < 180) & (cells >= 0)
    # Compared with the edges, because a quotient could round up into the next bin.
    bins = np.searchsorted(_EDGES, direction[counted], side="right") - 1
    return np.bincount(
        cells[counted] * ORIENTATIONS + bins,
        weights=np.sqrt(gx**2 + gy**2)[counted] / CELL_PIXELS**2,
        minlength=(cells.max() + 1) * ORIENTATIONS,
    )


_EDGES = np.arange(ORIENTATIONS) * (180 / ORIENTATIONS)


@functools.cache
def _cells(height: int, width: int) -> Int[np.ndarray, "height width"]:
    """Return the number of each pixel's cell, counted down the columns; −1 outside whole cells."""
    rows, columns = height // CELL_PIXELS, width // CELL_PIXELS
    if not rows or not columns:
        raise ConfigurationError(
            f"hog_feature expects images of at least {CELL_PIXELS}×{CELL_PIXELS} pixels, "
            f"got {height}×{width}"
        )
    row = np.arange(height)[:, None] // CELL_PIXELS
    column = np.arange(width)[None, :] // CELL_PIXELS
    return np.where((row < rows) & (column < columns), column * rows + row, -1)


def color_histogram_hsv(
    im: Real[np.ndarray, "height width 3"],
    nbin: int = 10,
    xmin: ScalarLike = 0,
    xmax: ScalarLike = 255,
    normalized: bool = True,
) -> Float[np.ndarray, " nbin"]:
    """Return the histogram of the hue of an RGB image with pixels from 0 to xmax, in nbin bins.

    Hues run from 0 to xmax. The result has the shares of the bins, which add up to 1, or with
    normalized=False the counts times the width of a bin, as in the course. Raises
    ConfigurationError for pixels out of range, such as after a mean image was subtracted.
    """
    from matplotlib.colors import (
        rgb_to_hsv,  # here, because its import takes longer than all others
    )

    try:
        hue = rgb_to_hsv(im / xmax)[:, :, 0] * xmax
    except ValueError as error:
        raise ConfigurationError(
            f"expected an image [height, width, 3] with pixels from 0 to {xmax}, got {im.shape} "
            f"from {im.min():g} to {im.max():g}: take features before subtracting a mean"
        ) from error
    edges = np.linspace(xmin, xmax, nbin + 1)
    histogram, _ = np.histogram(hue, bins=edges, density=normalized)
    return histogram * np.diff(edges)
