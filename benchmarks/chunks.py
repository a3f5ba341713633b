"""How many networks to train at once: what the plan chooses against the best found by search."""

from typing import Any

from benchmarks.peers.ours import Ours
from benchmarks.tasks import make_task, picture_like, rings
from benchmarks.timing import interleave
from jaxnet.sweeps.machine.cost import memory_budget
from jaxnet.sweeps.planning.plan import Capacity, make_plan
from jaxnet.training.settings import Shapes, configure

# name: (inputs, networks, steps of a timed call, settings)
GROUPS: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "16 of 3072-160-10, batch 200": (3072, 16, 12, {"hidden": [160], "batch_size": 200}),
    "16 of 3072-320-10, batch 800": (3072, 16, 4, {"hidden": [320], "batch_size": 800}),
    "16 of 3072-512-256-256-10, Adam": (
        3072,
        16,
        4,
        {"hidden": [512, 256, 256], "norm": "batch", "optimizer": "adam", "batch_size": 256},
    ),
    "256 of 784-32-10, batch 32": (784, 256, 50, {"hidden": [32], "batch_size": 32}),
    "2048 of 2-32-2, batch 32": (2, 2048, 25, {"hidden": [32], "batch_size": 32}),
}


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a group: the planned size, the best, and how much slower the planned one."""
    rows = []
    for name, (features, networks, steps, settings) in list(GROUPS.items())[-1 if smoke else 0 :]:
        networks, steps = (2, 2) if smoke else (networks, steps)
        images = rings(2000) if features == 2 else picture_like(features, 10, 10_000)
        space = [configure(learning_rate=1e-3 / (1 + i), **settings) for i in range(networks)]
        plan = make_plan(
            space,
            Shapes((features,), images.classes),
            steps=1000,
            capacity=Capacity(memory_budget()),
        )
        planned = plan.groups[0].program.layout.size
        sizes = sorted({planned, *(networks >> i for i in range(8) if networks >> i)})
        task = make_task(space, images, steps)
        subjects = {str(size): Ours(task, at_once=size).run for size in sizes}
        timings = interleave(subjects, repeats=1 if smoke else 5)
        best = min(timings, key=lambda size: timings[size].median)
        rows.append(
            {
                "group": name,
                "planned": planned,
                "best": int(best),
                "planned / best time": timings[best].times_faster_than(timings[str(planned)]),
                "ms a step, by size": ", ".join(
                    f"{size}: {timing.median / steps * 1e3:.3g}" for size, timing in timings.items()
                ),
            }
        )
    return rows
