"""Chunks trained in this process, one after another; and what any place to train them must do."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

import jax

from jaxnet.sweeps.checkpoint import Checkpoint
from jaxnet.sweeps.folder import LAYERS
from jaxnet.sweeps.layer_history import LayerHistory
from jaxnet.sweeps.plan import Capacity, Group
from jaxnet.sweeps.stack import Stack
from jaxnet.sweeps.watch import Watch

if TYPE_CHECKING:
    from jaxnet.sweeps.run import Run


@dataclass(frozen=True)
class Piece:
    """Networks to train together to step `until`: of a group of a plan, in so many places."""

    ids: Sequence[int]
    until: int
    group: Group
    size: int


@dataclass(frozen=True)
class Interrupted:
    """A stack on its way to step `until`, to go on with."""

    ids: Sequence[int]
    until: int
    stack: Stack


Queue = deque[Piece | Interrupted]


def divisible(piece: Piece | Interrupted) -> TypeGuard[Piece]:
    """Whether half of a piece can be trained."""
    return isinstance(piece, Piece) and len(piece.ids) > 1


class Place(Protocol):
    """Where the chunks of a run are trained.

    `devices_here`: how many devices a stack has that is restored in this process.
    """

    devices_here: int

    def capacity(self) -> Capacity:
        """Return what there is room for."""
        ...

    def work_off(self, queue: Queue) -> None:
        """Train everything in the queue, and `commit` it to the run as it is done.

        The run says how the next one is to be trained (`Run.next`), and is told what was too large
        for the memory (`Run.too_large`), which puts it back.
        """
        ...


class Here:
    """This process: each piece in turn, on its devices."""

    def __init__(self, run: "Run", capacity: Capacity) -> None:
        self._run, self._capacity = run, capacity
        self.devices_here = capacity.devices

    def capacity(self) -> Capacity:
        """Return that of this process."""
        return self._capacity

    def work_off(self, queue: Queue) -> None:
        """Train in this process, keeping the stack in flight from time to time."""
        while queue:
            self._run.interrupt.check()
            piece = self._run.next(queue)
            try:
                self._train(piece)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or not divisible(piece):
                    raise
                self._run.too_large(piece, queue)

    def _train(self, piece: Piece | Interrupted) -> None:
        run = self._run
        stack = piece.stack if isinstance(piece, Interrupted) else run.begin(piece)
        ids, until = piece.ids, piece.until
        kept = None if run.folder is None else Checkpoint(run.folder.path, run.keys_of(ids))
        flops, told = stack.flops_per_step, 0.0
        total = flops * len(stack.columns) * (until - stack.record.begin)
        tick, watch = run.meter.clock(), self._watch(stack)

        def on_steps(count: int, networks: int) -> None:
            nonlocal told
            tick(count * networks * flops)
            told += count * networks * flops
            run.reporter.advance(count * networks * flops)
            run.interrupt.check()

        def save(stack: Stack, now: bool) -> None:
            if watch is not None and stack.step in run.schedule.evaluations:
                watch.look(stack.step, stack.member(0))
            if kept is not None:
                kept.save(stack, now)

        stack.train(on_steps, run.callback, save, ids)
        if watch is not None:
            watch.look(stack.step, stack.member(0))
            seen = watch.history()
            run.layers = seen if run.layers is None else run.layers.then(seen)
        run.reporter.advance(max(0.0, total - told))  # what ended early costs nothing
        run.commit(stack, ids, until, kept)

    def _watch(self, stack: Stack) -> Watch | None:
        """Return what notes how a single run goes inside, and let it have a first look."""
        run = self._run
        alone = len(run.configurations) == 1 and not stack.structure.takes_images
        if run.folder is None or not alone:
            return None
        before = run.folder.path / LAYERS
        if stack.step and run.layers is None and before.exists():
            run.layers = LayerHistory.load(before)
        watch = Watch(run.configurations[0], stack.data, run.job.steps)
        watch.look(stack.step, stack.member(0))
        return watch
