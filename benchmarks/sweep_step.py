"""How near the float32 sweep step is to the machine's product rate, on the CIFAR-10 grids.

The ceiling is the faster of NumPy's and XLA's float32 product at the shape of the first layer of
each group, [batch, 3072] · [3072, networks·hidden], taken in the same run. The images are random:
a product takes as long for any values.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleave
from jaxnet.configuration import Configuration
from jaxnet.numerics import numerics
from jaxnet.sweeps import find_preset
from jaxnet.sweeps.cost import memory_budget
from jaxnet.sweeps.plan import make_plan
from jaxnet.training import DeviceData, make_train

FEATURES, CLASSES, EXAMPLES = 3072, 10, 20_000
GRIDS = ("cifar10-24", "cifar10-45", "cifar10-144")


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a group of configurations that train together, for each grid."""
    rows = []
    for grid in GRIDS[:1] if smoke else GRIDS:
        configurations = find_preset(grid).configurations()
        groups = make_plan(
            configurations, (FEATURES,), CLASSES, steps=1000, memory=memory_budget()
        ).groups
        for group in groups[:1] if smoke else groups:
            members = [configurations[i] for i in group.chunks[0].ids]
            flops = group.size * group.flops_per_step
            rows.append({"grid": grid, **_measure_group(members, flops, smoke)})
    return rows


def _measure_group(
    configurations: Sequence[Configuration], flops_per_step: float, smoke: bool
) -> dict[str, Any]:
    structure = configurations[0].structure
    (width,), networks = structure.hidden, len(configurations)
    steps = 2 if smoke else max(2, int(1e11 / flops_per_step))
    product_flops = 2 * structure.batch_size * FEATURES * networks * width
    products = max(1, int(1e11 / product_flops))
    with numerics(structure.precision):
        train = _training(configurations, steps)
        x = np.ones((structure.batch_size, FEATURES), np.float32)
        w = np.ones((FEATURES, networks * width), np.float32)
        out = np.empty((len(x), w.shape[1]), np.float32)
        multiply, device_x, device_w = jax.jit(jnp.matmul), jnp.asarray(x), jnp.asarray(w)
        subjects: dict[str, Callable[[], object]] = {
            "step": train,
            "xla": lambda: [multiply(device_x, device_w) for _ in range(products)],
            "numpy": lambda: [np.matmul(x, w, out=out) for _ in range(products)],
        }
        timings = interleave(subjects, repeats=1 if smoke else 7)
    rate = steps * flops_per_step / timings["step"].median / 1e9
    xla, numpy = (
        products * product_flops / timings[name].median / 1e9 for name in ("xla", "numpy")
    )
    return {
        "networks": networks,
        "hidden": width,
        "batch": structure.batch_size,
        "step_ms": timings["step"].median / steps * 1e3,
        "GFLOP/s": rate,
        "xla product": xla,
        "numpy product": numpy,
        "ratio": rate / max(xla, numpy),
        "compile_s": timings["step"].first - timings["step"].median,
    }


def _training(configurations: Sequence[Configuration], steps: int) -> Callable[[], object]:
    """Return a call that makes `steps` updates of all networks."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, FEATURES), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, EXAMPLES, dtype=np.int32)
    mean = jnp.asarray(images.mean(axis=0, dtype=np.float32))
    data = DeviceData(jnp.asarray(images), jnp.asarray(labels), mean, None)
    program = make_train(configurations[0].structure, (FEATURES,), CLASSES)
    numbers = {
        name: jnp.asarray([c.numbers[name] for c in configurations], jnp.float32)
        for name in configurations[0].numbers
    }
    seed, state = jnp.uint32(0), [program.init(numbers, jnp.uint32(0))]

    def call() -> object:
        state[0], metrics = program.advance(
            state[0], numbers, seed, data, jnp.int32(EXAMPLES), jnp.int32(steps), jnp.int32(1000)
        )
        return metrics

    return call
