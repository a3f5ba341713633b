"""Chunks trained on a Ray cluster: tasks of some seconds, which Ray places on any node.

The driver, this process, plans, hands out slices of training (`time_slice`), stores what
they return and alone writes the run folder. Workers have no state between tasks: whatever dies, the
driver has the networks as they were at most one slice before, and hands them out again. The images
lie once in the shared memory of each node, put there by Ray when a task first asks for them.

Nothing is unpickled but by Ray itself, between processes of one cluster.
"""

import contextlib
import dataclasses
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.errors import ConfigurationError, JaxnetError, WorkerError
from jaxnet.host.log import LOG
from jaxnet.sweeps.folder.checkpoint import INTERVAL, Checkpoint
from jaxnet.sweeps.folder.folder import versions
from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.planning.plan import Capacity
from jaxnet.sweeps.run.cluster import Ray
from jaxnet.sweeps.run.local_executor import Desk, Finished, divisible
from jaxnet.sweeps.run.queue import Assignment, Interrupted, Queue
from jaxnet.sweeps.run.time_slice import SliceResult, Terms, accelerator_memory, run_slice
from jaxnet.sweeps.stacks.prepared import method_of
from jaxnet.sweeps.stacks.task import Task
from jaxnet.training.settings import Structure

SLICE_SECONDS = INTERVAL  # as often as a stack in flight is stored in this process
MOST_LOSSES = 4  # times that a slice may be lost before its chunk is halved, or the run ends
PATIENCE = 60.0  # seconds beyond those of a slice without any result, until the log says so


@dataclass(kw_only=True)
class _Flight:
    """Networks on their way: where they stand, and the last tensors that came back of them."""

    ids: Sequence[int]
    assignment: Assignment | None  # to be cut if it is too large
    task: Task
    given: tuple[Any, ...]  # references to task, data, pixels; and the terms
    checkpoint: Checkpoint | None
    step: int
    work: float  # left, if none diverges or stops
    tensors: dict[str, np.ndarray] | None = None
    sent: Any = None  # a reference to the tensors to go on from
    out: Any = None  # a reference to the tensors of the slice under way
    failures: int = 0


@dataclass(frozen=True)
class _Airspace:
    """All that is under way in one queue, by the reference to the slice's result."""

    queue: Queue
    desk: Desk
    flying: dict[Any, _Flight]


