"""Which configurations train together: one chunk is one call of one compiled program.

A group is what one program can train: configurations of one structure. They share minibatches
where they share the seed; small networks of many seeds train together all the same, each on its
own minibatches. Hidden layers of different widths are held as wide as the widest and padded with
zeros where that costs less time than another program, or lie side by side in pieces of one width.
A group too large for the memory, or of more activations than caches hold, is cut into chunks of
equal size, the last one filled up, so that all run one compilation.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxnet.configuration import Configuration, Structure
from jaxnet.host.terminal import printable
from jaxnet.pieces import PIECE, pieces_of
from jaxnet.sweeps.cost import compiled_bytes, estimated_bytes, stack_flops, step_flops
from jaxnet.sweeps.devices import fill
from jaxnet.sweeps.fusion import (
    bucket,
    by_seed,
    devices_for,
    family_of,
    in_pieces_together,
    most_at_once,
    why_divided,
)
from jaxnet.sweeps.halving import Halving, plain_work
from jaxnet.sweeps.prepared import method_of
from jaxnet.values.identified import Identified, tell_apart


@dataclass(frozen=True)
class Chunk:
    """Configurations that train together, by their place in the space.

    `size` is the number of networks of the program: the ids, and copies of the last one that fill
    it up, whose results are dropped.
    """

    ids: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Group:
    """Configurations of one program; `structure` is the program's, `padded` if held wider.

    `traced` names the numbers that differ among them; they enter the program as arrays. `shared`:
    all have one seed and see the same minibatches. `begin` is the step that they go on from.
    `devices` is the number that each chunk is divided among.
    """

    structure: Structure
    shared: bool
    traced: tuple[str, ...]
    seeds: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    bytes_per_network: int
    flops_per_step: float  # of one network
    waste: float  # share of the work that is padding
    begin: int = 0
    devices: int = 1

    @property
    def networks(self) -> int:
        """Return how many configurations there are."""
        return sum(len(chunk.ids) for chunk in self.chunks)

    @property
    def size(self) -> int:
        """Return how many networks train at once: all chunks have the same number."""
        return self.chunks[0].size

    @property
    def places(self) -> int:
        """Return how many networks all chunks hold, those that fill up included."""
        return self.size * len(self.chunks)


@dataclass(frozen=True)
class Capacity:
    """What there is to train with: bytes for what trains at once, and devices to divide it among.

    Devices are used where that is faster, or anyway if `asked` for. So many `workers` have all
    that each, and train at the same time.
    """

    memory: float | int
    devices: int = 1
    asked: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Plan:
    """What a sweep is going to do: data, no more. `str(plan)` is a table of it."""

    groups: tuple[Group, ...]
    steps: int
    memory: float | int
    halving: Halving | None = None
    units: int = 0  # configurations without their replicates, which a halving cuts together
    scored: int = 0  # rows that each network scores in its evaluations, the last one included
    division: str = ""  # why chunks are divided among devices
    workers: int = 1  # that train chunks at the same time

    @property
    def configurations(self) -> int:
        """Return how many configurations are trained."""
        return sum(group.networks for group in self.groups)

    @property
    def chunks(self) -> list[Chunk]:
        """Return the chunks in the order to run them."""
        return [chunk for group in self.groups for chunk in group.chunks]

    @property
    def programs(self) -> int:
        """Return how many programs are compiled: seeds and values of numbers need none."""
        return len({(g.structure, g.shared, g.size, g.devices) for g in self.groups})

    @property
    def share(self) -> float:
        """Return the share of all steps that is trained: below 1 with a halving."""
        if self.halving is None or not self.units:
            return 1.0
        brackets = self.halving.deal(self.units, self.steps, seed=0)
        return plain_work(self.steps, brackets, self.halving)

    @property
    def flops(self) -> float:
        """Return the floating-point operations in the matrix products of all steps."""
        return self.share * sum(self._flops(group) for group in self.groups)

    def _flops(self, group: Group) -> float:
        return (self.steps - group.begin) * group.places * group.flops_per_step

    @property
    def bytes(self) -> int:
        """Return the memory of the largest chunk, by estimate."""
        return max((group.size * group.bytes_per_network for group in self.groups), default=0)

    @property
    def split_by(self) -> list[str]:
        """Return the settings that differ between groups, each combination of which is one."""
        values = [_static(group) for group in self.groups]
        return [name for name in values[0] if len({repr(v[name]) for v in values}) > 1]

    def __str__(self) -> str:
        """Return groups, chunks, programs, memory and work as a table."""
        if not self.groups:
            return "Nothing is left to train."
        shown = self.split_by or _usual(self.groups[0])
        divided = ["devices"] if any(group.devices > 1 for group in self.groups) else []
        cells = [_cells([_static(group)[name] for group in self.groups]) for name in shown]
        header = [*shown, "networks", "at once", *divided, "chunks", "as arrays", "MB", "TFLOP"]
        rows = [
            [
                *own,
                str(group.networks),
                str(group.size),
                *[str(group.devices) for _ in divided],
                str(len(group.chunks)),
                ", ".join(group.traced) or "–",
                f"{group.size * group.bytes_per_network / 1e6:.1f}",
                f"{self._flops(group) / 1e12:.3g}",
            ]
            for group, own in zip(self.groups, zip(*cells, strict=True), strict=True)
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [header, *rows]
        ]
        head = (
            f"{self.configurations} configurations × {self.steps} steps: "
            f"{_count(len(self.groups), 'group')}, {_count(len(self.chunks), 'chunk')}, "
            f"{_count(self.programs, 'program')} to compile, {self.flops / 1e12:.3g} TFLOP; "
            f"at most {self.bytes / 1e6:.0f} MB of {self.memory / 1e6:.0f} MB at once."
        )
        return printable("\n".join([head, *self._reasons(shown), "", *lines]))

    def _reasons(self, shown: list[str]) -> list[str]:
        """Return why it is so, one sentence a line."""
        reasons = ["All share one program."]
        if len(self.groups) > 1:
            reasons = [f"Split by {', '.join(shown)}: each combination is a group of its own."]
        cut = [group for group in self.groups if group.structure.pieces]
        if cut:
            share = max(group.waste for group in cut)
            reasons.append(
                f"Hidden widths are cut into pieces of {PIECE} units side by side in "
                f"{_count(len(cut), 'group')}, the last ones filled up with zeros (at most "
                f"{share:.0%} of a group's work): cheaper here than as wide as the widest."
            )
        padded = [g for g in self.groups if g.structure.padded and not g.structure.pieces]
        if padded:
            share = max(group.waste for group in padded)
            reasons.append(
                f"Hidden widths are padded with zeros in {len(padded)} groups (at most "
                f"{share:.0%} of a group's work): cheaper here than a program for each width."
            )
        if any(not group.shared for group in self.groups):
            reasons.append(
                "Networks of several seeds train together, each on its own minibatches: they are "
                "small."
            )
        divided = [group.devices for group in self.groups if group.devices > 1]
        if divided:
            of = "Each chunk" if len(divided) == len(self.groups) else "Some chunks"
            reasons.append(f"{of} divided among {max(divided)} devices: {self.division}.")
        if any(len(group.chunks) > 1 for group in self.groups):
            why = "all at once would exceed the memory, or the processor's caches"
            if self.workers > 1:
                why = f"for {self.workers} workers, or {why}"
            reasons.append(f"More than one chunk: {why}.")
        if self.halving is not None:
            rungs = self.halving.rungs(self.steps, self.units)
            steps = " → ".join(map(str, rungs))
            reasons.append(
                f"Halving: {steps} steps, the best 1/{self.halving.eta:g} goes on; "
                f"{self.share:.0%} of the full work."
            )
        return reasons


def make_plan(
    configurations: Sequence[Configuration],
    input_shape: tuple[int, ...],
    classes: int,
    *,
    steps: int,
    capacity: Capacity,
    ids: Iterable[int] | None = None,
    begins: Sequence[int] | None = None,
    halving: Halving | None = None,
    units: int = 0,
    scored: int = 0,
    in_pieces: bool = True,
) -> Plan:
    """Return how to train these configurations, each chunk within the memory.

    `ids` are those to train (default: all); number i goes on from step begins[i] (default: 0).
    Without `in_pieces` networks train in programs that serve any mixture of widths up to theirs.
    """
    ids = range(len(configurations)) if ids is None else ids
    begins = [0] * len(configurations) if begins is None else begins
    families: dict[Any, dict[Structure, list[int]]] = {}
    for i in ids:
        own = configurations[i]
        family = (*family_of(own), begins[i])
        families.setdefault(family, {}).setdefault(own.structure, []).append(i)
    parts = []
    for members in families.values():
        flops = {
            structure: step_flops(
                structure, tuple(configurations[i[0]].numbers), input_shape, classes
            )
            for structure, i in members.items()
        }
        together = sorted(i for some in members.values() for i in some)
        least = min(flops.values())
        alone = devices_for(len(together), least, capacity.devices, capacity.asked) == 1
        shared = all(shared for _, shared in by_seed(together, configurations, least))
        cells = bucket(
            members,
            steps,
            input_shape,
            classes,
            in_pieces=in_pieces and halving is None and alone and shared,
        )
        for structure, inside in cells.items():
            numbers = tuple(configurations[inside[0]].numbers)
            each = stack_flops(structure, numbers, input_shape, classes, len(inside)) / len(inside)
            needed = sum(flops[configurations[i].structure] for i in inside)
            waste = 1 - needed / (each * len(inside)) if structure.padded else 0.0
            for some, shared in by_seed(inside, configurations, each):
                if not structure.pieces:
                    parts.append((structure, shared, some, each, waste))
                    continue
                held = in_pieces_together([configurations[i].structure for i in some])
                own = stack_flops(held, numbers, input_shape, classes, len(some)) / len(some)
                needed = sum(flops[configurations[i].structure] for i in some)
                parts.append((held, shared, some, own, 1 - needed / (own * len(some))))
    work = [each * len(some) * (steps - begins[some[0]]) for _, _, some, each, _ in parts]
    # Every worker has something to do, and no product is narrower than that takes.
    share = capacity.workers / max(sum(work), 1.0)
    groups = [
        _group(
            structure,
            shared,
            some,
            each,
            waste,
            configurations,
            input_shape,
            classes,
            capacity,
            least=math.floor(share * own + 0.5),
            begin=begins[some[0]],
        )
        for (structure, shared, some, each, waste), own in zip(parts, work, strict=True)
    ]
    # Preprocessed data are made once for each method: keep the groups of one together.
    methods = list(dict.fromkeys(method_of(configurations[i].structure) for i in ids))
    groups.sort(key=lambda group: methods.index(method_of(group.structure)))
    division = "as asked for" if capacity.asked else why_divided()
    return Plan(
        tuple(groups), steps, capacity.memory, halving, units, scored, division, capacity.workers
    )


def _group(
    structure: Structure,
    shared: bool,
    ids: Sequence[int],
    flops: float,
    waste: float,
    configurations: Sequence[Configuration],
    input_shape: tuple[int, ...],
    classes: int,
    capacity: Capacity,
    *,
    least: int,
    begin: int,
) -> Group:
    """Return a group cut into chunks for the memory, and at `least` so many if it has as many."""
    names = tuple(configurations[ids[0]].numbers)
    fixed, each = 0, estimated_bytes(structure, input_shape, classes)
    if structure.model is not None or len(ids) * each > capacity.memory:
        # The estimate is from above: ask the compiler before cutting.
        fixed, each = compiled_bytes(structure, names, input_shape, classes, shared)
    most = max(1, int((capacity.memory - fixed) / each))
    devices = min(most, devices_for(len(ids), flops, capacity.devices, capacity.asked))
    most = int(min(most, most_at_once(structure, classes, devices)))
    count = max(math.ceil(len(ids) / (most - most % devices)), min(least, len(ids)))
    size = fill(math.ceil(len(ids) / count), devices)
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    if structure.pieces:
        # One program has as many pieces for every chunk: deal them, for chunks of equal width.
        ids = sorted(ids, key=lambda i: configurations[i].structure.hidden[0], reverse=True)
        parts = [ids[start :: len(parts)] for start in range(len(parts))]
        widths = [[configurations[i].structure.hidden[0] for i in part] for part in parts]
        filled = [own + [own[-1]] * (size - len(own)) for own in widths]
        structure = dataclasses.replace(structure, pieces=max(map(pieces_of, filled)))
        needed = (1 - waste) * flops
        flops = stack_flops(structure, names, input_shape, classes, size) / size
        waste = 1 - needed / flops
    chunks = tuple(Chunk(tuple(part), size) for part in parts)
    numbers = [configurations[i].numbers for i in ids]
    traced = [name for name in names if len({n[name] for n in numbers}) > 1]
    if structure.padded:
        traced.append("hidden")
    seeds = tuple(dict.fromkeys(configurations[i].seed for i in ids))
    if len(seeds) > 1:
        traced.append("seed")
    return Group(
        structure, shared, tuple(traced), seeds, chunks, each, flops, waste, begin, devices
    )


def _static(group: Group) -> dict[str, Any]:
    hidden = {"arguments", "padded", "pieces"}
    fields = [f.name for f in dataclasses.fields(Structure) if f.name not in hidden]
    values = {name: getattr(group.structure, name) for name in fields}
    values |= {name: v.value if v.is_plain else v for name, v in group.structure.arguments}
    seeds = group.seeds[0] if len(group.seeds) == 1 else f"{len(group.seeds)} seeds"
    return values | {"seed": seeds, "begin": group.begin}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _usual(group: Group) -> list[str]:
    own = "model" if group.structure.model is not None else "hidden"
    if group.structure.is_convolutional:
        own = "architecture"
    return [own, "batch_size"]


def _cells(values: Sequence[Any]) -> list[str]:
    """Return what a column of the table shows of the values of one setting."""
    texts = tell_apart([value for value in values if isinstance(value, Identified)])
    return [
        texts[value.fingerprint]
        if isinstance(value, Identified)
        else "-".join(map(str, value)) or "none"
        if isinstance(value, tuple)
        else str(value)
        for value in values
    ]
