"""One time slice of training in a stateless worker: values and arrays in, values and arrays out.

What a worker of `ray_executor` runs. Where a run is cut into calls changes no bit of it
(see `jaxnet.training.step`), so neither does it where slices begin and end, or on which machine.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.folder.folder import versions
from jaxnet.sweeps.machine.devices import cpu_devices, find_devices
from jaxnet.sweeps.stacks.prepared import HostData, PreparedData
from jaxnet.sweeps.stacks.task import Task
from jaxnet.training.numerics import pinned_flags
from jaxnet.training.settings import Structure

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """How a slice is run: for about so many seconds, on so many cores or GPUs, by which versions.

    `memory`: bytes that it may take beyond what the process has, or None. `program` and `data` name
    the structure and the preprocessed data, each the same in all tasks of a run.
    """

    seconds: float
    cpus: int
    gpus: int
    versions: Mapping[str, str]
    memory: int | None
    program: str
    data: str


@dataclass(frozen=True)
class SliceResult:
    """What became of a slice: "done", "going" (its time was over), "too large" or "unusable".

    `step` is how far the networks are, `work` the floating-point operations in the slice's matrix
    products, `seconds` its time.
    """

    state: str
    step: int = 0
    work: float = 0.0
    seconds: float = 0.0
    text: str = ""


@pinned_flags()
def run_slice(
    task: Task, data: HostData, pixels: Arrays, terms: Terms, tensors: Arrays | None
) -> tuple[SliceResult, dict[str, np.ndarray]]:
    """Train until the task is done or the time is over; return the result and the stack's tensors.

    `data` come without their images and labels, which are `pixels`: they come once for all tasks.
    """
    _set_up(terms)
    structure = _structures.setdefault(terms.program, task.program.structure)
    task = replace(task, program=replace(task.program, structure=structure))
    work, started, state = 0.0, time.monotonic(), "done"

    def on(devices: int) -> PreparedData:
        return _on_device(replace(data, **pixels), terms.data, devices)

    try:
        with _limited(terms.memory):
            try:
                stack = task.start(on, tensors)
            except (KeyError, ValueError) as error:
                if tensors is None:
                    raise
                return SliceResult("unusable", text=str(error)), {}
            for advance in stack.train():
                work += advance.steps * advance.slots * stack.flops_per_step
                if time.monotonic() - started > terms.seconds:
                    state = "going"
                    break
            seconds = time.monotonic() - started
            return SliceResult(state, stack.step, work, seconds), stack.tensors()
    except MemoryError as error:
        return SliceResult("too large", text=f"MemoryError: {error}"), {}
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return SliceResult("too large", text=str(error).splitlines()[0]), {}


def accelerator_memory() -> float:
    """Return half of the bytes of the accelerators that this process has."""
    return sum((device.memory_stats() or {})["bytes_limit"] for device in jax.local_devices()) / 2


def _set_up(terms: Terms) -> None:
    """Let JAX use what the task was given, before it computes anything; refuse other versions."""
    if not terms.gpus:
        # XLA reads the size of its thread pool here; the default is every core of the node.
        os.environ["NPROC"] = str(terms.cpus)
        jax.config.update("jax_platforms", "cpu")
        cpu_devices(terms.cpus)
    own, theirs = versions(), terms.versions
    if differ := [name for name in {**own, **theirs} if own.get(name) != theirs.get(name)]:
        ours, asked = (
            ", ".join(f"{name} {found.get(name, 'not set')}" for name in differ)
            for found in (own, theirs)
        )
        raise ConfigurationError(
            f"a node of the cluster has {ours}, the sweep is of {asked}: install the same versions "
            f"everywhere, and set the same flags"
        )


# What a process keeps between tasks saves time and decides nothing: the data of the last
# preprocessing on the device, and structures with functions of the user, which arrive as new
# objects with every task and would be compiled anew.
_data: dict[tuple[str, int], PreparedData] = {}
_structures: dict[str, Structure] = {}


def _on_device(data: HostData, name: str, devices: int) -> PreparedData:
    if (name, 1) not in _data:
        _data.clear()
        _data[name, 1] = data.to_device()
    if (name, devices) not in _data:
        _data[name, devices] = _data[name, 1].on(len(find_devices(devices)))
    return _data[name, devices]


@contextlib.contextmanager
def _limited(extra: int | None) -> Iterator[None]:
    """Let allocations fail that would take the process so far beyond what it has (Linux only).

    An allocation that fails is an error of this task; a node without memory is one of all.
    """
    if extra is None or not Path(STATUS).exists():
        yield
        return
    import resource

    (line,) = (
        x for x in Path(STATUS).read_text(encoding="ascii").splitlines() if x.startswith("VmData:")
    )
    before = resource.getrlimit(resource.RLIMIT_DATA)
    now = int(line.split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (now + extra + SLACK, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


STATUS = "/proc/self/status"
SLACK = 2**30  # for the compiler, and the stacks of threads
