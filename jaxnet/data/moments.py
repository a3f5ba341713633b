"""Mean, covariance and principal axes of images, summed in float64 over chunks of rows."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from jaxnet.errors import DataError

CHUNK_BYTES = 1 << 26  # for one temporary array; at most three live at a time


def chunks(x: Shaped[np.ndarray, "n features"], dtype: type[np.floating]) -> Iterator[slice]:
    """Yield slices of rows, each of at most CHUNK_BYTES once converted to `dtype`."""
    rows = max(1, CHUNK_BYTES // (max(1, x.shape[1]) * np.dtype(dtype).itemsize))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows)


def mean_of(x: Shaped[np.ndarray, "n features"]) -> Float64[np.ndarray, "features"]:
    """Return the mean of each feature."""
    total = np.zeros(x.shape[1])
    for rows in chunks(x, np.float64):
        total += x[rows].sum(axis=0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise DataError(
            "images: expected finite numbers, got NaN or infinity. Remove or replace them "
            "(np.nan_to_num)."
        )
    return total / len(x)


def principal_axes(
    x: Shaped[np.ndarray, "n features"], mean: Float64[np.ndarray, "features"]
) -> tuple[Float64[np.ndarray, "axes"], Float64[np.ndarray, "features axes"]]:
    """Return the variances along the principal axes, in falling order, and the axes.

    They are the eigenvalues, none below 0, and the eigenvectors of the covariance (division by n).
    If there are at most half as many rows as features, they come from the singular value
    decomposition of the rows, which is faster; it gives one axis a row, and the variance along all
    others is 0. The largest entry of each axis is positive, so that signs do not depend on LAPACK.
    """
    if by_rows(*x.shape):
        centred = x.astype(np.float64)
        centred -= mean
        _, singular, rows = np.linalg.svd(centred, full_matrices=False)
        variances, axes = singular**2 / len(x), rows.T
    else:
        covariance = np.zeros((x.shape[1], x.shape[1]))
        for chunk in chunks(x, np.float64):
            centred = x[chunk] - mean
            covariance += centred.T @ centred
        variances, axes = np.linalg.eigh(covariance / len(x))
        variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    largest = np.abs(axes).argmax(axis=0)
    return variances, axes * np.sign(axes[largest, np.arange(len(largest))])


def whitening(
    variances: Float64[np.ndarray, "axes"],
    axes: Float64[np.ndarray, "features axes"],
    regularization: float | int,
) -> Float[np.ndarray, "features features"]:
    """Return V (Λ + ε · mean(Λ))^(−1/2) Vᵀ, where V has an axis for each feature.

    `axes` may hold fewer, from few rows. The others are not needed: the variance along each of
    them is 0, so all have the same gain g, and V Vᵀ = 1 turns their sum into g (1 − axes axesᵀ).
    """
    features = len(axes)
    least = regularization * (variances.sum() / features)
    gains = (variances + least) ** -0.5
    if len(variances) == features:
        return (axes * gains) @ axes.T
    elsewhere = least**-0.5
    whole: Float32[np.ndarray, "features features"] = np.empty((features, features), np.float32)
    for rows in chunks(whole, np.float64):
        block = (axes[rows] * (gains - elsewhere)) @ axes.T
        block[np.arange(len(block)), np.arange(features)[rows]] += elsewhere
        whole[rows] = block
    return whole


def by_rows(rows: int, features: int) -> bool:
    """Whether to decompose the rows instead of the covariance, which is faster for few rows."""
    return 2 * rows <= features


def decomposition_bytes(rows: int, features: int) -> int:
    """Return about how many bytes `principal_axes` takes; half of them are LAPACK's work space."""
    side = rows if by_rows(rows, features) else features
    return 4 * 8 * side * features
