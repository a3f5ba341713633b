"""JAX's numerics for one precision, whatever the program around has set."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.configuration import Structure
from jaxnet.layers.products import MIXED


@contextlib.contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Set JAX's global numerics for one precision of `Structure`, whatever they were.

    float32 asks for float32 products by name: GPUs of recent years otherwise use TF32.
    """
    products = {"tf32": "tensorfloat32", "mixed": MIXED}
    with (
        jax.enable_x64(precision == "float64"),
        jax.default_matmul_precision(products.get(precision, "highest")),
    ):
        yield


def parameter_dtype(structure: Structure) -> Any:
    """Return the dtype of weights, sums and losses."""
    return jnp.float64 if structure.precision == "float64" else jnp.float32
