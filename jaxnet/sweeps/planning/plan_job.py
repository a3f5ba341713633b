"""The plan of a job on the machine at hand, and what no machine could train."""

from collections.abc import Iterable, Sequence

from jaxnet.arguments.checks import number, whole
from jaxnet.arguments.signatures import checked
from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps.machine.cost import estimated_bytes, memory_budget
from jaxnet.sweeps.machine.devices import find_devices
from jaxnet.sweeps.planning.plan import Capacity, Plan, make_plan
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.stacks.prepared import shapes_of
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration, Structure

BEYOND = 8  # times the default budget, a quarter of the host's memory: no machine has as much


def capacity_here(memory: float | int | None, devices: int | None) -> Capacity:
    """Return what this process has room for: as asked for, or of all its devices."""
    found = find_devices(devices)
    if memory is None:
        shared = found[0].platform == "cpu"  # CPU devices share the host's memory
        memory = memory_budget() * (1 if shared else len(found))
    return Capacity(memory, len(found), devices is not None)


def check_budget(memory: float | int | None) -> None:
    """Raise ConfigurationError for what is no number of bytes."""
    if memory is not None:
        number("memory", memory, 0, above=True)


@checked
def plan_job(
    job: Job,
    data: DataSet,
    *,
    memory: float | int | None = None,
    ids: Iterable[int] | None = None,
    begins: Sequence[int] | None = None,
    devices: int | None = None,
    capacity: Capacity | None = None,
    in_blocks: bool = True,
) -> Plan:
    """Return what `run_job` would do; ConfigurationError if one network needs more than memory.

    `capacity` is what other processes than this one have; `in_blocks` see `make_plan`.
    """
    check_budget(memory)
    (train, validation), configurations = job.sizes(data), job.configurations()
    ids = None if ids is None else [whole("ids", i, 0, len(configurations) - 1) for i in ids]
    if begins is not None and len(begins) != len(configurations):
        raise ConfigurationError(
            f"begins: expected a step for each of the {len(configurations)} configurations, got "
            f"{len(begins)}"
        )
    capacity = capacity or capacity_here(memory, devices)
    _check_sizes(configurations, data, BEYOND * max(capacity.memory, memory_budget()))
    found = make_plan(
        configurations,
        shapes_of(data),
        steps=job.steps,
        capacity=capacity,
        ids=ids,
        begins=begins,
        halving=job.halving,
        units=0 if job.halving is None else len(job.units()),
        scored=job.evaluations * validation + train,
        in_blocks=in_blocks,
    )
    for group in found.groups:
        if memory is not None and group.bytes_per_network > memory:
            raise _too_large(group.program.structure, group.bytes_per_network, memory)
    return found


def _check_sizes(configurations: Sequence[Configuration], data: DataSet, most: float) -> None:
    """Refuse what no machine could train before the compiler, which ends the process over it."""
    for structure in {c.structure for c in configurations if c.structure.model is None}:
        size = estimated_bytes(Program(structure, shapes_of(data)))
        if size > most:
            raise _too_large(structure, size, most)


def _too_large(structure: Structure, size: int, most: float | int) -> ConfigurationError:
    return ConfigurationError(
        f"memory: one network of hidden {str(structure.hidden)[:100]}, batch size "
        f"{structure.batch_size} takes {size} bytes by estimate, got a budget of {most:.0f}: "
        f"raise it, or shrink the network"
    )
