"""Images inside the page, first-layer weights and mistaken images, as PNG in data URLs."""

import base64
import io
import math
from typing import Any

import numpy as np
from matplotlib.image import imsave

from jaxnet.training.network import Network

MAX_UNITS = 64


def first_layer(network: Network) -> dict[str, Any] | None:
    """Return the weights of the first layer as one image of tiles, largest norm first.

    Returns None if they do not have the shape of an image: in a net of convolutions, after PCA, or
    for images with neither 1 nor 3 channels.
    """
    shape = network.input_shape
    if network.net.takes_images:
        return None
    if len(shape) != 3 or shape[-1] not in (1, 3) or network.preprocessing.method == "pca":
        return None
    weights = np.asarray(network.params["affine_1"]["w"], np.float64)
    if not np.isfinite(weights).all():
        return None
    units = weights.shape[1]
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:MAX_UNITS]
    images = weights.T[order].reshape(len(order), *shape)
    low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    images = (images - low) / np.where(high > low, high - low, 1)
    h, w, c = shape
    columns = math.ceil(math.sqrt(len(order) * 1.6))
    grid = np.ones((math.ceil(len(order) / columns) * (h + 2), columns * (w + 2), 4))
    grid[..., 3] = 0  # transparent between the tiles, for any background
    for k, image in enumerate(images):
        top, side = k // columns * (h + 2), k % columns * (w + 2)
        grid[top : top + h, side : side + w, :3] = image if c == 3 else image.repeat(3, axis=-1)
        grid[top : top + h, side : side + w, 3] = 1
    return {"image": _png(grid), "shown": len(order), "units": units}


def tiles(images: np.ndarray) -> list[str | None]:
    """Return each image of bytes [h, w, 1 or 3] as a data URL; None for other shapes."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        return [None] * len(images)
    return [_png(np.repeat(i, 3, axis=-1) if i.shape[-1] == 1 else i) for i in images]


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    imsave(file, pixels, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
