"""Which configurations train together: one chunk is one call of one compiled program.

Configurations of one structure and one seed share a program and its minibatches, so they form a
group; a group too large for the memory is cut into chunks of equal size, the last one padded, so
that all chunks of a structure run one compilation.
"""

import dataclasses
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxnet.configuration import Configuration, Structure


@dataclass(frozen=True)
class Chunk:
    """Configurations that train together, by their place in the space.

    `size` is the number of networks of the program: the ids, and copies of the last one that fill
    it up, whose results are dropped.
    """

    ids: tuple[int, ...]
    size: int
    flops_per_step: float


@dataclass(frozen=True)
class Group:
    """Configurations of one structure and one seed: they share minibatches and a program.

    `traced` names the numbers that differ among them; they enter the program as arrays.
    """

    structure: Structure
    seed: int
    traced: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    bytes_per_network: int

    @property
    def networks(self) -> int:
        """Return how many configurations there are."""
        return sum(len(chunk.ids) for chunk in self.chunks)

    @property
    def size(self) -> int:
        """Return how many networks train at once: all chunks have the same number."""
        return self.chunks[0].size


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do: data, no more. `str(plan)` is a table of it."""

    groups: tuple[Group, ...]
    steps: int
    memory: float | int

    @property
    def chunks(self) -> list[Chunk]:
        """Return the chunks in the order to run them."""
        return [chunk for group in self.groups for chunk in group.chunks]

    @property
    def configurations(self) -> int:
        """Return how many configurations are trained."""
        return sum(group.networks for group in self.groups)

    @property
    def programs(self) -> int:
        """Return how many programs are compiled: seeds and values of numbers need none."""
        return len({(group.structure, group.size) for group in self.groups})

    @property
    def flops(self) -> float:
        """Return the floating-point operations in the matrix products of all steps."""
        return self.steps * sum(chunk.flops_per_step for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        """Return the memory of the largest chunk, by estimate from above."""
        return max((group.size * group.bytes_per_network for group in self.groups), default=0)

    @property
    def split_by(self) -> list[str]:
        """Return the settings that differ between groups, each combination of which is one."""
        values = [_static(group) for group in self.groups]
        return [name for name in values[0] if len({repr(v[name]) for v in values}) > 1]

    def __str__(self) -> str:
        """Return groups, chunks, programs, memory and work as a table."""
        shown = self.split_by or ["hidden", "batch_size"]
        header = [*shown, "networks", "at once", "chunks", "as arrays", "MB", "TFLOP"]
        rows = [
            [
                *(_cell(_static(group)[name]) for name in shown),
                str(group.networks),
                str(group.size),
                str(len(group.chunks)),
                ", ".join(group.traced) or "–",
                f"{group.size * group.bytes_per_network / 1e6:.1f}",
                f"{self.steps * sum(c.flops_per_step for c in group.chunks) / 1e12:.3g}",
            ]
            for group in self.groups
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [header, *rows]
        ]
        why = (
            f"Split by {', '.join(self.split_by)}: each combination is a program of its own."
            if self.split_by
            else "All share one program."
        )
        return "\n".join(
            [
                f"{self.configurations} configurations × {self.steps} steps: "
                f"{len(self.groups)} groups, {len(self.chunks)} chunks, "
                f"{self.programs} programs to compile, {self.flops / 1e12:.3g} TFLOP; "
                f"at most {self.bytes / 1e6:.0f} MB of {self.memory / 1e6:.0f} MB at once.",
                why,
                "",
                *lines,
            ]
        )


def make_plan(
    configurations: Sequence[Configuration],
    features: int,
    classes: int,
    *,
    steps: int,
    memory: float | int,
) -> Plan:
    """Return how to train these configurations, each chunk within `memory` bytes by estimate."""
    members: dict[tuple[Structure, int], list[int]] = {}
    for i, configuration in enumerate(configurations):
        members.setdefault((configuration.structure, configuration.seed), []).append(i)
    # Preprocessed data are made once for each method: keep the groups of one together.
    methods = list(dict.fromkeys(preprocessing_of(structure) for structure, _ in members))
    groups = []
    for (structure, seed), ids in sorted(
        members.items(), key=lambda group: methods.index(preprocessing_of(group[0][0]))
    ):
        each = network_bytes(structure, features, classes)
        most = max(1, int(memory / each))
        count = math.ceil(len(ids) / most)
        size = math.ceil(len(ids) / count)
        flops = step_flops(structure, features, classes) * size
        chunks = tuple(
            Chunk(tuple(ids[start : start + size]), size, flops)
            for start in range(0, len(ids), size)
        )
        numbers = [configurations[i].numbers for i in ids]
        traced = tuple(name for name in numbers[0] if len({n[name] for n in numbers}) > 1)
        groups.append(Group(structure, seed, traced, chunks, each))
    return Plan(tuple(groups), steps, memory)


def _static(group: Group) -> dict[str, Any]:
    fields = dataclasses.fields(Structure)
    return {f.name: getattr(group.structure, f.name) for f in fields} | {"seed": group.seed}


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return getattr(value, "__name__", str(value))


def preprocessing_of(structure: Structure) -> tuple[str, int | None, float | None]:
    """Return what the preprocessing of the images depends on: method, components, variance."""
    return structure.preprocessing, structure.components, structure.variance


def layer_sizes(structure: Structure, features: int, classes: int) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of each affine layer."""
    widths = [features, *structure.hidden, classes]
    return list(itertools.pairwise(widths))


def step_flops(structure: Structure, features: int, classes: int) -> float:
    """Return the floating-point operations in the matrix products of one network's step.

    2·batch·inputs·outputs each for x·W, xᵀ·dout and dout·Wᵀ; the first layer has no use for the
    last one.
    """
    products = [
        6 * inputs * outputs for inputs, outputs in layer_sizes(structure, features, classes)
    ]
    return structure.batch_size * (sum(products) - products[0] / 3)


def network_bytes(structure: Structure, features: int, classes: int) -> int:
    """Return an estimate from above of the memory that one network in training takes.

    Weights, gradients, two arrays of optimizer state and the next weights; of each activation its
    value, its gradient and what normalization and dropout keep, for a batch or an evaluation.
    """
    sizes = layer_sizes(structure, features, classes)
    parameters = sum((inputs + 1) * outputs for inputs, outputs in sizes)
    activations = sum(outputs for _, outputs in sizes) * max(structure.batch_size, 500)
    return (8 if structure.precision == "float64" else 4) * (6 * parameters + 6 * activations)


def memory_budget() -> float:
    """Return the bytes a chunk may take: half an accelerator's memory, a quarter of the host's."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return statistics["bytes_limit"] / 2
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4
    except (AttributeError, ValueError):  # no such call on Windows
        return 2 * 2**30
