"""The results of a run as they come, in one SQLite file: what is committed survives anything."""

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxnet.errors import RunFolderError
from jaxnet.sweeps.record import History, Outcome

VERSION = 2  # of the tables below, in SQLite's user_version

_TABLES = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY,            -- digest of all that decides the result, data and code aside
    settings TEXT NOT NULL,          -- JSON: every hyperparameter, the seed included
    steps INTEGER NOT NULL,
    final_loss REAL,                 -- NULL where there is no finite number
    train_accuracy REAL,
    val_accuracy REAL,
    status TEXT NOT NULL,            -- ok, or diverged@, stopped@, cut@step
    history BLOB NOT NULL            -- safetensors: loss and accuracies on the way
);
CREATE TABLE IF NOT EXISTS rungs (   -- what a halving was decided on
    key TEXT NOT NULL,
    step INTEGER NOT NULL,
    val_accuracy REAL,               -- NULL where the run diverged
    PRIMARY KEY (key, step)
);
"""


@dataclass(frozen=True)
class Result:
    """One committed result: the settings it is of, by their key, and the outcome."""

    key: str
    settings: dict[str, Any]
    outcome: Outcome


class Store:
    """The file `sweep.db` of a run folder; a context manager. One process at a time may write.

    Others may read it meanwhile. The lock is that of a file beside it, which the system frees
    whenever and however the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = self._locked()
        try:
            self._connection = sqlite3.connect(path)
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            names = self._connection.execute("SELECT name FROM sqlite_master").fetchall()
            if names and found != VERSION:
                raise RunFolderError(
                    f"{path} has tables of version {found}, expected {VERSION}: it is of another "
                    f"version of jaxnet, or no run's. Run in a new folder"
                )
            self._connection.execute("PRAGMA journal_mode = WAL")
            # One transaction: killed in it, there are no tables, and no version is missing.
            self._connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )
        except sqlite3.Error as error:
            self._lock.close()
            raise RunFolderError(
                f"cannot open {path} ({error}): is it a SQLite file, and the folder writable?"
            ) from error
        except RunFolderError:
            self._lock.close()
            raise

    def _locked(self) -> sqlite3.Connection:
        file = self.path.with_suffix(".lock")
        try:
            lock = sqlite3.connect(file, timeout=0, isolation_level=None)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise RunFolderError(
                    f"{self.path.parent} is in use by another process: wait until it is done, or "
                    f"choose another folder"
                ) from error
            raise RunFolderError(
                f"cannot open {file} ({error}): is the folder writable?"
            ) from error
        except sqlite3.Error as error:
            raise RunFolderError(f"cannot open {file}: {error}") from error
        return lock

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._lock.close()

    def add(self, results: Sequence[Result], rung: int | None = None) -> None:
        """Commit results, all or none; with `rung`, as what a cut after that step is decided on."""
        records = [
            (
                result.key,
                json.dumps(result.settings),
                result.outcome.steps,
                *map(
                    _finite,
                    (
                        result.outcome.final_loss,
                        result.outcome.train_accuracy,
                        result.outcome.val_accuracy,
                    ),
                ),
                result.outcome.status,
                save(result.outcome.history.arrays()),
            )
            for result in results
        ]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records
                )
                if rung is not None:
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO rungs VALUES (?, ?, ?)",
                        [(r.key, rung, _finite(r.outcome.val_accuracy)) for r in results],
                    )
        except sqlite3.Error as error:
            raise RunFolderError(
                f"cannot write {self.path} ({error}): what was committed before is kept; "
                f"free some space or repair the folder, then run the same command again"
            ) from error

    def results(self) -> list[Result]:
        """Return every committed result."""
        try:
            records = self._connection.execute("SELECT * FROM results ORDER BY rowid").fetchall()
            return [_result(record) for record in records]
        except (sqlite3.Error, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"cannot read {self.path}: {error}") from error

    def rungs(self) -> dict[tuple[str, int], float]:
        """Return the validation accuracy (NaN: diverged) that each cut was decided on."""
        try:
            found = self._connection.execute("SELECT * FROM rungs").fetchall()
        except sqlite3.Error as error:
            raise RunFolderError(f"cannot read {self.path}: {error}") from error
        return {(key, step): _number(accuracy) for key, step, accuracy in found}


def read_store(path: Path) -> tuple[list[Result], dict[tuple[str, int], float]]:
    """Return the results and rungs of a store, as committed so far; another process may write it.

    RunFolderError where the file is none.
    """
    # As a writer where that can be: the last of those to leave tidies up. A folder that may only be
    # read has no other process in it.
    mode = "mode=rw" if os.access(path.parent, os.W_OK) else "immutable=1"
    try:
        store = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
        with contextlib.closing(store):
            results = store.execute("SELECT * FROM results ORDER BY rowid").fetchall()
            rungs = store.execute("SELECT * FROM rungs").fetchall()
        return (
            [_result(record) for record in results],
            {(key, step): _number(accuracy) for key, step, accuracy in rungs},
        )
    except (sqlite3.Error, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error


def _result(record: Sequence[Any]) -> Result:
    key, settings, steps, *measured, status, history = record
    final_loss, train_accuracy, val_accuracy = map(_number, measured)
    past = History(**{name: np.asarray(series) for name, series in load(history).items()})
    outcome = Outcome(steps, final_loss, train_accuracy, val_accuracy, status, past)
    return Result(key, json.loads(settings), outcome)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
