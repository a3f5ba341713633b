"""Networks part of the way: interrupted stacks, and those that wait for the next rung."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from jaxnet.host.files import remove_partial
from jaxnet.sweeps.folder.checkpoint import Checkpoint, StoredStack, find_stacks, restore
from jaxnet.sweeps.folder.network_file import load_saved, saved_step
from jaxnet.sweeps.results.sweep_result import NETWORKS
from jaxnet.sweeps.stacks.prepared import PreparedData
from jaxnet.sweeps.stacks.stack import Saved, Stack
from jaxnet.sweeps.stacks.task import Task
from jaxnet.training.settings import Configuration

Make = Callable[..., Stack]


class Pool:
    """What there is to go on from: in a run folder, or in memory without one.

    `make(stored, tensors)` builds the stack of a file; it raises KeyError where the file is of
    configurations that are not of this run.
    """

    def __init__(self, folder: Path | None, make: Make) -> None:
        self._make = make
        if folder is not None:
            for directory in (folder, folder / NETWORKS):
                remove_partial(directory)
        self.stored: list[StoredStack] = [] if folder is None else list(find_stacks(folder))
        self._folder = folder
        self._where: dict[str, tuple[Stack | StoredStack, int]] = {}
        self._read: tuple[Path, Stack] | None = None
        for stored in self.stored:
            if not stored.in_flight:
                self._note(stored, stored.keys)

    def _note(self, source: Stack | StoredStack, keys: Sequence[str]) -> None:
        for column, key in enumerate(keys):
            self._where[key] = (source, column)

    def interrupted(self, until: int, wanted: Collection[str]) -> Iterator[tuple[Stack, list[str]]]:
        """Yield the stacks on their way to step `until` that some of these keys wait for."""
        for stored in [stored for stored in self.stored if stored.end == until]:
            if any(key in wanted for key in stored.keys):
                stack = restore(stored, self._make)
                if stack is not None:
                    yield stack, stored.keys

    def step(self, key: str, network: Path | None, until: int) -> int:
        """Return the last step below `until` at which this network is at hand, 0 if it is not."""
        steps = [0]
        if key in self._where:
            source, column = self._where[key]
            if isinstance(source, StoredStack) or column in source.running:
                steps.append(source.step)
        if network is not None and network.exists():
            steps.append(saved_step(network))
        return max(step for step in steps if step < until)

    def take(
        self,
        key: str,
        network: Path | None,
        step: int,
        configuration: Configuration,
        data: PreparedData,
    ) -> Saved:
        """Return the network at a step that `step` gave."""
        if key in self._where:
            source, column = self._where[key]
            stack = self._opened(source)
            if stack is not None and stack.step == step:
                return stack.saved(column)
        assert network is not None
        return load_saved(network, configuration, data)

    def _opened(self, source: Stack | StoredStack) -> Stack | None:
        if isinstance(source, Stack):
            return source
        if self._read is None or self._read[0] != source.path:
            stack = restore(source, self._make)
            if stack is None:
                return None
            self._read = (source.path, stack)
        return self._read[1]

    def put(self, stack: Stack, keys: Sequence[str], checkpoint: Checkpoint | None) -> None:
        """Keep a stack that has come to its rung; its state is on the host by now."""
        if checkpoint is None:
            self._note(stack, keys)
        else:
            checkpoint.save(stack, now=True)
            self._note(checkpoint.stored(Task.of(stack), stack.step), keys)

    def clear(self) -> None:
        """Forget everything: the run is complete."""
        self._where.clear()
        if self._folder is not None:
            for stored in find_stacks(self._folder):
                stored.path.unlink(missing_ok=True)
