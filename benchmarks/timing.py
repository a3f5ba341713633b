"""How a time is taken here: warmed up, blocked on, median of several, subjects interleaved."""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

SETTLE = 0.1
DISTURBED = 0.1  # of the processors; the kernel counts in hundredths of a second
PATIENCE = 60.0  # seconds of a subject

_others: list[float] = []  # their shares of the processors, in the calls that count
_repeated: list[float] = []  # seconds of those that do not


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
    """Time subjects in turn that were called once before, in `first` seconds.

    A call during which other processes were at work is made again, until all that such calls
    took exceeds PATIENCE. A single round is for seeing whether all runs, and has none.
    """
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(repeats):
        for name, call in subjects.items():
            taken, others = _watched(call)
            while repeats > 1 and others > DISTURBED and sum(_repeated) + taken < PATIENCE:
                _repeated.append(taken)
                taken, others = min((taken, others), _watched(call), key=lambda found: found[1])
            _others.append(others)
            times[name].append(taken)
    return {name: Timing(first[name], tuple(taken)) for name, taken in times.items()}


def disturbed() -> float:
    """Return the share of the timed calls since the last question that others disturbed.

    And patience is new.
    """
    share = sum(others > DISTURBED for others in _others) / max(len(_others), 1)
    _others.clear()
    _repeated.clear()
    return share


def seconds(call: Callable[[], object]) -> float:
    """Return the time of one call, waiting for what it returns.

    Before it the machine rests for SETTLE seconds: the threads of OpenBLAS go on spinning for
    some 30 ms after a product of NumPy's, which took 10 % off whatever came next.
    """
    time.sleep(SETTLE)
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _watched(call: Callable[[], object]) -> tuple[float, float]:
    """Return the time of a call, and the share of the processors that others took meanwhile."""
    start, before = time.perf_counter(), _others_seconds()
    taken = seconds(call)
    elapsed = time.perf_counter() - start
    return taken, (_others_seconds() - before) / elapsed / (os.cpu_count() or 1)


def _others_seconds() -> float:
    """Return the processor time of all processes but this and its children; 0 where unknown."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return 0.0
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = ticks
    busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])
