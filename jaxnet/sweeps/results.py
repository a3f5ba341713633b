"""The table of a sweep: one row a configuration, ranked by validation accuracy."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnet.network import Network
from jaxnet.sweeps.chunk import Outcome

OUTCOME_COLUMNS = ("steps", "final_loss", "train_accuracy", "val_accuracy", "status")


@dataclass(frozen=True)
class Row:
    """One configuration by its place in the space, its settings (seed included), its outcome."""

    id: int
    settings: dict[str, Any]
    outcome: Outcome

    @property
    def ok(self) -> bool:
        """Whether the run stayed finite."""
        return self.outcome.status == "ok"

    def to_dict(self) -> dict[str, Any]:
        """Return the row of `results.csv`: id, settings, seed, outcome; NaN is None."""
        outcome = {name: getattr(self.outcome, name) for name in OUTCOME_COLUMNS}
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        settings["hidden"] = "-".join(map(str, settings["hidden"])) or "none"
        row = {"id": self.id, **settings, "seed": self.settings["seed"], **outcome}
        return {name: None if value != value else value for name, value in row.items()}


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found; `network` is the best one.

    It and `test_accuracy` are None if all configurations diverged. `test_accuracy` is that of the
    best network on the test images, which nothing else has seen. `seconds` is the time this call
    took; `folder` the run folder, if there is one.
    """

    rows: list[Row]
    network: Network | None
    test_accuracy: float | None
    seconds: float
    folder: Path | None

    @property
    def ranked(self) -> list[Row]:
        """The rows from best to worst: by validation accuracy, then lower loss; diverged last."""
        return rank(self.rows)

    @property
    def best(self) -> Row | None:
        """The row with the highest validation accuracy among those that stayed finite."""
        return best_of(self.rows)

    @property
    def diverged(self) -> list[Row]:
        """The rows whose loss became infinite or not a number."""
        return [row for row in self.rows if not row.ok]

    @property
    def swept(self) -> list[str]:
        """The names of the settings that vary between rows."""
        return swept(self.rows)


def rank(rows: Sequence[Row]) -> list[Row]:
    """Return the rows from best to worst; a diverged one is below every other."""

    def worth(row: Row) -> tuple[bool, float, float, int]:
        outcome = row.outcome
        loss = math.inf if math.isnan(outcome.final_loss) else outcome.final_loss
        return not row.ok, -outcome.val_accuracy if row.ok else 0.0, loss, row.id

    return sorted(rows, key=worth)


def best_of(rows: Sequence[Row]) -> Row | None:
    """Return the best row that did not diverge, None if there is none."""
    first = rank(rows)[:1]
    return first[0] if first and first[0].ok else None


def swept(rows: Sequence[Row]) -> list[str]:
    """Return the names of the settings with more than one value, in their order in a row."""
    values: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.settings.items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, seen in values.items() if len(seen) > 1]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write one line a configuration in the order of ids; empty where a number is missing."""
    tables = [row.to_dict() for row in sorted(rows, key=lambda row: row.id)]
    # Optimizers and schedules have numbers of their own: the columns are those of all rows.
    settings = list(dict.fromkeys(name for row in rows for name in row.settings if name != "seed"))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", *settings, "seed", *OUTCOME_COLUMNS])
        writer.writeheader()
        writer.writerows(tables)
