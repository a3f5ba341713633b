"""The k-nearest-neighbour classifier with Euclidean distances."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnet.cs231n.arrays import compiled, floats
from jaxnet.cs231n.layers import labels
from jaxnet.errors import ConfigurationError

Distances = Float[np.ndarray, "tests trainings"]
_BLOCK_BYTES = 1 << 27  # rows on the device at once, tests and training rows each


@compiled
def _by_product(x, train):
    squares = jnp.square(x).sum(axis=1)[:, None] + jnp.square(train).sum(axis=1)[None, :]
    return jnp.sqrt(jnp.maximum(squares - 2 * (x @ train.T), 0))  # rounding can go below 0


@compiled
def _by_differences(x, train):
    return jax.lax.map(lambda row: jnp.sqrt(jnp.square(train - row[None, :]).sum(axis=1)), x)


class KNearestNeighbor:
    """Predicts the most common label of the k nearest training rows; ties go to the smaller."""

    X_train: np.ndarray
    y_train: np.ndarray

    def train(self, X: Any, y: Any) -> None:
        """Store rows X [N, D] and their labels, integers from 0 up."""
        X = np.asarray(X)
        if X.ndim != 2 or not len(X):
            raise ConfigurationError(
                f"expected rows X [N, D], N > 0, got {X.shape}: make rows of images by "
                f"X.reshape(len(X), -1)"
            )
        self.X_train, self.y_train = X, labels(y, len(X), int(np.max(y, initial=0)) + 1)

    def predict(self, X: Any, k: int = 1, num_loops: int = 0) -> Float[np.ndarray, " tests"]:
        """Return the label of each row of X; `num_loops` chooses the function for distances."""
        distances = {
            0: self.compute_distances_no_loops,
            1: self.compute_distances_one_loop,
            2: self.compute_distances_two_loops,
        }
        if num_loops not in distances:
            raise ConfigurationError(f"expected num_loops of 0, 1 or 2, got {num_loops}")
        return self.predict_labels(distances[num_loops](X), k=k)

    def compute_distances_no_loops(self, X: Any) -> Distances:
        """d_ij = √(‖x_i‖² + ‖t_j‖² − 2·x_i·t_j) for rows x of X and training rows t.

        This is the fast way, by a matrix product, but the squares nearly cancel for close rows: in
        float64, distances of images with pixels from 0 to 255 have errors up to 1e-4 near 0, and
        1e-11 otherwise. Large inputs are computed in blocks.
        """
        return self._blocks(_by_product, X)

    def compute_distances_one_loop(self, X: Any) -> Distances:
        """d_ij = √Σ_d (x_id − t_jd)², exactly 0 for equal rows; one compiled loop over X."""
        return self._blocks(_by_differences, X)

    def compute_distances_two_loops(self, X: Any) -> Distances:
        """Return `compute_distances_one_loop(X)`; a second loop would only be slower."""
        return self._blocks(_by_differences, X)

    def _blocks(self, distances: Callable, X: Any) -> Distances:
        train = self._trained().X_train
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != train.shape[1]:
            raise ConfigurationError(
                f"expected rows X [N, {train.shape[1]}] as in training, got {X.shape}: make rows "
                f"of images by X.reshape(len(X), -1)"
            )
        dtype = floats(X=X[:1], X_train=train[:1])[0].dtype
        size = max(1, _BLOCK_BYTES // max(1, train.shape[1] * dtype.itemsize))
        result = np.zeros((len(X), len(train)), dtype)
        for i in range(0, len(X), size):
            x = X[i : i + size].astype(dtype, copy=False)
            for j in range(0, len(train), size):
                block = train[j : j + size].astype(dtype, copy=False)
                result[i : i + size, j : j + size] = distances(x, block)
        return result

    def predict_labels(self, dists: Any, k: int = 1) -> Float[np.ndarray, " tests"]:
        """Return a label for each row of distances [tests, trainings], as floats like the course.

        The k smallest distances vote. Equal distances count in the order of the training rows, and
        equal numbers of votes go to the smaller label.
        """
        y, dists = self._trained().y_train, np.asarray(dists)
        if dists.ndim != 2 or dists.shape[1] != len(y) or np.isnan(dists).any():
            raise ConfigurationError(
                f"expected distances [tests, {len(y)}] without NaN, one column for each "
                f"training row, got {dists.shape}"
            )
        if not 1 <= k <= len(y):
            raise ConfigurationError(f"expected k from 1 to {len(y)} training rows, got {k}")
        result = np.zeros(len(dists))
        for i, row in enumerate(dists):
            near = np.flatnonzero(
                row <= np.partition(row, k - 1)[k - 1]
            )  # k rows, or more with ties
            nearest = near[np.argsort(row[near], kind="stable")[:k]]
            result[i] = np.bincount(y[nearest]).argmax()
        return result

    def _trained(self) -> "KNearestNeighbor":
        if not hasattr(self, "X_train"):
            raise ConfigurationError("there is no training data yet: call train(X, y) first")
        return self
