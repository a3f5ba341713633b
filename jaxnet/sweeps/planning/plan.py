"""Which configurations train together: one chunk is one call of one compiled program.

A group is what one program can train: configurations of one structure. They share minibatches
where they share the seed; small networks of many seeds train together all the same, each on its
own minibatches. Hidden layers of different widths are held as wide as the widest and padded with
zeros where that costs less time than another program, or lie side by side in blocks of one width.
A group too large for the memory, or of more activations than caches hold, is cut into chunks of
equal size, the last one filled up, so that all run one compilation.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxnet.host.terminal import printable
from jaxnet.sweeps.machine.cost import compiled_bytes, estimated_bytes, program_flops, step_flops
from jaxnet.sweeps.machine.devices import fill
from jaxnet.sweeps.machine.rates import devices_for, most_at_once, why_divided
from jaxnet.sweeps.planning.grouping import blocks_together, bucket, by_seed, family_of
from jaxnet.sweeps.space.halving import Halving, plain_work
from jaxnet.sweeps.stacks.prepared import method_of
from jaxnet.training.blocks import BLOCK_WIDTH, blocks_of
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration, Shapes, Structure
from jaxnet.values.identified import Identified, tell_apart


@dataclass(frozen=True)
class Chunk:
    """Configurations that train together, by their place in the space.

    `size` is the number of networks of the program: the ids, and copies of the last one that fill
    it up, whose results are dropped.
    """

    ids: tuple[int, ...]
    size: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """Configurations that train in one program, cut into chunks of its size.

    `traced` names the settings that differ among them; they enter the program as arrays. `begin`
    is the step that they go on from.
    """

    program: Program
    chunks: tuple[Chunk, ...]
    begin: int
    traced: tuple[str, ...]
    seeds: tuple[int, ...]
    bytes_per_network: int
    waste: float  # share of the work that is padding

    @property
    def networks(self) -> int:
        """Return how many configurations there are."""
        return sum(len(chunk.ids) for chunk in self.chunks)

    @property
    def bytes(self) -> int:
        """Return the memory of a chunk, by estimate."""
        return self.program.layout.size * self.bytes_per_network

    @property
    def flops_per_step(self) -> float:
        """Return the floating-point operations of a step of all chunks, filled slots included."""
        return len(self.chunks) * program_flops(self.program)


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


@dataclass(frozen=True, kw_only=True)
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
        return len({group.program for group in self.groups})

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
        return (self.steps - group.begin) * group.flops_per_step

    @property
    def bytes(self) -> int:
        """Return the memory of the largest chunk, by estimate."""
        return max((group.bytes for group in self.groups), default=0)

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
        layouts = [group.program.layout for group in self.groups]
        divided = ["devices"] if any(layout.devices > 1 for layout in layouts) else []
        cells = [_cells([_static(group)[name] for group in self.groups]) for name in shown]
        header = [*shown, "networks", "at once", *divided, "chunks", "as arrays", "MB", "TFLOP"]
        rows = [
            [
                *own,
                str(group.networks),
                str(layout.size),
                *[str(layout.devices) for _ in divided],
                str(len(group.chunks)),
                ", ".join(group.traced) or "–",
                f"{group.bytes / 1e6:.1f}",
                f"{self._flops(group) / 1e12:.3g}",
            ]
            for group, layout, own in zip(
                self.groups, layouts, zip(*cells, strict=True), strict=True
            )
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
        layouts = [group.program.layout for group in self.groups]
        cut = [group for group in self.groups if group.program.layout.blocks]
        if cut:
            share = max(group.waste for group in cut)
            reasons.append(
                f"Hidden widths are cut into blocks of {BLOCK_WIDTH} units side by side in "
                f"{_count(len(cut), 'group')}, the last ones filled up with zeros (at most "
                f"{share:.0%} of a group's work): cheaper here than as wide as the widest."
            )
        padded = [
            group
            for group, layout in zip(self.groups, layouts, strict=True)
            if layout.padded and not layout.blocks
        ]
        if padded:
            share = max(group.waste for group in padded)
            reasons.append(
                f"Hidden widths are padded with zeros in {len(padded)} groups (at most "
                f"{share:.0%} of a group's work): cheaper here than a program for each width."
            )
        if not all(layout.shared for layout in layouts):
            reasons.append(
                "Networks of several seeds train together, each on its own minibatches: they are "
                "small."
            )
        divided = [layout.devices for layout in layouts if layout.devices > 1]
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
    shapes: Shapes,
    *,
    steps: int,
    capacity: Capacity,
    ids: Iterable[int] | None = None,
    begins: Sequence[int] | None = None,
    halving: Halving | None = None,
    units: int = 0,
    scored: int = 0,
    in_blocks: bool = True,
) -> Plan:
    """Return how to train these configurations, each chunk within the memory.

    `ids` are those to train (default: all); number i goes on from step begins[i] (default: 0).
    Without `in_blocks` networks train in programs that serve any mixture of widths up to theirs.
    """
    ids = range(len(configurations)) if ids is None else ids
    begins = [0] * len(configurations) if begins is None else begins
    # A family may share a program once its widths are made equal. Networks that go on from another
    # step are another family: a program's steps are the same for all its networks.
    families: dict[tuple[Structure, int], dict[Structure, list[int]]] = {}
    for i in ids:
        own = configurations[i]
        families.setdefault((family_of(own), begins[i]), {}).setdefault(own.structure, []).append(i)
    parts: list[tuple[Program, list[int]]] = []
    for members in families.values():
        # Blocks are one long row of one seed's networks: not where devices divide a row, where
        # seeds share a program, or where a halving takes networks out of it again and again.
        together = sorted(i for some in members.values() for i in some)
        least = min(step_flops(structure, shapes) for structure in members)
        alone = devices_for(len(together), least, capacity.devices, capacity.asked) == 1
        shared = all(shared for _, shared in by_seed(together, configurations, least))
        cells = bucket(
            members,
            steps,
            shapes,
            in_blocks=in_blocks and halving is None and alone and shared,
        )
        for cell, inside in cells.items():
            each = program_flops(cell) / len(inside)
            for some, shared in by_seed(inside, configurations, each):
                program = cell.with_layout(size=len(some), shared=shared)
                if cell.layout.blocks:
                    program = blocks_together([configurations[i].structure for i in some], shapes)
                parts.append((program, some))
    work = [program_flops(program) * (steps - begins[some[0]]) for program, some in parts]
    # Every worker has something to do; more chunks than that would only narrow the products.
    share = capacity.workers / max(sum(work), 1.0)
    groups = [
        _group(
            program,
            some,
            configurations,
            capacity,
            least=math.floor(share * own + 0.5),
            begin=begins[some[0]],
        )
        for (program, some), own in zip(parts, work, strict=True)
    ]
    # Preprocessed data are made once for each method: keep the groups of one together.
    methods = list(dict.fromkeys(method_of(configurations[i].structure) for i in ids))
    groups.sort(key=lambda group: methods.index(method_of(group.program.structure)))
    division = "as asked for" if capacity.asked else why_divided()
    return Plan(
        groups=tuple(groups),
        steps=steps,
        memory=capacity.memory,
        halving=halving,
        units=units,
        scored=scored,
        division=division,
        workers=capacity.workers,
    )


def _group(
    program: Program,
    ids: Sequence[int],
    configurations: Sequence[Configuration],
    capacity: Capacity,
    *,
    least: int,
    begin: int,
) -> Group:
    """Return a group cut into chunks for the memory, and at `least` so many if it has as many."""
    structure, shapes = program.structure, program.shapes
    fixed, each = 0, estimated_bytes(program)
    if structure.model is not None or len(ids) * each > capacity.memory:
        # The estimate is from above: ask the compiler before cutting.
        fixed, each = compiled_bytes(program)
    # Memory first, then devices (as many networks each), then what the caches hold.
    most = max(1, int((capacity.memory - fixed) / each))
    flops = program_flops(program) / len(ids)
    devices = min(most, devices_for(len(ids), flops, capacity.devices, capacity.asked))
    most = int(min(most, most_at_once(structure, shapes.classes, devices)))
    count = max(math.ceil(len(ids) / (most - most % devices)), min(least, len(ids)))
    # Chunks of one size, the last one filled up: all of them run one compilation.
    size = fill(math.ceil(len(ids) / count), devices)
    parts = [ids[start : start + size] for start in range(0, len(ids), size)]
    blocks = program.layout.blocks
    if blocks:
        # One program has as many blocks for every chunk: deal them, for chunks of equal width.
        ids = sorted(ids, key=lambda i: configurations[i].structure.hidden[0], reverse=True)
        parts = [ids[start :: len(parts)] for start in range(len(parts))]
        widths = [[configurations[i].structure.hidden[0] for i in part] for part in parts]
        blocks = max(blocks_of(own + [own[-1]] * (size - len(own))) for own in widths)
    program = program.with_layout(size=size, blocks=blocks, devices=devices)
    chunks = tuple(Chunk(tuple(part), size) for part in parts)
    # What the networks need by themselves, of what the program does for as many as it is given.
    needed = sum(step_flops(configurations[i].structure, shapes) for i in ids)
    waste = 0.0
    if program.layout.padded:
        waste = 1 - needed / (len(ids) * program_flops(program) / size)
    values = [configurations[i].numbers for i in ids]
    traced = [n for n in structure.hyperparameter_names if len({own[n] for own in values}) > 1]
    if program.layout.padded:
        traced.append("hidden")
    seeds = tuple(dict.fromkeys(configurations[i].seed for i in ids))
    if len(seeds) > 1:
        traced.append("seed")
    return Group(
        program=program,
        chunks=chunks,
        begin=begin,
        traced=tuple(traced),
        seeds=seeds,
        bytes_per_network=each,
        waste=waste,
    )


_NOT_SHOWN = ("arguments", "hyperparameter_names")


def _static(group: Group) -> dict[str, Any]:
    structure = group.program.structure
    fields = [f.name for f in dataclasses.fields(Structure) if f.name not in _NOT_SHOWN]
    values = {name: getattr(structure, name) for name in fields}
    values |= {name: v.value if v.is_plain else v for name, v in structure.arguments}
    seeds = group.seeds[0] if len(group.seeds) == 1 else f"{len(group.seeds)} seeds"
    return values | {"seed": seeds, "begin": group.begin}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _usual(group: Group) -> list[str]:
    structure = group.program.structure
    own = "hidden" if "hidden" in structure.row.settings else "architecture"
    if structure.model is not None:
        own = "model"
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
