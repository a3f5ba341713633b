"""Executors train what is in a queue and yield it as it is finished; here, in this process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import jax

from jaxnet.host.interrupt import Interrupt
from jaxnet.host.progress import Reporter
from jaxnet.sweeps.folder.checkpoint import Checkpoint
from jaxnet.sweeps.planning.plan import Capacity
from jaxnet.sweeps.run.meter import Meter
from jaxnet.sweeps.run.queue import Assignment, Interrupted, Queue
from jaxnet.sweeps.stacks.prepared import DataCache
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.sweeps.stacks.task import Task
from jaxnet.sweeps.stacks.timetable import Callback
from jaxnet.sweeps.stacks.watch import Watcher


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What an executor works with: the run's data, its signals, and where stacks are stored."""

    data: DataCache
    task: Callable[[Assignment], Task]
    checkpoint: Callable[[Sequence[int]], Checkpoint | None]
    reporter: Reporter
    interrupt: Interrupt
    meter: Meter
    callback: Callback | None = None
    watcher: Watcher | None = None


@dataclass(frozen=True)
class Finished:
    """A stack that has come to step `until`, and where it was stored on its way."""

    stack: Stack
    ids: Sequence[int]
    until: int
    checkpoint: Checkpoint | None


@runtime_checkable
class Executor(Protocol):
    """Trains what is in a queue, somewhere.

    `devices_here`: how many devices a stack has that is restored in this process.
    """

    devices_here: int

    def capacity(self) -> Capacity:
        """Return what there is room for."""
        ...

    def run(self, queue: Queue, desk: Desk) -> Iterator[Finished]:
        """Train everything in the queue, and yield it as it is done."""
        ...


def divisible(assignment: Assignment | Interrupted) -> TypeGuard[Assignment]:
    """Whether half of an assignment can be trained."""
    return isinstance(assignment, Assignment) and len(assignment.ids) > 1


class Local:
    """This process: each assignment in turn, on its devices."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self.devices_here = capacity.devices

    def capacity(self) -> Capacity:
        """Return what this process has room for."""
        return self._capacity

    def run(self, queue: Queue, desk: Desk) -> Iterator[Finished]:
        """Train in this process, storing the stack in flight from time to time."""
        while queue:
            desk.interrupt.check()
            assignment = queue.next()
            try:
                finished = self._train(assignment, desk)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or not divisible(assignment):
                    raise
                queue.put_back(assignment)
                continue
            yield finished

    def _train(self, assignment: Assignment | Interrupted, desk: Desk) -> Finished:
        if isinstance(assignment, Interrupted):
            stack = assignment.stack
        else:
            task = desk.task(assignment)
            stack = task.start(lambda devices: desk.data.on(task.program.structure, devices))
        ids, until = assignment.ids, assignment.until
        checkpoint, tick = desk.checkpoint(ids), desk.meter.clock()
        flops, record = stack.flops_per_step, stack.record
        total = flops * len(stack.columns) * (until - record.begin)
        done = flops * len(stack.columns) * (stack.step - record.begin)
        tick(done)
        desk.reporter.advance(done)
        if desk.watcher is not None:
            desk.watcher.begin(stack)
        for advance in stack.train(desk.callback, ids):
            work = advance.steps * advance.slots * flops
            done += work
            tick(work)
            desk.reporter.advance(work)
            if desk.watcher is not None and stack.step in record.evaluations:
                desk.watcher.look(stack)
            stopping = desk.interrupt.requested
            if checkpoint is not None and (stopping or stack.step < until):
                checkpoint.save(stack, now=stopping)
            desk.interrupt.check()
        if desk.watcher is not None:
            desk.watcher.end(stack)
        desk.reporter.advance(max(0.0, total - done))  # what ended early costs nothing
        return Finished(stack, ids, until, checkpoint)
