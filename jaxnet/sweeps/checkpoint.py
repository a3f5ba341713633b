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
from jaxnet.pieces import pieces_of
from jaxnet.sweeps.stack import Stack
from jaxnet.sweeps.task import Task

INTERVAL = 30.0  # seconds between two times that a stack in flight is kept
PATTERN = "stack-*.safetensors"


@dataclass(frozen=True)
class Kept:
    """A stack in a file: the keys of its configurations, in order, and its span of steps."""

    path: Path
    keys: list[str]
    hidden: tuple[int, ...]
    padded: bool
    pieces: int
    shared: bool
    size: int  # how many networks it began with
    devices: int  # that they were divided among
    step: int
    end: int

    def check(self) -> None:
        """Raise ValueError for what no stack is."""
        keys = isinstance(self.keys, list) and all(isinstance(key, str) for key in self.keys)
        numbers = [*self.hidden, self.pieces, self.size, self.devices, self.step, self.end]
        if not keys or not self.keys or any(type(n) is not int or n < 0 for n in numbers):
            raise ValueError("a stack of no networks, or of no size")
        widths, flags = (
            (*self.hidden, self.size, self.devices),
            {type(self.padded), type(self.shared)},
        )
        if 0 in widths or flags != {bool}:
            raise ValueError("a stack of no width")
        if self.pieces > self.size * pieces_of(self.hidden):  # arrays are made of this length
            raise ValueError(f"a stack of {self.pieces} pieces")

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
        about = dataclasses.asdict(self.kept(task, step))
        del about["path"]
        write_tensors(self.path, tensors, {"jaxnet stack": to_json(about)})

    def kept(self, task: Task, step: int) -> Kept:
        """Return what the file of a task's stack holds."""
        structure = task.structure
        return Kept(
            self.path,
            self.keys,
            structure.hidden,
            structure.padded,
            structure.pieces,
            task.shared,
            task.size,
            task.devices,
            step,
            task.until,
        )

    def remove(self) -> None:
        """Forget what is stored."""
        self.path.unlink(missing_ok=True)


def find_kept(folder: Path) -> Iterator[Kept]:
    """Yield every stack of a folder; one that is damaged, or of another version, is removed."""
    for path in sorted(folder.glob(PATTERN)):
        try:
            about = parse_json(read_metadata(path)["jaxnet stack"])
            kept = Kept(path, **{**about, "hidden": tuple(about["hidden"])})
            kept.check()
            yield kept
        except (DataError, KeyError, TypeError, ValueError):
            path.unlink()  # it only ever saves time


def restore(kept: Kept, make: Callable[[Kept, dict[str, np.ndarray]], Stack]) -> Stack | None:
    """Return `make(kept, tensors)`; None, and the file is removed, where it cannot be."""
    try:
        tensors, _ = read_tensors(kept.path)
        return make(kept, tensors)
    except (DataError, LookupError, ValueError, TypeError, OverflowError):
        kept.path.unlink(missing_ok=True)
        return None
