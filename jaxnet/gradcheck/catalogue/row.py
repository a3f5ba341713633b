"""A row of the catalogue, and the random arguments that rows draw."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet.gradcheck.report import GradientReport
from jaxnet.layers.layer import Layer, Shape

DTYPES = ("float64", "float32")


class Row(NamedTuple):
    """One thing to prove: its kind, name and options, and check(seed) -> GradientReport."""

    kind: str  # layer, loss, composition, network or update rule
    name: str
    options: str
    check: Callable[[int], GradientReport]


def draw(rng: np.random.Generator, shape: Shape, dtype: str) -> np.ndarray:
    """Return standard normal numbers."""
    return rng.normal(size=shape).astype(dtype)


def constant(rng: np.random.Generator, what: Any, dtype: str) -> Any:
    """Return positive numbers for a shape, a float in the dtype, and anything else unchanged."""
    if isinstance(what, tuple):
        return rng.uniform(0.5, 2, what).astype(dtype)
    return np.asarray(what, dtype) if isinstance(what, float) else what


def trees(layer: Layer, shape: Shape, rng: np.random.Generator, dtype: str) -> tuple[Any, Any]:
    """Return parameters and state as after some training: nothing is exactly 0 or 1."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda key: layer.init(key, shape)[:2], key)

    def fill(path, leaf):
        name = path[-1].key
        if name == "running_variance":
            return rng.uniform(0.5, 2, leaf.shape).astype(dtype)
        deviation = np.sqrt(2 / leaf.shape[0]) if name == "w" else 0.3
        mean = 1.0 if name == "scale" else 0.0
        return (mean + deviation * rng.normal(size=leaf.shape)).astype(dtype)

    return jax.tree.map_with_path(fill, shapes)


def size_text(shape: Shape) -> str:
    """Return a shape as text, such as 3×4."""
    return "×".join(map(str, shape))
