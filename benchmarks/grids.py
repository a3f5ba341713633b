"""The three CIFAR-10 grids in full: the plan's estimate against the time taken, and a halving.

Needs CIFAR-10 in the data directory (`jaxnet data fetch cifar10`); without it the subject is left
out. `planned` assumes that nothing diverges; in `cifar10-144` half of the networks do, and leave.
"""

import dataclasses
import time
from typing import Any

from jaxnet.cli.estimate import dry_run, plan_seconds
from jaxnet.data import load
from jaxnet.errors import DataError
from jaxnet.sweeps import Halving, Job, find_preset, plan_job
from jaxnet.sweeps.machine.measured import measure_machine
from jaxnet.verbs import run_job

GRIDS = ("cifar10-45", "cifar10-24", "cifar10-144")
HALVING = Halving(eta=4, first=125)  # 125, 500, 2000 steps
DRY_STEPS = 60


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a grid, and one for the largest with a halving."""
    if smoke:
        job = dataclasses.replace(find_preset("default"), steps=8, halving=Halving(2, first=4))
        return [_run("default", job)]
    try:
        load("cifar10")
    except DataError:
        return []
    rows = [_run(name, find_preset(name)) for name in GRIDS]
    halved = dataclasses.replace(find_preset("cifar10-144"), halving=HALVING)
    return [*rows, _run("cifar10-144, halving by 4", halved)]


def _run(name: str, job: Job) -> dict[str, Any]:
    data = load(job.data)
    planned = plan_job(job, data)
    estimate = plan_seconds(measure_machine(), planned)
    start = time.perf_counter()
    rehearsal = dry_run(job, data, planned, min(DRY_STEPS, job.steps - 1))
    trying = time.perf_counter() - start
    result = run_job(job, data)
    best = result.best
    work = sum(row.outcome.steps for row in result.rows) / (job.steps * len(result.rows))
    return {
        "grid": name,
        "networks": len(result.rows),
        "steps": job.steps,
        "diverged": len(result.diverged),
        "planned_s": estimate,
        "seconds": result.seconds,
        "planned / taken": estimate / result.seconds,
        "trial_s": trying,
        "after trial / taken": estimate * rehearsal.share / result.seconds,
        "share of steps": work,
        "validation": None if best is None else best.outcome.val_accuracy,
        "test": result.test_accuracy,
    }
