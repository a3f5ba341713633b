"""A run that grows: each round adds configurations and trains them, with the programs of before.

A sampler gives another mixture of structures and widths each round. Compiled as planned, each
mixture would be a program of its own; here a round trains in a program that exists, with copies
and zeros in the places that are too many, unless a new one saves more time than it takes to
compile. What decides is nominal costs and no clock, as in `jaxnet.sweeps.fusion`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnet.configuration import Configuration, Structure
from jaxnet.data import DataSet
from jaxnet.sweeps.checks import check_job
from jaxnet.sweeps.cost import memory_budget, step_flops
from jaxnet.sweeps.folder import RunFolder
from jaxnet.sweeps.fusion import NOMINAL, family_of, fitting_size, nominal
from jaxnet.sweeps.here import Piece, Queue
from jaxnet.sweeps.job import Job
from jaxnet.sweeps.plan import Group
from jaxnet.sweeps.planning import plan_job
from jaxnet.sweeps.results import SweepResult
from jaxnet.sweeps.rows import Row
from jaxnet.sweeps.run import Callback, Run
from jaxnet.sweeps.space import Listed
from jaxnet.sweeps.store import Store

Program = tuple[Structure, bool, int]  # what is compiled, shared minibatches, places


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


class Rounds(Run):
    """The configurations asked for so far; `most` is how many networks a round has at most."""

    in_pieces = False  # the next round has other widths

    def __init__(
        self,
        job: Job,
        data: DataSet,
        folder: RunFolder | None,
        store: Store | None,
        memory: float | int | None,
        keep: int | None,
        select: str,
        callback: Callback | None,
        most: int,
    ) -> None:
        super().__init__(job, data, folder, store, memory, keep, select, callback)
        self.most = most
        self._programs: dict[Program, Any] = {}  # compiled by a round before; its family
        self._limits: dict[tuple[Structure, bool], int] = {}  # beyond, the memory ran out

    def extend(self, job: Job) -> None:
        """Go over to a job that begins with all configurations of this one's."""
        found = self.found
        self.take(job)
        self.found |= found

    def train_from(self, first: int) -> list[Row]:
        """Train what is missing of configuration `first` and those after it; return their rows."""
        self._train_to(self._missing(range(first, len(self.configurations))), self.job.steps)
        return [row for row in self.rows if row.id >= first]

    def work_from(self, first: int) -> float:
        """Return the products of what is still to train of those."""
        ids = self._missing(range(first, len(self.configurations)))
        plan = plan_job(self.job, self.data, memory=self.memory, ids=ids, in_pieces=False)
        return plan.flops

    def finish(self, started: float) -> SweepResult:
        """Return what was found, and complete the folder."""
        self.pool.clear()
        result = self.result(started, self.best_network())
        self.leave(result, complete=True)
        return result

    def give_up(self, started: float) -> SweepResult:
        """Return what was found before an interruption, and leave a readable folder."""
        result = self.result(started, network=None)
        self.leave(result, complete=False)
        return result

    def _chosen(self, piece: Piece) -> Piece:
        member = self.configurations[piece.ids[0]]
        program = self._program(piece.group, member, len(piece.ids), piece.size, piece.until)
        self._programs.setdefault(program, family_of(member))
        group = dataclasses.replace(piece.group, structure=program[0])
        return dataclasses.replace(piece, group=group, size=program[2])

    def too_large(self, piece: Piece, queue: Queue) -> None:
        """Note it, as any run; and that no program of this structure has more places from now."""
        super().too_large(piece, queue)
        program = piece.group.structure, piece.group.shared
        self._limits[program] = self._most[program]

    def _program(
        self, group: Group, member: Configuration, count: int, size: int, until: int
    ) -> Program:
        """Return what to train `count` networks in: a program that exists, or a new one."""
        steps, (rate, compiling, per_step) = until - group.begin, nominal(NOMINAL)
        family, names = family_of(member), tuple(member.numbers)
        limit = self._limits.get((group.structure, group.shared), self.most)
        budget = memory_budget() if self.memory is None else self.memory
        limit = min(limit, int(budget // max(1, group.bytes_per_network)))
        # Rounds to come may have more networks of this structure: leave room, if it costs little.
        room = fitting_size(count, max(size, limit), group.flops_per_step * steps)
        candidates = [(group.structure, group.shared, room)] + [
            (structure, shared, places)
            for (structure, shared, places), of in self._programs.items()
            if shared == group.shared
            and count <= places <= self._limits.get((structure, shared), places)
            and _holds(structure, group.structure, same_family=of == family)
        ]

        def cost(program: Program) -> float:
            each = step_flops(program[0], names, self.data.input_shape, self.classes)
            new = program not in self._programs
            return compiling * new + steps * (per_step + program[2] * each / rate)

        return min(candidates, key=cost)


def _holds(wide: Structure, structure: Structure, *, same_family: bool) -> bool:
    """Whether networks of a structure can train in another, of which they leave a part zero."""
    if wide == structure:
        return True
    widths = zip(wide.hidden, structure.hidden, strict=False)
    return same_family and wide.padded and all(mine >= theirs for mine, theirs in widths)
