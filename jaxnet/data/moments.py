"""Mean and covariance of images, summed in float64 over chunks, and the axes of the covariance."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32, Float64, Shaped

from jaxnet.errors import DataError

CHUNK_BYTES = 1 << 26  # of one temporary; at most three live at a time


def chunks(x: Shaped[np.ndarray, "n features"], dtype: type[np.floating]) -> Iterator[slice]:
    """Yield slices of rows that take at most CHUNK_BYTES in a type."""
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
    """Return the variances along the principal axes, largest first and none negative, and the axes.

    The eigenvalues and eigenvectors of the covariance (division by n), all of them; of rows that
    are at most half as many as features, those of the rows' singular value decomposition: as many
    as there are rows, the other variances are 0. The largest entry of each axis is positive.
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
    """Return V (Λ + ε · mean(Λ))^(−1/2) Vᵀ, whose V has an axis for each feature.

    Of fewer axes, as those of few rows are, the others need not be known: along all of them the
    variance is 0, and V Vᵀ = 1.
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
    """Whether the rows are decomposed, not the covariance: from where on that is faster."""
    return 2 * rows <= features


def decomposition_bytes(rows: int, features: int) -> int:
    """Return about what `principal_axes` takes: LAPACK has as much again to work in."""
    side = rows if by_rows(rows, features) else features
    return 4 * 8 * side * features
