"""Chunks trained on a Ray cluster: tasks of some seconds, which Ray places on any node.

The driver, this process, plans, hands out legs of training (`jaxnet.sweeps.leg`), keeps what they
return and alone writes the run folder. Workers know nothing between tasks: whatever dies, the
driver has the networks as they were at most one leg before, and hands them out again. The images
lie once in the shared memory of each node, put there by Ray when a task first asks for them.

Nothing is unpickled but by Ray itself, between processes of one cluster.
"""

import contextlib
import dataclasses
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnet.configuration import Structure
from jaxnet.errors import ConfigurationError, JaxnetError, WorkerError
from jaxnet.host.log import LOG
from jaxnet.sweeps.checkpoint import INTERVAL, Checkpoint
from jaxnet.sweeps.cluster import Ray
from jaxnet.sweeps.folder import versions
from jaxnet.sweeps.here import Interrupted, Piece, Queue, divisible
from jaxnet.sweeps.leg import Report, Terms, accelerator_memory, run_leg
from jaxnet.sweeps.plan import Capacity
from jaxnet.sweeps.prepared import gather, method_of
from jaxnet.sweeps.task import Task

if TYPE_CHECKING:
    from jaxnet.sweeps.run import Run

LEG_SECONDS = INTERVAL  # as often as a stack in flight is kept in this process
TRIES = 4  # times that a leg may be lost before its chunk is halved, or the run ends
PATIENCE = 60.0  # seconds beyond those of a leg in which none comes home, until the log says so


@dataclass
class _Flight:
    """Networks on their way: where they stand, and as what they were last brought home."""

    ids: Sequence[int]
    piece: Piece | None  # to be cut if it is too large
    task: Task
    given: tuple[Any, ...]  # references to task, data, pixels; and the terms
    kept: Checkpoint | None
    step: int
    work: float  # left, if none diverges or stops
    home: dict[str, np.ndarray] | None = None
    at_hand: Any = None  # a reference to the tensors to go on from
    out: Any = None  # that of the leg under way
    failures: int = 0


