"""How long a plan takes on this machine: its products are timed, the rest is added up.

A dry run of a few steps tells what diverges soon: it leaves its program, and costs no more.
"""

import dataclasses
from dataclasses import dataclass

from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.machine.measured import Machine, measure_machine
from jaxnet.sweeps.machine.rates import nominal_costs
from jaxnet.sweeps.planning.plan import Plan
from jaxnet.sweeps.space.job import Job
from jaxnet.training.program import Program
from jaxnet.verbs import run_job

# Share of the rate of a large product that a whole training step reaches (measured on the CIFAR-10
# grids, by batch size: `python -m benchmarks sweep_step`).
EFFICIENCY = {0: 0.6, 200: 0.75, 400: 0.8, 500: 0.83}
# The same of convolutions (`python -m benchmarks convolution`).
CONVOLUTION_EFFICIENCY = 0.37


# Products in bfloat16 are so fast that passes over the float32 weights count: on `cifar10-24` a
# step reaches 662 of the product's 1,036 GFLOP/s (`python -m benchmarks sweeps_24`), 0.83 · 0.77.
MIXED_EFFICIENCY = 0.77


def plan_seconds(machine: Machine, plan: Plan) -> float:
    """Return the time of a plan in which nothing diverges or stops early.

    Products at the measured rate, a fixed time per step, evaluations, and compilation.
    """
    _, compiling, _ = nominal_costs()
    total = plan.programs * compiling
    for group in plan.groups:
        steps = plan.share * (plan.steps - group.begin)
        # The products of a forward pass are about 1/3 of a step's, first layer or not.
        scoring = plan.scored / group.program.structure.batch_size / 3
        total += len(group.chunks) * (steps + scoring) * step_seconds(machine, group.program)
    return total


def step_seconds(machine: Machine, program: Program) -> float:
    """Return the time of one step of a program."""
    structure, precision = program.structure, program.structure.precision
    share = max(value for least, value in EFFICIENCY.items() if structure.batch_size >= least)
    if structure.row.is_convolutional:
        share = CONVOLUTION_EFFICIENCY
    rate = {"float64": machine.float64, "mixed": machine.mixed}.get(precision, machine.float32)
    if precision == "mixed":
        share *= MIXED_EFFICIENCY
    _, _, per_step = nominal_costs()
    return program_flops(program) / (share * rate) + per_step


def describe(plan: Plan, dry_run: "DryRun | None" = None) -> str:
    """Return a sentence on how long a plan takes on this machine, by a trial if there was one."""
    seconds = plan_seconds(measure_machine(), plan) * (1.0 if dry_run is None else dry_run.share)
    texts = [(3600, "h"), (60, "min"), (0, "s")]
    unit, name = next((max(size, 1), name) for size, name in texts if seconds >= size)
    time = f"About {seconds / unit:.2g} {name} on this machine"
    if dry_run is None:
        return f"{time}; less where networks diverge or stop early."
    return (
        f"{time}: in {dry_run.steps} steps {dry_run.diverged} of {dry_run.configurations} "
        f"diverged, which leaves {dry_run.share:.0%} of the work."
    )


@dataclass(frozen=True)
class DryRun:
    """What a dry run of so many steps says: `share` is the part of the plan's work left to do."""

    steps: int
    configurations: int
    diverged: int
    share: float


def dry_run(
    job: Job,
    data: DataSet,
    plan: Plan,
    steps: int,
    *,
    memory: float | int | None = None,
    devices: int | None = None,
) -> DryRun:
    """Train everything `steps` updates, to see what diverges within them; nothing is kept.

    A schedule that depends on the number of steps runs through in the trial.
    Raises ConfigurationError for a number of steps that is no part of the job's.
    """
    if not 0 < steps < job.steps:
        raise ConfigurationError(
            f"trial: expected a number of steps between 1 and the sweep's {job.steps}, got {steps}"
        )
    short = dataclasses.replace(job, steps=steps, halving=None, stop=None, evaluations=1)
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
    return DryRun(steps, len(rows), diverged, sum(left) / sum(flops.values()))
