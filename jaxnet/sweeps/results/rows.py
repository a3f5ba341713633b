"""The rows of a sweep: one a configuration, ranked by validation accuracy, written as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnet.host.files import write_whole
from jaxnet.sweeps.results.record import Outcome

OUTCOME_COLUMNS = ("steps", "final_loss", "train_accuracy", "val_accuracy", "status")


@dataclass(frozen=True)
class Row:
    """One configuration by its place in the space, its settings (seed included), its outcome.

    `key` names the file of its network, where that is kept.
    """

    id: int
    settings: dict[str, Any]
    outcome: Outcome
    key: str = ""

    @property
    def ok(self) -> bool:
        """Whether the run stayed finite."""
        return self.outcome.kind != "diverged"

    @property
    def whole(self) -> bool:
        """Whether it was not cut short by a halving or a callback; early stopping counts."""
        return self.outcome.kind != "cut"

    def to_dict(self) -> dict[str, Any]:
        """Return the row of `results.csv`: id, settings, seed, outcome; NaN is None."""
        outcome = {name: getattr(self.outcome, name) for name in OUTCOME_COLUMNS}
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        if "hidden" in settings:
            settings["hidden"] = "-".join(map(str, settings["hidden"])) or "none"
        row = {"id": self.id, **settings, "seed": self.settings["seed"], **outcome}
        return {name: None if value != value else value for name, value in row.items()}


def rank(rows: Sequence[Row]) -> list[Row]:
    """Return the rows from best to worst; what was cut is below what was not, diverged is last."""

    def worth(row: Row) -> tuple[bool, float, float, float, int]:
        outcome = row.outcome
        loss = math.inf if math.isnan(outcome.final_loss) else outcome.final_loss
        cut = 0.0 if row.whole else 1 / (1 + outcome.steps)
        return not row.ok, cut, -outcome.val_accuracy if row.ok else 0.0, loss, row.id

    return sorted(rows, key=worth)


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
    columns = ["id", *settings, "seed", *OUTCOME_COLUMNS]
    write_whole(path, csv_text(columns, tables).encode("utf-8"))


def csv_text(columns: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return a table as CSV; empty where a line has no such column."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
