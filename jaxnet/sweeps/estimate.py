"""How long a plan takes on this machine: its products are timed, the rest is added up."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxnet.sweeps.fusion import NOMINAL, nominal

if TYPE_CHECKING:
    from jaxnet.sweeps.plan import Group, Plan

# Share of the rate of a large product that a whole training step reaches (measured on the CIFAR-10
# grids, by batch size: `python -m benchmarks sweep_step`).
EFFICIENCY = {0: 0.6, 200: 0.75, 400: 0.8, 500: 0.83}
# The same of convolutions (`python -m benchmarks convolution`).
CONVOLUTION_EFFICIENCY = 0.37


@dataclass(frozen=True)
class Machine:
    """What was measured: FLOP/s of large products by precision."""

    float32: float
    float64: float

    def seconds(self, plan: "Plan") -> float:
        """Return the time of a plan in which nothing diverges or stops early.

        Products at the measured rate, a fixed time per step, evaluations, and compilation.
        """
        _, compiling, _ = nominal(NOMINAL)
        total = plan.programs * compiling
        for group in plan.groups:
            steps = plan.share * (plan.steps - group.begin)
            # The products of a forward pass are about 1/3 of a step's, first layer or not.
            scoring = plan.scored / group.structure.batch_size / 3
            total += len(group.chunks) * (steps + scoring) * self.step_seconds(group)
        return total

    def step_seconds(self, group: "Group") -> float:
        """Return the time of one step of a chunk."""
        batch = group.structure.batch_size
        share = max(value for least, value in EFFICIENCY.items() if batch >= least)
        if group.structure.is_convolutional:
            share = CONVOLUTION_EFFICIENCY
        rate = self.float64 if group.structure.precision == "float64" else self.float32
        _, _, per_step = nominal(NOMINAL)
        return group.size * group.flops_per_step / (share * rate) + per_step


def describe(plan: "Plan") -> str:
    """Return a sentence on how long a plan takes on this machine."""
    seconds = measure_machine().seconds(plan)
    texts = [(3600, "h"), (60, "min"), (0, "s")]
    unit, name = next((max(size, 1), name) for size, name in texts if seconds >= size)
    return (
        f"About {seconds / unit:.2g} {name} on this machine; less where networks diverge or stop "
        f"early."
    )


@lru_cache(maxsize=1)
def measure_machine() -> Machine:
    """Time a product of each precision, some tenths of a second in all; once a process."""
    return Machine(_rate(jnp.float32), _rate(jnp.float64))


def _rate(dtype: DTypeLike) -> float:
    rows, inner, columns = 500, 3072, 1280
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        x, w = jnp.ones((rows, inner), dtype), jnp.ones((inner, columns), dtype)
        multiply = jax.jit(jnp.matmul)
        multiply(x, w).block_until_ready()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            multiply(x, w).block_until_ready()
            times.append(time.perf_counter() - start)
    return 2 * rows * inner * columns / sorted(times)[len(times) // 2]
