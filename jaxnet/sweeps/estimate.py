"""How long a plan takes on this machine: its products are timed, the rest is added up."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from jaxnet.kernels.products import product
from jaxnet.sweeps.cost import program_flops
from jaxnet.sweeps.fusion import NOMINAL, nominal
from jaxnet.training.numerics import numerics
from jaxnet.training.program import Program

if TYPE_CHECKING:
    from jaxnet.sweeps.plan import Plan
    from jaxnet.sweeps.trial import Trial

# Share of the rate of a large product that a whole training step reaches (measured on the CIFAR-10
# grids, by batch size: `python -m benchmarks sweep_step`).
EFFICIENCY = {0: 0.6, 200: 0.75, 400: 0.8, 500: 0.83}
# The same of convolutions (`python -m benchmarks convolution`).
CONVOLUTION_EFFICIENCY = 0.37


# Products in bfloat16 are so fast that passes over the float32 weights count: on `cifar10-24` a
# step reaches 662 of the product's 1,036 GFLOP/s (`python -m benchmarks sweeps_24`), 0.83 · 0.77.
MIXED_EFFICIENCY = 0.77


@dataclass(frozen=True)
class Machine:
    """What was measured: FLOP/s of large products by precision."""

    float32: float
    float64: float
    mixed: float

    def seconds(self, plan: "Plan") -> float:
        """Return the time of a plan in which nothing diverges or stops early.

        Products at the measured rate, a fixed time per step, evaluations, and compilation.
        """
        _, compiling, _ = nominal(NOMINAL)
        total = plan.programs * compiling
        for group in plan.groups:
            steps = plan.share * (plan.steps - group.begin)
            # The products of a forward pass are about 1/3 of a step's, first layer or not.
            scoring = plan.scored / group.program.structure.batch_size / 3
            chunks = len(group.chunks)
            total += chunks * (steps + scoring) * self.step_seconds(group.program)
        return total

    def step_seconds(self, program: Program) -> float:
        """Return the time of one step of a program."""
        structure, precision = program.structure, program.structure.precision
        share = max(value for least, value in EFFICIENCY.items() if structure.batch_size >= least)
        if structure.is_convolutional:
            share = CONVOLUTION_EFFICIENCY
        rate = {"float64": self.float64, "mixed": self.mixed}.get(precision, self.float32)
        if precision == "mixed":
            share *= MIXED_EFFICIENCY
        _, _, per_step = nominal(NOMINAL)
        return program_flops(program) / (share * rate) + per_step


def describe(plan: "Plan", trial: "Trial | None" = None) -> str:
    """Return a sentence on how long a plan takes on this machine, by a trial if there was one."""
    seconds = measure_machine().seconds(plan) * (1.0 if trial is None else trial.share)
    texts = [(3600, "h"), (60, "min"), (0, "s")]
    unit, name = next((max(size, 1), name) for size, name in texts if seconds >= size)
    time = f"About {seconds / unit:.2g} {name} on this machine"
    if trial is None:
        return f"{time}; less where networks diverge or stop early."
    return (
        f"{time}: in {trial.steps} steps {trial.diverged} of {trial.configurations} diverged, "
        f"which leaves {trial.share:.0%} of the work."
    )


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
