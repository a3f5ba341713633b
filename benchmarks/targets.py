"""What was aimed at, and what the last runs of the other subjects found: read from their files.

Every figure is a ratio within one run, but for the seconds of the tiny nets.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from benchmarks.report import RESULTS
from jaxnet.host.texts import parse_json

Row = dict[str, Any]
GRIDS = ("sweeps_45", "sweeps_24", "sweeps_144")


def measure(*, smoke: bool) -> list[Row]:
    """Return one row a target of which there are results: the worst case found, and if it holds."""
    del smoke  # nothing is timed
    large, small = (lambda row: row["batch"] >= 500), (lambda row: row["batch"] == 200)
    deep = [row for row in _rows("deep") if row["nets"].startswith("batchnorm, dropout")]
    tiny = [row for row in _rows("sweeps_tiny") if row["what"].endswith("10,000")]
    found = [
        _least("float32 step of product, batch 500 and 800", 0.85, _step("float32", large)),
        _least("float32 step of product, batch 200", 0.75, _step("float32", small)),
        _least(
            "mixed step over float32", 2.8, [row.get("mixed is") for row in _rows("sweep_step")]
        ),
        _least("mixed step of bfloat16 product", 0.45, _step("mixed", lambda row: True)),
        _least(
            "float32 over course's loop, float64", 3.5, _peer("course's loop, float64", "jaxnet is")
        ),
        _least(
            "mixed over course's loop, float64", 10, _peer("course's loop, float64", "mixed is")
        ),
        _least("float32 over PyTorch, eager", 1.2, _peer("PyTorch, eager", "jaxnet is")),
        _least(
            "mixed over PyTorch, eager, bfloat16",
            1.6,
            _peer("PyTorch, eager, bfloat16 autocast", "mixed is"),
        ),
        _most(
            "10,000 tiny nets × 500 steps, s",
            15,
            [row["networks"] / row["configurations/s"] for row in tiny],
        ),
        _least(
            "16 deep nets of product",
            0.6,
            [row["of product"] for row in deep if row["what"] == "jaxnet, float32"],
        ),
        _least(
            "16 deep nets, by hand over jax.grad",
            1.0,
            [row["jaxnet is"] for row in deep if row["what"] == "jaxnet, jax.grad"],
        ),
        _most(
            "planned chunk's time over the best's",
            1.1,
            [row["planned / best time"] for row in _rows("chunks")],
        ),
    ]
    return [row for row in found if row is not None]


def _rows(subject: str) -> list[Row]:
    path = RESULTS / f"{subject}-{jax.default_backend()}.json"
    return parse_json(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []


def _step(precision: str, chosen: Callable[[Row], bool]) -> list[float | None]:
    return [row.get(f"{precision} of product") for row in _rows("sweep_step") if chosen(row)]


def _peer(what: str, column: str) -> list[float]:
    rows = [row for grid in GRIDS for row in _rows(grid)]
    return [row[column] for row in rows if row["what"] == what]


def _least(target: str, wanted: float, values: Iterable[float | None]) -> Row | None:
    return _judged(target, "at least", wanted, values, min, lambda found: found >= wanted)


def _most(target: str, wanted: float, values: Iterable[float | None]) -> Row | None:
    return _judged(target, "at most", wanted, values, max, lambda found: found <= wanted)


def _judged(
    target: str,
    direction: str,
    wanted: float,
    values: Iterable[float | None],
    worst: Callable[[list[float]], float],
    holds: Callable[[float], bool],
) -> Row | None:
    present = [value for value in values if value is not None]
    if not present:
        return None
    found = worst(present)
    return {
        "target": target,
        "wanted": f"{direction} {wanted:g}",
        "found, worst case": found,
        "best case": min(present) if worst is max else max(present),
        "holds": "yes" if holds(found) else "no",
    }