class OnRay:
    """A Ray cluster as the place of a run."""

    devices_here = 1

    def __init__(self, run: "Run", cluster: Ray, memory: float | int | None) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        self._ray, self._run, self._cluster = ray, run, cluster
        self._gpus = self._gpus_each()
        self._asked = memory
        self._memory = memory if memory is not None else self._share()
        self._leg: Any = ray.remote(run_leg).options(
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
        """Return that of a task, and how many run at once."""
        devices = self._gpus or self._cluster.cpus
        return Capacity(self._memory, devices, bool(self._gpus), max(1, self._slots()))

    # Legs

    def work_off(self, queue: Queue) -> None:
        """Hand out legs until everything is trained; whatever happens, nothing is left running."""
        flying: dict[Any, _Flight] = {}
        try:
            idle = time.monotonic()
            while queue or flying:
                self._run.interrupt.check()
                # Some wait in Ray's queue, so that nodes which join have something to do.
                while queue and len(flying) < 2 * self._slots() + 2:
                    self._launch(self._flight(self._run.next(queue)), flying)
                ready, _ = self._ray.wait(list(flying), num_returns=1, timeout=1.0)
                for report in ready:
                    idle = time.monotonic()
                    self._land(report, flying.pop(report), flying, queue)
                if time.monotonic() - idle > PATIENCE + LEG_SECONDS:
                    idle = time.monotonic()
                    LOG.warning("on Ray: nothing has come back; free: %s", self._free())
        except BaseException:
            for report in flying:
                with contextlib.suppress(Exception):
                    self._ray.cancel(report, force=True)
            raise

    def _free(self) -> dict[str, Any]:
        free = self._ray.available_resources()
        return {name: free.get(name, 0.0) for name in ("CPU", "GPU", "memory")}

    def _flight(self, piece: Piece | Interrupted) -> _Flight:
        run, home = self._run, None
        if isinstance(piece, Interrupted):
            task, home = Task.of(piece.stack), piece.stack.tensors()
            step, flops = piece.stack.step, piece.stack.flops_per_step
        else:
            task = run.task(piece)
            step, flops = piece.group.begin, piece.group.flops_per_step
        kept = None if run.folder is None else Checkpoint(run.folder.path, run.keys_of(piece.ids))
        program = self._names.setdefault(task.structure, f"{self._run_name}-{len(self._names)}")
        terms = Terms(
            LEG_SECONDS,
            self._cluster.cpus,
            self._gpus,
            versions(),
            None if self._asked is None or self._gpus else int(self._asked),
            program,
            f"{self._run_name}-{method_of(task.structure)}",
        )
        return _Flight(
            piece.ids,
            piece if isinstance(piece, Piece) else None,
            task,
            (self._ray.put(task), *self._shipped(task.structure), terms),
            kept,
            step,
            flops * task.size * (task.until - step),
            home,
        )

    def _launch(self, flight: _Flight, flying: dict[Any, _Flight]) -> None:
        if flight.at_hand is None and flight.home is not None:
            flight.at_hand = self._ray.put(flight.home)
        report, flight.out = self._leg.remote(*flight.given, flight.at_hand)
        flying[report] = flight

    def _land(
        self, reference: Any, flight: _Flight, flying: dict[Any, _Flight], queue: Queue
    ) -> None:
        """Take in what a leg brought, and send the networks on their way again."""
        errors = self._ray.exceptions
        try:
            report: Report = self._ray.get(reference)
            tensors = self._ray.get(flight.out)
        except errors.RayTaskError as error:
            if isinstance(error.cause, JaxnetError):
                raise error.cause from None
            raise  # the user's own
        except errors.OutOfMemoryError as error:
            self._too_large(flight, _first_line(error), queue)
            return
        except self._losses() as error:
            self._lost(flight, error, flying, queue)
            return
        if report.state == "too large":
            self._too_large(flight, report.text, queue)
            return
        if report.state == "unusable":
            raise WorkerError(
                f"the networks that a task was to go on with do not fit: {report.text}"
            )
        flight.failures, flight.step = 0, report.step
        flight.home, flight.at_hand = tensors, flight.out
        done = report.work if report.state == "going" else flight.work  # or what ended early
        flight.work -= done
        self._run.reporter.advance(max(0.0, done))
        self._run.meter.add(report.work, report.seconds)
        if report.state == "going":
            if flight.kept is not None:
                flight.kept.write(flight.task, report.step, tensors)
            self._launch(flight, flying)
            return
        here = dataclasses.replace(flight.task, devices=self.devices_here)
        stack = here.start(lambda _: self._run.data_for(here.structure), tensors)
        self._run.commit(stack, flight.ids, here.until, flight.kept)

    def _lost(
        self, flight: _Flight, error: Exception, flying: dict[Any, _Flight], queue: Queue
    ) -> None:
        """Hand out again what a worker or a node took with it."""
        flight.failures += 1
        why = f"{type(error).__name__}: {_first_line(error)}"
        LOG.warning(
            "on Ray: lost %d networks at step %d (%s), time %d of %d",
            len(flight.ids),
            flight.step,
            why,
            flight.failures,
            TRIES,
        )
        if flight.failures < TRIES:
            flight.at_hand = None  # it may be lost, too
            self._launch(flight, flying)
        else:  # a system without memory kills without a word
            self._too_large(flight, f"lost {TRIES} times, at last {why}", queue)

    def _too_large(self, flight: _Flight, why: str, queue: Queue) -> None:
        if flight.piece is None or not divisible(flight.piece):
            raise WorkerError(
                f"on Ray: {len(flight.ids)} networks could not be trained: {why}. Give tasks "
                f"more memory, or see the logs of Ray; what finished is kept"
            )
        LOG.warning("on Ray: too large with %d networks (%s)", flight.task.size, why)
        if flight.kept is not None:
            flight.kept.remove()
        self._run.too_large(flight.piece, queue)

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

    def _shipped(self, structure: Structure) -> tuple[Any, Any]:
        """Return references to the data of a structure, which are put once."""
        method = method_of(structure)
        if method not in self._data:
            run = self._run
            data = gather(run.splits, structure, run.data.input_shape, run.classes)
            # Raw pixels are the same for every elementwise preprocessing.
            raw = data.preprocessing.is_elementwise
            found = [ref for was_raw, ref in self._pixels if raw and was_raw]
            pixels = (
                found[0] if found else self._ray.put({"images": data.images, "labels": data.labels})
            )
            self._pixels.append((raw, pixels))
            empty = np.zeros(0, data.images.dtype)
            rest = dataclasses.replace(data, images=empty, labels=empty)
            self._data[method] = (self._ray.put(rest), pixels)
        return self._data[method]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
