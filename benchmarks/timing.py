"""How a time is taken here: warmed up, blocked on, median of several, subjects interleaved."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

SETTLE = 0.3


@dataclass(frozen=True)
class Timing:
    """Seconds of one subject: its first call (compilation included), and the calls after."""

    first: float
    median: float
    fastest: float
    slowest: float


def interleave(subjects: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every subject `repeats` times, in turn, so that a drift of the machine meets all alike.

    Each is called once before. What it returns is waited for. Before each call the machine rests
    for SETTLE seconds: the threads of OpenBLAS go on spinning after a product of NumPy's, which
    took 10 % off whatever came next.
    """
    first = {name: _seconds(call) for name, call in subjects.items()}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, call in subjects.items():
            times[name].append(_seconds(call))
    return {
        name: Timing(first[name], statistics.median(taken), min(taken), max(taken))
        for name, taken in times.items()
    }


def _seconds(call: Callable[[], object]) -> float:
    time.sleep(SETTLE)
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
