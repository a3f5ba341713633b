"""A short trial before a sweep: what diverges soon leaves its program, and costs no more."""

import dataclasses
from dataclasses import dataclass

from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.cost import program_flops
from jaxnet.sweeps.job import Job
from jaxnet.sweeps.plan import Plan
from jaxnet.sweeps.sweep import run_job


@dataclass(frozen=True)
class Trial:
    """What a trial of so many steps says: `share` is that of the plan's products left to do."""

    steps: int
    configurations: int
    diverged: int
    share: float


def try_job(
    job: Job,
    data: DataSet,
    plan: Plan,
    steps: int,
    *,
    memory: float | int | None = None,
    devices: int | None = None,
) -> Trial:
    """Train everything `steps` updates, to see what diverges within them; nothing is kept.

    A schedule that depends on the number of steps runs through in the trial.
    Raises ConfigurationError for a number of steps that is no part of the job's.
    """
    if not 0 < steps < job.steps:
        raise ConfigurationError(
            f"trial: expected a number of steps between 1 and the sweep's {job.steps}, got {steps}"
        )
    short = dataclasses.replace(job, steps=steps, halving=None, patience=None, evaluations=1)
    rows = run_job(short, data, memory=memory, devices=devices).rows
    flops = {
        i: program_flops(group.program) / group.program.layout.size
        for group in plan.groups
        for chunk in group.chunks
        for i in chunk.ids
    }
    left = [
        flops[row.id] * (1.0 if row.ok else row.outcome.steps / job.steps)
        for row in rows
        if row.id in flops
    ]
    diverged = sum(not row.ok for row in rows)
    return Trial(steps, len(rows), diverged, sum(left) / sum(flops.values()))
