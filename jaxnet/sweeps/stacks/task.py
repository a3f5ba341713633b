"""Networks to train, as values: what a process needs to train them, wherever it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxnet.sweeps.stacks.prepared import PreparedData
from jaxnet.sweeps.stacks.stack import Saved, Stack
from jaxnet.sweeps.stacks.timetable import Timetable
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration


@dataclass(frozen=True, kw_only=True)
class Task:
    """Configurations to train in a program to step `until`: anew, or on from `saved`."""

    program: Program
    configurations: tuple[Configuration, ...]
    timetable: Timetable
    until: int
    saved: tuple[Saved, ...] = ()

    @classmethod
    def of(cls, stack: Stack) -> "Task":
        """Return the task that a stack is at."""
        return cls(
            program=stack.program,
            configurations=tuple(stack.configurations),
            timetable=stack.timetable,
            until=stack.record.end,
        )

    def start(
        self,
        data: Callable[[int], PreparedData],
        tensors: Mapping[str, np.ndarray] | None = None,
    ) -> Stack:
        """Return the stack at its beginning, or as `tensors` have it (see `Stack.restored`).

        `data(n)` gives the data on n devices.
        """
        devices = self.program.layout.devices
        if tensors is None:
            return Stack.start(
                self.program,
                self.configurations,
                data(devices),
                self.timetable,
                until=self.until,
                saved=self.saved,
            )
        if len(tensors["columns"]) % devices:
            devices = 1
        return Stack.restored(
            self.program.with_layout(devices=devices),
            self.configurations,
            data(devices),
            self.timetable,
            tensors=tensors,
        )
