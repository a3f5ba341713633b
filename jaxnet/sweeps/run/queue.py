"""What waits to be trained, and at what size it is handed out.

A queue holds assignments (networks to train together, as a plan has them) and stacks that were
interrupted. An executor takes one after the other, and puts back what the memory had no room for:
it comes again in halves.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jaxnet.host.log import LOG
from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.machine.devices import fill
from jaxnet.sweeps.machine.rates import fitting_size
from jaxnet.sweeps.planning.plan import Group
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Networks to train together to step `until`: of a group of a plan, in a program."""

    ids: Sequence[int]
    members: Sequence[Configuration]
    until: int
    group: Group
    program: Program

    @property
    def flops(self) -> float:
        """The floating-point operations of one slot on its way."""
        steps = self.until - self.group.begin
        return steps * program_flops(self.program) / self.program.layout.size

    def sized(self, size: int) -> "Assignment":
        """Return the same networks in a program of so many slots."""
        devices = min(size, self.group.program.layout.devices)
        program = self.program.with_layout(size=fill(size, devices), devices=devices)
        return dataclasses.replace(self, program=program)

    def parts(self, most: int) -> Iterator["Assignment"]:
        """Return the networks in parts of at most so many."""
        for start in range(0, len(self.ids), most):
            some = slice(start, start + most)
            part = dataclasses.replace(self, ids=self.ids[some], members=self.members[some])
            yield part.sized(most)


@dataclass(frozen=True)
class Interrupted:
    """A stack on its way to step `until`, to go on with."""

    ids: Sequence[int]
    until: int
    stack: Stack


class Sizes:
    """How many slots programs have had so far in this run, whatever their size is by plan.

    What goes on prefers a size that was compiled before. `most` is where the memory ran out.
    """

    def __init__(self) -> None:
        self.largest: dict[Program, int] = {}
        self.most: dict[Program, int] = {}

    @staticmethod
    def family(program: Program) -> Program:
        """Return what programs of different sizes have in common."""
        return program.with_layout(size=0, devices=1)

    def note(self, program: Program) -> None:
        """Note that a program of this size is compiled."""
        family = self.family(program)
        self.largest[family] = max(program.layout.size, self.largest.get(family, 0))

    def limit(self, program: Program, size: int) -> None:
        """Note that the memory has room for so many slots at the most."""
        family = self.family(program)
        self.largest[family] = self.most[family] = size


class Queue:
    """Assignments in order. `choose` may put one into another program than the plan's."""

    def __init__(
        self,
        sizes: Sizes,
        say: Callable[[str], None],
        choose: Callable[[Assignment], Assignment] | None = None,
    ) -> None:
        self._sizes, self._say, self._choose = sizes, say, choose
        self._waiting: deque[Assignment | Interrupted] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Assignment | Interrupted) -> None:
        """Put something at the end."""
        self._waiting.append(waiting)

    def next(self) -> Assignment | Interrupted:
        """Take out the first, at the size that the memory has room for."""
        first = self._waiting.popleft()
        if isinstance(first, Interrupted):
            return first
        if self._choose is not None:
            first = self._choose(first)
        family, size = self._sizes.family(first.program), first.program.layout.size
        most = self._sizes.most.get(family, size)
        if len(first.ids) > most:
            self._waiting.extendleft(reversed(list(first.parts(most))))
            return self.next()
        largest = self._sizes.largest.get(family, size)
        if first.group.begin and largest > size:
            # A smaller program is worth compiling only where it spares more than that takes.
            size = fitting_size(size, largest, first.flops)
        first = first.sized(min(size, most))
        self._sizes.note(first.program)
        return first

    def put_back(self, assignment: Assignment) -> None:
        """Put back what the memory had no room for; it comes again in halves."""
        half = math.ceil(len(assignment.ids) / 2)
        self._sizes.limit(assignment.program, half)
        text = f"out of memory with {assignment.program.layout.size} networks at once: now {half}"
        LOG.info(text)
        self._say(text)
        self._waiting.appendleft(assignment)
