"""Decides which configurations share a compiled program.

Widths differ by zero padding or blocks; seeds get minibatches of their own. Decisions use fixed
nominal costs (see `rates`), never timings.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.machine.rates import nominal_costs, seeds_apart_min_flops
from jaxnet.training.blocks import blocks_of, can_be_cut
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration, Shapes, Structure

RATIOS = (1.0, 1.02, 1.05, 1.1, 1.15, 1.25, 1.4, 1.6, 2.0, 3.0, 5.0, 10.0, 1e9)
"""Of neighbouring widths on a ladder: each is tried, and the cheapest is taken."""


def family_of(configuration: Configuration) -> Structure:
    """Return what networks have in common that can be padded to one width.

    Any norm and activation can, and any optimizer that keeps at zero what is beyond the true width.
    """
    structure, rule = configuration.structure, configuration.structure.rule
    if not structure.row.is_chain or rule is None or not rule.keeps_zeros_at(configuration.numbers):
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
    rate, compiling, per_step = nominal_costs()

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


def by_seed(
    ids: Sequence[int], configurations: Sequence[Configuration], flops_per_step: float
) -> list[tuple[list[int], bool]]:
    """Return the ids that train together, and whether they share the minibatches of one seed.

    Sharing makes the first products of all networks one wide product, so every seed is a group;
    but networks too few and small to fill the machine are better off with networks of other seeds.
    """
    seeds: dict[int, list[int]] = {}
    for i in ids:
        seeds.setdefault(configurations[i].seed, []).append(i)
    largest = max(map(len, seeds.values()))
    if len(seeds) > 1 and largest * flops_per_step < seeds_apart_min_flops():
        return [(list(ids), False)]
    return [(some, True) for some in seeds.values()]
