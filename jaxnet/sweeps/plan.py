"""Which configurations train together: one chunk is one call of one compiled program.

Configurations of one structure and one seed share a program and its minibatches, so they form a
group; a group too large for the memory is cut into chunks of equal size, the last one padded, so
that all chunks of a structure run one compilation.
"""

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

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


def plan_chunks(
    configurations: Sequence[Configuration], features: int, classes: int, *, memory: float
) -> list[Chunk]:
    """Return the chunks in the order to run them, each within `memory` bytes by estimate."""
    groups: dict[tuple[Structure, int], list[int]] = {}
    for i, configuration in enumerate(configurations):
        groups.setdefault((configuration.structure, configuration.seed), []).append(i)
    # Preprocessed data are made once for each method: keep the groups of one together.
    methods = list(dict.fromkeys(preprocessing_of(structure) for structure, _ in groups))
    chunks = []
    for (structure, _), ids in sorted(
        groups.items(), key=lambda group: methods.index(preprocessing_of(group[0][0]))
    ):
        most = max(1, int(memory / network_bytes(structure, features, classes)))
        count = math.ceil(len(ids) / most)
        size = math.ceil(len(ids) / count)
        flops = step_flops(structure, features, classes) * size
        for start in range(0, len(ids), size):
            chunks.append(Chunk(tuple(ids[start : start + size]), size, flops))
    return chunks


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