class OnRay:
    """A Ray cluster as the executor of a run."""

    devices_here = 1

    def __init__(self, cluster: Ray, memory: float | int | None) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        self._ray, self._cluster = ray, cluster
        self._gpus = self._gpus_each()
        self._asked = memory
        self._memory = memory if memory is not None else self._share()
        self._slice: Any = ray.remote(run_slice).options(
            num_returns=2, max_retries=0, **self._resources()
        )
        self._run_name, self._names = uuid.uuid4().hex, {}
        self._data: dict[Any, tuple[Any, Any]] = {}
        self._pixels: list[tuple[bool, Any]] = []
        LOG.info(
            "on Ray: %d nodes, %d tasks at once, each of %d CPUs, %d GPUs and %.3g GB",
            len(self._nodes()),
            self._slots(),
            cluster.cpus,
            self._gpus,
            self._memory / 1e9,
        )
        if not self._slots():
            LOG.warning("on Ray: no node has that much for a task: waiting for one that has")

    # What there is

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the resources of each node that is alive."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _gpus_each(self) -> int:
        if self._cluster.gpus is not None:
            return self._cluster.gpus
        return int(any(node.get("GPU", 0) >= 1 for node in self._nodes()))

    def _resources(self) -> dict[str, Any]:
        # What a GPU task takes is in the GPU's own memory, of which Ray knows nothing.
        own = {"num_gpus": self._gpus} if self._gpus else {"memory": int(self._memory)}
        return {"num_cpus": self._cluster.cpus, **own}

    def _fitting(self, node: dict[str, Any]) -> int:
        """Return how many tasks a node takes at once, memory aside."""
        count = int(node.get("CPU", 0) // self._cluster.cpus)
        return min(count, int(node.get("GPU", 0) // self._gpus)) if self._gpus else count

    def _slots(self) -> int:
        slots = 0
        for node in self._nodes():
            fitting = self._fitting(node)
            if not self._gpus:
                fitting = min(fitting, int(node.get("memory", math.inf) // max(1, self._memory)))
            slots += fitting
        return slots

    def _share(self) -> float:
        """Return the bytes of a task: half of its share of the smallest node, or of its GPUs."""
        if self._gpus:
            ask = self._ray.remote(accelerator_memory).options(
                num_cpus=self._cluster.cpus, num_gpus=self._gpus, max_retries=0
            )
            return float(self._ray.get(ask.remote()))
        shares = [
            node.get("memory", 4e9) / self._fitting(node) / 2
            for node in self._nodes()
            if self._fitting(node)
        ]
        if not shares:
            raise ConfigurationError(
                f"on: no node of the cluster has {self._cluster.cpus} CPUs for a task: ask for "
                f"fewer, or add nodes"
            )
        return min(shares)

    def capacity(self) -> Capacity:
        """Return what a task has room for, and how many tasks run at once."""
        devices = self._gpus or self._cluster.cpus
        return Capacity(self._memory, devices, bool(self._gpus), max(1, self._slots()))

    # Slices

    def run(self, queue: Queue, desk: Desk) -> Iterator[Finished]:
        """Hand out slices until everything is trained; whatever happens, none is left running."""
        air = _Airspace(queue, desk, {})
        try:
            idle = time.monotonic()
            while queue or air.flying:
                desk.interrupt.check()
                # Some wait in Ray's queue, so that nodes which join have something to do.
                while queue and len(air.flying) < 2 * self._slots() + 2:
                    self._launch(self._flight(queue.next(), desk), air)
                ready, _ = self._ray.wait(list(air.flying), num_returns=1, timeout=1.0)
                for reference in ready:
                    idle = time.monotonic()
                    finished = self._land(reference, air)
                    if finished is not None:
                        yield finished
                if time.monotonic() - idle > PATIENCE + SLICE_SECONDS:
                    idle = time.monotonic()
                    LOG.warning("on Ray: nothing has come back; free: %s", self._free())
        except BaseException:
            for reference in air.flying:
                with contextlib.suppress(Exception):
                    self._ray.cancel(reference, force=True)
            raise

    def _free(self) -> dict[str, Any]:
        free = self._ray.available_resources()
        return {name: free.get(name, 0.0) for name in ("CPU", "GPU", "memory")}

    def _flight(self, assignment: Assignment | Interrupted, desk: Desk) -> _Flight:
        tensors = None
        if isinstance(assignment, Interrupted):
            stack = assignment.stack
            task, tensors, step = Task.of(stack), stack.tensors(), stack.step
        else:
            task, step = desk.task(assignment), assignment.group.begin
        structure = task.program.structure
        name = self._names.setdefault(structure, f"{self._run_name}-{len(self._names)}")
        terms = Terms(
            seconds=SLICE_SECONDS,
            cpus=self._cluster.cpus,
            gpus=self._gpus,
            versions=versions(),
            memory=None if self._asked is None or self._gpus else int(self._asked),
            program=name,
            data=f"{self._run_name}-{method_of(structure)}",
        )
        return _Flight(
            ids=assignment.ids,
            assignment=assignment if isinstance(assignment, Assignment) else None,
            task=task,
            given=(self._ray.put(task), *self._shipped(structure, desk), terms),
            checkpoint=desk.checkpoint(assignment.ids),
            step=step,
            work=program_flops(task.program) * (task.until - step),
            tensors=tensors,
        )

    def _launch(self, flight: _Flight, air: _Airspace) -> None:
        if flight.sent is None and flight.tensors is not None:
            flight.sent = self._ray.put(flight.tensors)
        reference, flight.out = self._slice.remote(*flight.given, flight.sent)
        air.flying[reference] = flight

    def _land(self, reference: Any, air: _Airspace) -> Finished | None:
        """Take in what a slice brought, and send the networks on; return them if they are done."""
        errors, flight = self._ray.exceptions, air.flying.pop(reference)
        try:
            result: SliceResult = self._ray.get(reference)
            tensors = self._ray.get(flight.out)
        except errors.RayTaskError as error:
            if isinstance(error.cause, JaxnetError):
                raise error.cause from None
            raise  # the user's own
        except errors.OutOfMemoryError as error:
            return self._too_large(flight, _first_line(error), air)
        except self._losses() as error:
            return self._lost(flight, error, air)
        if result.state == "too large":
            return self._too_large(flight, result.text, air)
        if result.state == "unusable":
            raise WorkerError(
                f"the networks that a task was to go on with do not fit: {result.text}"
            )
        flight.failures, flight.step = 0, result.step
        flight.tensors, flight.sent = tensors, flight.out
        done = result.work if result.state == "going" else flight.work  # or what ended early
        flight.work -= done
        air.desk.reporter.advance(max(0.0, done))
        air.desk.meter.add(result.work, result.seconds)
        if result.state == "going":
            if flight.checkpoint is not None:
                flight.checkpoint.write(flight.task, result.step, tensors)
            self._launch(flight, air)
            return None
        program = flight.task.program.with_layout(devices=self.devices_here)
        here = dataclasses.replace(flight.task, program=program)
        stack = here.start(lambda devices: air.desk.data.on(program.structure, devices), tensors)
        return Finished(stack, flight.ids, here.until, flight.checkpoint)

    def _lost(self, flight: _Flight, error: Exception, air: _Airspace) -> None:
        """Hand out again what a worker or a node took with it."""
        flight.failures += 1
        why = f"{type(error).__name__}: {_first_line(error)}"
        LOG.warning(
            "on Ray: lost %d networks at step %d (%s), time %d of %d",
            len(flight.ids),
            flight.step,
            why,
            flight.failures,
            MOST_LOSSES,
        )
        if flight.failures < MOST_LOSSES:
            flight.sent = None  # it may be lost, too
            self._launch(flight, air)
        else:  # a system without memory kills without a word
            self._too_large(flight, f"lost {MOST_LOSSES} times, at last {why}", air)

    def _too_large(self, flight: _Flight, why: str, air: _Airspace) -> None:
        if flight.assignment is None or not divisible(flight.assignment):
            raise WorkerError(
                f"on Ray: {len(flight.ids)} networks could not be trained: {why}. Give tasks "
                f"more memory, or see the logs of Ray; what finished is kept"
            )
        size = flight.task.program.layout.size
        LOG.warning("on Ray: too large with %d networks (%s)", size, why)
        if flight.checkpoint is not None:
            flight.checkpoint.remove()
        air.queue.put_back(flight.assignment)

    def _losses(self) -> tuple[type[Exception], ...]:
        errors = self._ray.exceptions
        return (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,
            errors.ObjectStoreFullError,
            errors.OutOfDiskError,
        )

    def _shipped(self, structure: Structure, desk: Desk) -> tuple[Any, Any]:
        """Return references to the data of a structure, which are put once."""
        method = method_of(structure)
        if method not in self._data:
            data = desk.data.host(structure)
            # Raw pixels are the same for every elementwise preprocessing.
            raw = data.preprocessing.is_elementwise
            shared = [ref for was_raw, ref in self._pixels if raw and was_raw]
            pixels = (
                shared[0]
                if shared
                else self._ray.put({"images": data.images, "labels": data.labels})
            )
            self._pixels.append((raw, pixels))
            empty = np.zeros(0, data.images.dtype)
            rest = dataclasses.replace(data, images=empty, labels=empty)
            self._data[method] = (self._ray.put(rest), pixels)
        return self._data[method]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
