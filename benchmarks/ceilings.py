"""The machine's limits: matrix products at the shapes of the sweeps, and memory bandwidth.

Shapes are those of the first layer, where nine tenths of a sweep's work are: x·w, of all networks
of a group at once and of one network, and xᵀ·d, the gradient by the weights.
"""

from typing import Any

from benchmarks.products import copies, products
from benchmarks.timing import interleave

FEATURES = 3072
# (batch, columns): 16 networks of 80 units, of 320, 12 of 100; one network of 50
SHAPES = ((200, 1280), (400, 1280), (800, 1280), (200, 5120), (500, 1200), (200, 50))
WORK = 2e10  # FLOP a timed call
MEMORY = 2**26  # numbers: 256 MB


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return a row a product and a row a copy, a column a library and dtype."""
    repeats = 1 if smoke else 5
    rows = []
    for batch, columns in SHAPES[-1:] if smoke else SHAPES:
        for transposed in (False, True):
            rows.append(_product(batch, columns, transposed, smoke, repeats))
    numbers = 2**20 if smoke else MEMORY
    timings = interleave(copies(numbers), repeats)
    rates = {f"{name}": 8 * numbers / timing.median / 1e9 for name, timing in timings.items()}
    blank = dict.fromkeys(rows[0])
    libraries = {name.split(",")[0]: rate for name, rate in rates.items()}
    filled = {
        name: libraries.get(name.split(",")[0]) for name in blank if name.endswith(", float32")
    }
    what = f"copy of {numbers / 2**28:.3g} GB, GB/s read and written"
    return [*rows, {**blank, "what": what, **filled}]


def _product(
    batch: int, columns: int, transposed: bool, smoke: bool, repeats: int
) -> dict[str, Any]:
    flops = 2 * batch * FEATURES * columns
    count = 1 if smoke else max(1, round(WORK / flops))
    calls = products(batch, FEATURES, columns, transposed=transposed)
    subjects = {
        name: lambda call=call: [call() for _ in range(count)] for name, call in calls.items()
    }
    timings = interleave(subjects, repeats)
    left = f"[{FEATURES}, {batch}]ᵀ" if transposed else f"[{batch}, {FEATURES}]"
    right = f"[{batch if transposed else FEATURES}, {columns}]"
    return {
        "what": f"{left} · {right}, GFLOP/s",
        **{name: count * flops / t.median / 1e9 for name, t in timings.items()},
    }
