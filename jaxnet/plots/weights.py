"""The weights of the first layer as images."""

import math

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.style import set_title


@checked
def weight_images(
    weights: Float[np.ndarray, "inputs units"],
    image_shape: tuple[int, int, int],
    *,
    columns: int | None = None,
    limit: int = 100,
    title: str = "",
) -> Figure:
    """Draw the incoming weights of each first-layer unit as an image, in one grid.

    Column j of `weights` becomes an image of `image_shape` (height, width, channels), rescaled to
    its own minimum..maximum; grey for one channel, RGB for three. If there are more than `limit`
    units, the ones with the largest norm are shown, largest first. A constant unit is mid-grey; one
    with a NaN or infinity is marked "NaN". Raises ConfigurationError for a shape that does not fit.
    """
    h, w, c = image_shape
    inputs, units = weights.shape
    if c not in (1, 3):
        raise ConfigurationError(
            f"image_shape {image_shape}: expected 1 channel (grey) or 3 (RGB), got {c}"
        )
    if inputs != h * w * c:
        raise ConfigurationError(
            f"weights: expected {h} * {w} * {c} = {h * w * c} inputs for {image_shape=}, "
            f"got {inputs}; pass the weights of the first layer, [inputs, units]"
        )
    if min(units, limit, 1 if columns is None else columns) < 1:
        raise ConfigurationError(
            f"expected at least one unit, limit and column; got {units=}, {limit=}, {columns=}"
        )
    weights = np.asarray(weights, np.float64)
    note = ""
    if units > limit:
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.linalg.norm(weights, axis=0)
        weights = weights[:, np.argsort(-norms, kind="stable")[:limit]]  # NaN sorts last
        note = f"{limit} of {units} units: largest norm first"
    shown = weights.shape[1]
    columns = min(columns or math.ceil(math.sqrt(shown)), shown)
    rows = math.ceil(shown / columns)

    grid = np.ones((rows * (h + 1) - 1, columns * (w + 1) - 1, c))
    width = min(max(0.75 * columns, 3.0), 10.0)
    height = min(width * grid.shape[0] / grid.shape[1], 14.0)
    titles = "\n".join(filter(None, [title, note]))
    room = 0.25 * (titles.count("\n") + 1) if titles else 0
    figure = Figure(figsize=(width, height + room), layout="constrained")
    axes = figure.subplots()
    for unit, image in enumerate(weights.T.reshape(shown, h, w, c)):
        top, side = unit // columns * (h + 1), unit % columns * (w + 1)
        tile = grid[top : top + h, side : side + w]
        if not np.isfinite(image).all():
            axes.text(side + (w - 1) / 2, top + (h - 1) / 2, "NaN", ha="center", va="center")
            continue
        low, high = image.min(), image.max()
        tile[:] = (image - low) / (high - low) if high > low else 0.5
    axes.imshow(grid[..., 0] if c == 1 else grid, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()
    set_title(figure, titles)
    return figure
