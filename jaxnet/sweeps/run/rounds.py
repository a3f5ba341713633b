"""A run that grows: each round adds configurations and trains them, with the programs of before.

A sampler gives another mixture of structures and widths each round. Compiled as planned, each
mixture would be a program of its own; here a round trains in a program that exists, with copies
and zeros in the slots that are too many, unless a new one saves more time than it takes to
compile. What decides is nominal costs and no clock, as in `jaxnet.sweeps.planning.grouping`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnet.data import DataSet
from jaxnet.sweeps.folder.folder import RunFolder
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.machine.cost import memory_budget, program_flops
from jaxnet.sweeps.machine.rates import fitting_size, nominal_costs
from jaxnet.sweeps.planning.grouping import family_of
from jaxnet.sweeps.planning.plan_job import plan_job
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.results.sweep_result import SweepResult
from jaxnet.sweeps.run.checks import check_job
from jaxnet.sweeps.run.queue import Assignment, Sizes
from jaxnet.sweeps.run.run import Resources, Run
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Listed
from jaxnet.training.program import Program
from jaxnet.training.settings import Structure


def with_settings(job: Job, settings: Sequence[Mapping[str, Any]]) -> Job:
    """Return the job of a list of configurations with these at its end."""
    assert isinstance(job.space, Listed)
    return dataclasses.replace(job, space=Listed([*job.space.configurations, *settings]))


def check_round(
    job: Job, data: DataSet, memory: float | int | None, *, filed: bool = False
) -> None:
    """Raise ConfigurationError for what cannot be trained, or not be `filed` in a run folder."""
    check_job(job, data, filed=filed)
    plan_job(job, data, memory=memory)


class Reuse:
    """Chooses the program of an assignment: one that exists, or a new one with room to spare.

    `most` is how many networks a round has at most. Beyond what `sizes` say the memory ran out.
    """

    def __init__(self, most: int, memory: float | int | None, sizes: Sizes) -> None:
        self._most, self._memory, self._sizes = most, memory, sizes
        self._compiled: dict[Program, Structure] = {}  # and the family of its networks

    def __call__(self, assignment: Assignment) -> Assignment:
        """Return the assignment in the program that costs the least, compilation included."""
        member, count = assignment.members[0], len(assignment.ids)
        steps, (rate, compiling, per_step) = (
            assignment.until - assignment.group.begin,
            nominal_costs(),
        )
        family, planned = family_of(member), assignment.program.with_layout(devices=1)
        limit = self._sizes.most.get(self._sizes.family(planned), self._most)
        budget = memory_budget() if self._memory is None else self._memory
        limit = min(limit, int(budget // max(1, assignment.group.bytes_per_network)))
        # Rounds to come may have more networks of this structure: leave room, if it costs little.
        room = fitting_size(count, max(planned.layout.size, limit), assignment.flops)
        candidates = [planned.with_layout(size=room)] + [
            program
            for program, of in self._compiled.items()
            if program.layout.shared == planned.layout.shared
            and count <= program.layout.size
            and program.layout.size
            <= self._sizes.most.get(self._sizes.family(program), program.layout.size)
            and _holds(program, planned, same_family=of == family)
        ]

        def cost(program: Program) -> float:
            new = program not in self._compiled
            return compiling * new + steps * (per_step + program_flops(program) / rate)

        chosen = min(candidates, key=cost)
        self._compiled.setdefault(chosen, family)
        return dataclasses.replace(assignment, program=chosen)


def _holds(wide: Program, planned: Program, *, same_family: bool) -> bool:
    """Whether networks of a program can train in another, of which they leave a part zero."""
    if (wide.structure, wide.layout.padded) == (planned.structure, planned.layout.padded):
        return True
    widths = zip(wide.structure.hidden, planned.structure.hidden, strict=False)
    return same_family and wide.layout.padded and all(mine >= theirs for mine, theirs in widths)


class Rounds:
    """The configurations asked for so far, trained in one run that grows with each round."""

    def __init__(
        self,
        job: Job,
        data: DataSet,
        resources: Resources,
        most: int,
        folder: RunFolder | None,
        store: Store | None,
    ) -> None:
        choose = Reuse(most, resources.memory, resources.sizes)
        # The next round has other widths, which blocks of these would not hold.
        resources = dataclasses.replace(resources, choose=choose, in_blocks=False)
        self.run = Run(job, data, resources, folder, store)

    def extend(self, job: Job) -> None:
        """Go over to a job that begins with all configurations of this one's."""
        found = self.run.found
        self.run.take(job)
        self.run.found |= found

    def train_from(self, first: int) -> list[Row]:
        """Train what is missing of configuration `first` and those after it; return their rows."""
        self.run.train_only(range(first, len(self.run.configurations)))
        return [row for row in self.run.rows if row.id >= first]

    def work_from(self, first: int) -> float:
        """Return the floating-point operations of what is still to train of those."""
        return self.run.work_of(range(first, len(self.run.configurations)))

    def finish(self, started: float) -> SweepResult:
        """Return what was found, and complete the folder."""
        self.run.pool.clear()
        result = self.run.result(started, self.run.best_network())
        self.run.leave(result, complete=True)
        return result

    def give_up(self, started: float) -> SweepResult:
        """Return what was found before an interruption, and leave a readable folder."""
        result = self.run.result(started, network=None)
        self.run.leave(result, complete=False)
        return result
