"""What this machine reaches now: its large matrix products, timed."""

import time
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp

from jaxnet.kernels.products import product
from jaxnet.training.numerics import numerics


@dataclass(frozen=True)
class Machine:
    """FLOP/s of large products by precision."""

    float32: float
    float64: float
    mixed: float


@lru_cache(maxsize=1)
def measure_machine() -> Machine:
    """Time a product of each precision, some tenths of a second in all; once a process."""
    return Machine(_rate("float32"), _rate("float64"), _rate("mixed"))


def _rate(precision: str) -> float:
    rows, inner, columns = 500, 3072, 1280
    with numerics(precision):
        dtype = jnp.float64 if precision == "float64" else jnp.float32
        x, w = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
        multiply = jax.jit(product)
        multiply(x, w).block_until_ready()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            multiply(x, w).block_until_ready()
            times.append(time.perf_counter() - start)
    return 2 * rows * inner * columns / sorted(times)[len(times) // 2]
