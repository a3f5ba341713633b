"""The results of a run as they come, in one SQLite file: what is committed survives anything."""

import dataclasses
import json
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnet.errors import RunFolderError
from jaxnet.sweeps.chunk import History, Outcome
from jaxnet.sweeps.results import Row

_TABLE = """
CREATE TABLE IF NOT EXISTS results (
    id INTEGER PRIMARY KEY,
    settings TEXT NOT NULL,          -- JSON: every hyperparameter, the seed included
    steps INTEGER NOT NULL,
    final_loss REAL,                 -- NULL where there is no finite number
    train_accuracy REAL,
    val_accuracy REAL,
    status TEXT NOT NULL,            -- ok, or diverged@step
    history TEXT NOT NULL            -- JSON: loss and accuracies on the way
)
"""


class Store:
    """The file `sweep.db` of a run folder; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
            with self._connection:
                self._connection.execute(_TABLE)
        except sqlite3.Error as error:
            raise RunFolderError(
                f"cannot open {path} ({error}): is it a SQLite file, and the folder writable?"
            ) from error

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    def add(self, rows: Sequence[Row]) -> None:
        """Commit rows, all or none."""
        records = [
            (
                row.id,
                json.dumps(row.settings),
                row.outcome.steps,
                *map(
                    _finite,
                    (row.outcome.final_loss, row.outcome.train_accuracy, row.outcome.val_accuracy),
                ),
                row.outcome.status,
                json.dumps(_finite_all(dataclasses.asdict(row.outcome.history))),
            )
            for row in rows
        ]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records
                )
        except sqlite3.Error as error:
            raise RunFolderError(
                f"cannot write {self.path} ({error}): what was committed before is kept; "
                f"free some space or repair the folder, then resume"
            ) from error

    def rows(self) -> list[Row]:
        """Return every committed row, by id."""
        try:
            records = self._connection.execute("SELECT * FROM results ORDER BY id").fetchall()
        except sqlite3.Error as error:
            raise RunFolderError(f"cannot read {self.path}: {error}") from error
        return [_row(record) for record in records]


def _row(record: Sequence[Any]) -> Row:
    number, settings, steps, *measured, status, history = record
    final_loss, train_accuracy, val_accuracy = map(_number, measured)
    past = json.loads(history)
    series = {
        name: [_number(value) for value in past[name]]
        for name in ("loss", "train_accuracy", "val_accuracy")
    }
    outcome = Outcome(
        steps,
        final_loss,
        train_accuracy,
        val_accuracy,
        status,
        History(steps=past["steps"], evaluated=past["evaluated"], **series),
    )
    return Row(number, json.loads(settings), outcome)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None


def _finite_all(series: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """JSON has no NaN: null in its place."""
    return {name: [_finite(value) for value in values] for name, values in series.items()}
