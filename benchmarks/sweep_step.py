"""How near the sweep step is to the machine's product rate, group by group of the CIFAR-10 grids.

The ceiling is the fastest product at the shape of the first layer of each group, [batch, 3072] ·
[3072, networks·hidden], in the same run: of float32 in NumPy, XLA or PyTorch for the float32 step,
of bfloat16 in XLA or PyTorch for the mixed one.
"""

from collections.abc import Callable
from typing import Any

from benchmarks.peers.ours import Ours
from benchmarks.products import dtype_of, products
from benchmarks.tasks import Images, make_task, picture_like
from benchmarks.timing import interleave
from jaxnet.sweeps import find_preset
from jaxnet.sweeps.machine.cost import memory_budget, program_flops
from jaxnet.sweeps.planning.plan import Capacity, Group, make_plan

FEATURES, CLASSES, EXAMPLES = 3072, 10, 20_000
GRIDS = ("cifar10-24", "cifar10-45", "cifar10-144")
WORK = 3e10  # operations a timed call


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a group of configurations that train together, for each grid."""
    images = picture_like(FEATURES, CLASSES, 1000 if smoke else EXAMPLES)
    rows = []
    for grid in GRIDS[:1] if smoke else GRIDS:
        job = find_preset(grid)
        configurations = job.configurations()
        groups = make_plan(
            configurations,
            images.shapes,
            steps=job.steps,
            capacity=Capacity(memory_budget()),
        ).groups
        for group in groups[:1] if smoke else groups:
            rows.append({"grid": grid, **_measure_group(group, configurations, images, smoke)})
    return rows


def _measure_group(
    group: Group, configurations: list[Any], images: Images, smoke: bool
) -> dict[str, Any]:
    members = [configurations[i] for i in group.chunks[0].ids]
    structure, networks = group.program.structure, group.program.layout.size
    (width,), batch, flops = structure.hidden, structure.batch_size, program_flops(group.program)
    steps = 2 if smoke else max(2, int(WORK / flops))
    task = make_task(members, images, steps)
    product_flops = 2 * batch * FEATURES * networks * width
    count = max(1, round(steps * flops / product_flops))
    calls = {
        name: product
        for name, product in products(batch, FEATURES, networks * width).items()
        if dtype_of(name) != "float64"
    }
    subjects: dict[str, Callable[[], object]] = {
        "float32": Ours(task).run,
        "mixed": Ours(task, precision="mixed").run,
    }
    for name, call in calls.items():
        subjects[name] = lambda call=call: [call() for _ in range(count)]
    timings = interleave(subjects, repeats=1 if smoke else 5)
    row: dict[str, Any] = {"networks": networks, "hidden": width, "batch": batch}
    for name in calls:
        row[name] = count * product_flops / timings[name].median / 1e9
    for precision, dtype in (("float32", "float32"), ("mixed", "bfloat16")):
        step = timings[precision]
        best = min(
            (timings[name] for name in calls if dtype_of(name) == dtype),
            key=lambda timing: timing.median,
        )
        row |= {
            f"{precision} step ms": step.median / steps * 1e3,
            f"{precision} GFLOP/s": steps * flops / step.median / 1e9,
            f"{precision} of product": (
                steps * flops / (count * product_flops) * step.times_faster_than(best)
            ),
            f"{precision} compile s": step.first - step.median,
        }
    return {**row, "mixed is": timings["mixed"].times_faster_than(timings["float32"])}
