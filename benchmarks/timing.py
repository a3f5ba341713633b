"""How a time is taken here: warmed up, blocked on, median of several, subjects interleaved."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

SETTLE = 0.1


@dataclass(frozen=True)
class Timing:
    """Seconds of one subject: its first call (compilation included), and the calls after."""

    first: float
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median of the calls after the first."""
        return statistics.median(self.times)

    @property
    def fastest(self) -> float:
        """Return the shortest of the calls after the first."""
        return min(self.times)

    def times_faster_than(self, other: "Timing") -> float:
        """Return the median over rounds of other's seconds by these.

        By rounds: in each the two stood side by side, whatever the machine did between rounds.
        """
        return statistics.median(b / a for a, b in zip(self.times, other.times, strict=True))


def interleave(subjects: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every subject `repeats` times, in turn, so that a drift of the machine meets all alike.

    Each is called once before. What it returns is waited for.
    """
    return rounds(subjects, {name: seconds(call) for name, call in subjects.items()}, repeats)


def rounds(
    subjects: Mapping[str, Callable[[], object]], first: Mapping[str, float], repeats: int
) -> dict[str, Timing]:
    """Time subjects in turn that were called once before, in `first` seconds."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, call in subjects.items():
            times[name].append(seconds(call))
    return {name: Timing(first[name], tuple(taken)) for name, taken in times.items()}


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call, waiting for what it returns.

    Before it the machine rests for SETTLE seconds: the threads of OpenBLAS go on spinning after a
    product of NumPy's, which took 10 % off whatever came next.
    """
    time.sleep(SETTLE)
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
