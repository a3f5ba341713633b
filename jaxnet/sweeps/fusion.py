"""Decides which configurations share a compiled program.

Widths differ by zero padding or pieces; seeds get minibatches of their own. Decisions use fixed
nominal costs, never timings, so that a sweep is always planned the same way: results that agree bit
by bit depend on it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnet.kernels.form import current_form
from jaxnet.sweeps.cost import program_flops
from jaxnet.training.blocks import blocks_of, can_be_cut
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration, Shapes, Structure

# (products in FLOP/s, seconds to compile a program, seconds of a step whatever its products)
NOMINAL = {"cpu": (2e11, 1.5, 1e-4), "gpu": (3e13, 4.0, 5e-5)}
RATIOS = (1.0, 1.02, 1.05, 1.1, 1.15, 1.25, 1.4, 1.6, 2.0, 3.0, 5.0, 10.0, 1e9)

# FLOPs per step below which the networks of one seed do not fill the machine and join other seeds.
SEEDS_APART_MIN_FLOPS = {"cpu": 1e8, "gpu": 3e10}


# FLOPs per step of one network up to which CPU devices train a stack faster than one program, or
# as fast. Milliseconds a step on 2 cores, one device / two, by networks and sizes at a batch size:
# 16 of 2-32-2 at 32: 0.077 / 0.040; 1,000 of them: 3.7 / 2.1; 10,000 of them: 52 / 53, and 1,000 of
# 784-10-10 at 32: 34 / 32, where memory sets the rate; 64 of 784-100-10 at 200: 19.7 / 21.8; 48 of
# 3072-80-10 at 200: 51 / 60; 12 of 3072-100-10 at 500: 30 / 34.
# The figures for 2-32-2 were measured before small products were summed in loops
# (`kernels.products`).
CPU_SPLIT_MAX_FLOPS = 4e6
CPU_SPLIT_MIN_NETWORKS = 4  # on each device, unless the user asked for a number of devices


# Activations (a count) of all networks that train at once on a CPU, beyond which they no longer
# stay in its caches. Microseconds a network and step, 2-32-2 at batch 32, by networks at once:
# 1,000: 4.2; 2,000: 4.0; 4,000: 4.7; 10,000: 6.7. Networks with more activations each have wide
# products, whose rate does not depend on caches: so at least CPU_MIN_AT_ONCE train at once.
CPU_CACHED_ACTIVATIONS = 2**21
CPU_MIN_AT_ONCE = 64


def nominal(table: Mapping[str, Any]) -> Any:
    """Return the entry of a table for the platform in force."""
    return table["cpu" if current_form().on_cpu else "gpu"]


def devices_for(networks: int, flops_per_step: float, devices: int, asked: bool = False) -> int:
    """Return among how many of the devices to divide networks.

    Networks are always divided among accelerators. CPU devices share their cores, so that a program
    that keeps all cores busy gains nothing; networks of few FLOPs do not keep them busy.
    """
    if asked or not current_form().on_cpu:
        return min(networks, devices)
    if flops_per_step >= CPU_SPLIT_MAX_FLOPS:
        return 1
    return max(1, min(networks // CPU_SPLIT_MIN_NETWORKS, devices))


def most_at_once(structure: Structure, classes: int, devices: int) -> float | int:
    """Return how many networks to train at once if memory is no matter."""
    if structure.takes_images or not current_form().on_cpu:
        return math.inf
    each = structure.batch_size * (sum(structure.hidden) + classes)
    return max(CPU_MIN_AT_ONCE, CPU_CACHED_ACTIVATIONS // each) * devices


def why_divided() -> str:
    """Return why `devices_for` divides networks without being asked."""
    if current_form().on_cpu:
        return "the products of one network are too small to keep every core busy"
    return "accelerators work independently"


def family_of(configuration: Configuration) -> Structure:
    """Return what networks have in common that can be padded to one width.

    Any norm and activation can: what is beyond the true width is kept at zero. Not an optimizer
    that we do not know, nor one that divides zero by zero (eps = 0), nor a user's model.
    """
    structure = configuration.structure
    zero = configuration.numbers.get("eps", 1.0) == 0
    if structure.model is not None or not isinstance(structure.optimizer, str) or zero:
        return structure
    return dataclasses.replace(structure, hidden=(0,) * len(structure.hidden))


def bucket(
    members: Mapping[Structure, Sequence[int]],
    steps: int,
    shapes: Shapes,
    *,
    in_blocks: bool = False,
) -> dict[Program, list[int]]:
    """Return the programs to compile for a family, and who trains in each.

    Widths are rounded up to a ladder of constant ratio, the one that costs the least time: fine
    ladders compile more programs, coarse ones multiply more zeros. Or they are cut into blocks, if
    that is allowed, possible and costs less: one program, and zeros in each last block only.
    """
    if len(members) == 1:
        return {
            Program(structure, shapes, Layout(size=len(ids))): list(ids)
            for structure, ids in members.items()
        }
    rate, compiling, per_step = nominal(NOMINAL)

    def cost(programs: Mapping[Program, Sequence[int]]) -> float:
        work = [program_flops(program) for program in programs]
        return sum(compiling + steps * (per_step + own / rate) for own in work)

    ways = [_cells(members, shapes, ratio) for ratio in RATIOS]
    if in_blocks and can_be_cut(next(iter(members))):
        ways.append(_in_blocks(members, shapes))
    return min(ways, key=cost)


def blocks_together(structures: Sequence[Structure], shapes: Shapes) -> Program:
    """Return the program for two-layer networks of these structures, side by side in blocks.

    Networks of one width stay whole.
    """
    widths = [structure.hidden[0] for structure in structures]
    if len(set(widths)) == 1:
        return Program(structures[0], shapes, Layout(size=len(widths)))
    widest = dataclasses.replace(structures[0], hidden=(max(widths),))
    return Program(widest, shapes, Layout(size=len(widths), padded=True, blocks=blocks_of(widths)))


def _in_blocks(
    members: Mapping[Structure, Sequence[int]], shapes: Shapes
) -> dict[Program, list[int]]:
    program = blocks_together([s for s, ids in members.items() for _ in ids], shapes)
    return {program: sorted(i for ids in members.values() for i in ids)}


def _cells(
    members: Mapping[Structure, Sequence[int]], shapes: Shapes, ratio: float
) -> dict[Program, list[int]]:
    rungs: dict[tuple[int, ...], list[Structure]] = {}
    for structure in members:
        rung = tuple(
            width if ratio == 1 else math.floor(math.log(width) / math.log(ratio) + 1e-9)
            for width in structure.hidden
        )
        rungs.setdefault(rung, []).append(structure)
    cells = {}
    for inside in rungs.values():
        widest = tuple(map(max, zip(*(structure.hidden for structure in inside), strict=True)))
        padded = any(structure.hidden != widest for structure in inside)
        ids = sorted(i for structure in inside for i in members[structure])
        held = dataclasses.replace(inside[0], hidden=widest)
        cells[Program(held, shapes, Layout(size=len(ids), padded=padded))] = ids
    return cells


def fitting_size(networks: int, size: int, flops_each: float) -> int:
    """Return the number of places for networks that had `size`: halved as often as is worth it.

    Each half is a program that compiles once. `flops_each` is the work that a place still costs.
    """
    smaller = size
    while smaller > 1 and networks <= math.ceil(smaller / 2):
        smaller = math.ceil(smaller / 2)
    rate, compiling, _ = nominal(NOMINAL)
    return smaller if (size - smaller) * flops_each > compiling * rate else size


def by_seed(
    ids: Sequence[int], configurations: Sequence[Configuration], flops_per_step: float
) -> list[tuple[list[int], bool]]:
    """Return the ids that train together, and whether they share the minibatches of one seed.

    Sharing makes the first products of all networks one wide product, so every seed is a group;
    but networks too few and small to fill the machine are better off with those of other seeds.
    """
    seeds: dict[int, list[int]] = {}
    for i in ids:
        seeds.setdefault(configurations[i].seed, []).append(i)
    largest = max(map(len, seeds.values()))
    if len(seeds) > 1 and largest * flops_per_step < nominal(SEEDS_APART_MIN_FLOPS):
        return [(list(ids), False)]
    return [(some, True) for some in seeds.values()]
