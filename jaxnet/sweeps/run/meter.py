"""What training took: the products of each call and its seconds, compilation apart."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnet.sweeps.machine.measured import measure_machine

LONG_ENOUGH = 5.0  # seconds of training from which a rate is worth comparing with the machine's


class Meter:
    """Adds up calls of training programs; the first call of each stack compiles."""

    def __init__(self) -> None:
        self._flops: list[float] = []
        self._seconds: list[float] = []
        self._first = 0.0

    def clock(self) -> Callable[[float], None]:
        """Return a function to be told the products of each call; its first call sets the clock."""
        before, calls = 0.0, 0

        def tick(flops: float) -> None:
            nonlocal before, calls
            now = time.perf_counter()
            if calls == 1:
                self._first += now - before
            elif calls > 1:
                self._flops.append(flops)
                self._seconds.append(now - before)
            before, calls = now, calls + 1

        return tick

    def add(self, flops: float, seconds: float) -> None:
        """Note the products of a call elsewhere and its seconds."""
        self._flops.append(flops)
        self._seconds.append(seconds)

    def summary(self) -> dict[str, Any]:
        """Return seconds, seconds of first calls, and GFLOP/s: median over calls, weighted by work.

        `gflops` counts the products alone, evaluations take time and count nothing;
        `ceiling_gflops` is what one large float32 product reaches now. Both are None for a run
        that is too short to tell.
        """
        flops, seconds = np.asarray(self._flops), np.asarray(self._seconds)
        found: dict[str, Any] = {
            "training_seconds": round(self._first + float(seconds.sum()), 3),
            "first_call_seconds": round(self._first, 3),
            "gflops": None,
            "ceiling_gflops": None,
        }
        if seconds.sum() > LONG_ENOUGH:
            rates = flops / seconds
            order = np.argsort(rates)
            half = np.searchsorted(np.cumsum(flops[order]), flops.sum() / 2)
            found["gflops"] = round(float(rates[order[half]]) / 1e9, 1)
            found["ceiling_gflops"] = round(measure_machine().float32 / 1e9, 1)
        return found
