"""Stacks kept on disk: the one in flight from time to time, and those that wait for a cut."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnet.errors import DataError
from jaxnet.host.tensors import read_metadata, read_tensors, write_tensors
from jaxnet.host.texts import parse_json, to_json
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.sweeps.stacks.task import Task
from jaxnet.training.blocks import blocks_of
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program
from jaxnet.training.settings import Shapes, Structure

INTERVAL = 30.0  # seconds between two times that a stack in flight is kept
PATTERN = "stack-*.safetensors"


@dataclass(frozen=True, kw_only=True)
class StoredStack:
    """A stack in a file: the keys of its configurations, in order, and its span of steps.

    `hidden` are the widths that its hidden layers are held in, `layout` is the one it began with.
    """

    path: Path
    keys: list[str]
    hidden: tuple[int, ...]
    layout: Layout
    step: int
    end: int

    @classmethod
    def read(cls, path: Path) -> "StoredStack":
        """Return what a file says of its stack; an error of its kind if it is damaged."""
        about = parse_json(read_metadata(path)["jaxnet stack"])
        layout = Layout(**about.pop("layout"))
        stored = cls(path=path, layout=layout, **{**about, "hidden": tuple(about["hidden"])})
        stored.check()
        return stored

    def check(self) -> None:
        """Raise ValueError for what no stack is."""
        layout = self.layout
        keys = isinstance(self.keys, list) and all(isinstance(key, str) for key in self.keys)
        sizes = [*self.hidden, layout.size, layout.devices]
        counts = [*sizes, layout.blocks, self.step, self.end]
        if not keys or not self.keys or any(type(n) is not int or n < 0 for n in counts):
            raise ValueError("a stack of no networks, or of no size")
        if 0 in sizes or {type(layout.padded), type(layout.shared)} != {bool}:
            raise ValueError("a stack of no width")
        if layout.blocks > layout.size * blocks_of(self.hidden):  # arrays are made of this length
            raise ValueError(f"a stack of {layout.blocks} blocks")

    def program(self, one: Structure, shapes: Shapes) -> Program:
        """Return the program of the stack, whose configurations are of structures like this one."""
        return Program(dataclasses.replace(one, hidden=self.hidden), shapes, self.layout)

    @property
    def in_flight(self) -> bool:
        """Whether it was interrupted on its way."""
        return self.step < self.end


class Checkpoint:
    """Where one stack is kept while it trains: at most every INTERVAL seconds, and at once."""

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        digest = hashlib.sha256("".join(keys).encode()).hexdigest()[:12]
        self.path, self.keys = folder / f"stack-{digest}.safetensors", list(keys)
        self._saved_at = time.monotonic()

    def save(self, stack: Stack, now: bool = False) -> None:
        """Store the stack if INTERVAL has passed since the last time, or if `now`."""
        if not now and time.monotonic() - self._saved_at < INTERVAL:
            return
        self.write(Task.of(stack), stack.step, stack.tensors())
        self._saved_at = time.monotonic()

    def write(self, task: Task, step: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Store the tensors of a stack that was trained elsewhere."""
        about = dataclasses.asdict(self.stored(task, step))
        del about["path"]
        write_tensors(self.path, tensors, {"jaxnet stack": to_json(about)})

    def stored(self, task: Task, step: int) -> StoredStack:
        """Return what the file of a task's stack holds."""
        return StoredStack(
            path=self.path,
            keys=self.keys,
            hidden=task.program.structure.hidden,
            layout=task.program.layout,
            step=step,
            end=task.until,
        )

    def remove(self) -> None:
        """Forget what is stored."""
        self.path.unlink(missing_ok=True)


def find_stacks(folder: Path) -> Iterator[StoredStack]:
    """Yield every stack of a folder; one that is damaged, or of another version, is removed."""
    for path in sorted(folder.glob(PATTERN)):
        try:
            yield StoredStack.read(path)
        except (AttributeError, DataError, KeyError, TypeError, ValueError):
            path.unlink()  # it only ever saves time


def restore(
    stored: StoredStack, make: Callable[[StoredStack, dict[str, np.ndarray]], Stack]
) -> Stack | None:
    """Return `make(stored, tensors)`; None, and the file is removed, where it cannot be."""
    try:
        tensors, _ = read_tensors(stored.path)
        return make(stored, tensors)
    except (DataError, LookupError, ValueError, TypeError, OverflowError):
        stored.path.unlink(missing_ok=True)
        return None
