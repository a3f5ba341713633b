"""Networks to train, as values: what a process needs to train them, wherever it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxnet.sweeps.prepared import PreparedData
from jaxnet.sweeps.schedule import Schedule
from jaxnet.sweeps.stack import Saved, Stack
from jaxnet.training.settings import Configuration, Structure


@dataclass(frozen=True)
class Task:
    """Configurations of one program, to train to step `until` in `size` places.

    They begin anew, or go on from `saved`. The places are divided among so many `devices`.
    """

    structure: Structure
    shared: bool
    configurations: tuple[Configuration, ...]
    schedule: Schedule
    size: int
    devices: int
    until: int
    saved: tuple[Saved, ...] = ()

    @classmethod
    def of(cls, stack: Stack) -> "Task":
        """Return the task that a stack is at."""
        return cls(
            stack.structure,
            stack.shared,
            tuple(stack.configurations),
            stack.schedule,
            stack.size,
            max(1, len(stack.data.devices)),
            stack.record.end,
        )

    def start(
        self,
        data: Callable[[int], PreparedData],
        tensors: Mapping[str, np.ndarray] | None = None,
    ) -> Stack:
        """Return the stack at its beginning, or as `tensors` have it (see `Stack.restored`).

        `data(n)` gives the data on n devices.
        """
        if tensors is None:
            return Stack.start(
                self.structure,
                self.configurations,
                data(self.devices),
                self.schedule,
                size=self.size,
                shared=self.shared,
                until=self.until,
                saved=self.saved,
            )
        divisible = len(tensors["columns"]) % self.devices == 0
        return Stack.restored(
            self.structure,
            self.configurations,
            data(self.devices if divisible else 1),
            self.schedule,
            shared=self.shared,
            size=self.size,
            tensors=tensors,
        )
