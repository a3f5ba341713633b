"""The results of a run as they come, in one SQLite file: what is committed survives anything."""

import contextlib
import math
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxnet.errors import RunFolderError
from jaxnet.host.texts import parse_json, to_json
from jaxnet.sweeps.results.record import History, Outcome

VERSION = 3  # of the tables below, in SQLite's user_version

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
CREATE TABLE IF NOT EXISTS ids (     -- see RowId
    id INTEGER PRIMARY KEY,
    configuration TEXT NOT NULL,
    job_key TEXT NOT NULL,
    job_network TEXT NOT NULL,
    key TEXT,
    network TEXT
);
CREATE TABLE IF NOT EXISTS calls (   -- how long each call was at it that trained
    number INTEGER PRIMARY KEY,
    seconds REAL NOT NULL
);
"""


_COLUMNS = {
    "results": [
        *("key", "settings", "steps", "final_loss", "train_accuracy", "val_accuracy"),
        *("status", "history"),
    ],
    "rungs": ["key", "step", "val_accuracy"],
    "ids": ["id", "configuration", "job_key", "job_network", "key", "network"],
    "calls": ["number", "seconds"],
}
_DIGEST = re.compile(r"[0-9a-f]{1,64}")
_STATUS = re.compile(r"ok|(diverged|stopped|cut)@\d{1,18}")
MOST_BYTES = 1 << 28  # of one value


@dataclass(frozen=True)
class Result:
    """One committed result: the settings it is of, by their key, and the outcome."""

    key: str
    settings: dict[str, Any]
    outcome: Outcome


@dataclass(frozen=True)
class RowId:
    """What a run folder has under an id: a configuration, and which of its results is its row.

    `key` and `network` name that result and the file of its network, None where there is none yet;
    `job_key` and `job_network` name what the folder's job asks for: not the same while networks
    train for longer than before.
    """

    configuration: str
    job_key: str
    job_network: str
    key: str | None = None
    network: str | None = None


@dataclass(frozen=True)
class Stored:
    """All that a store holds; the validation accuracies that cuts were decided on by key, step."""

    results: list[Result]
    rungs: dict[tuple[str, int], float]
    ids: list[RowId]


class Store:
    """The file `sweep.db` of a run folder; a context manager. One process at a time may write.

    Others may read it meanwhile. The lock is on a file beside it, which the system frees
    whenever and however the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as opened:
            self._lock = opened.enter_context(contextlib.closing(self._locked()))
            try:
                self._connection = opened.enter_context(contextlib.closing(_opened(path)))
                self._prepare()
            except (sqlite3.Error, ValueError) as error:
                raise RunFolderError(
                    f"cannot open {path} ({error}): is it a SQLite file, and the folder writable?"
                ) from error
            opened.pop_all()  # it stays open

    def _prepare(self) -> None:
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        names = self._connection.execute("SELECT name FROM sqlite_master").fetchall()
        self._call: int | None = None
        if names and found != VERSION:
            raise RunFolderError(
                f"{self.path} has tables of version {found}, expected {VERSION}: it is of another "
                f"version of jaxnet, or no run's. Run in a new folder"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        if not names:
            # One transaction: killed in it, there are no tables, and no version is missing.
            self._connection.executescript(
                f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;"
            )
        _check_tables(self._connection)

    def _locked(self) -> sqlite3.Connection:
        file = self.path.with_suffix(".lock")
        _check_journal(file)
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

    def add(self, results: Sequence[Result], rung: int | None = None, seconds: float = 0.0) -> None:
        """Commit results, all or none; with `rung`, as what a cut after that step is decided on.

        They are the rows of the ids whose job asks for them. `seconds`: see `spent`.
        """
        records = [
            (
                result.key,
                to_json(result.settings),
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
        with self._writing():
            self._connection.executemany(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records
            )
            self._connection.executemany(
                "UPDATE ids SET key = job_key, network = job_network WHERE job_key = ?",
                [(result.key,) for result in results],
            )
            if rung is not None:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO rungs VALUES (?, ?, ?)",
                    [(r.key, rung, _finite(r.outcome.val_accuracy)) for r in results],
                )
            self._note(seconds)

    def record(self, ids: Sequence[RowId]) -> None:
        """Commit what there is under each id, in place of all that was."""
        if list(ids) == self.ids():
            return
        with self._writing():
            self._connection.execute("DELETE FROM ids")
            self._connection.executemany(
                "INSERT INTO ids VALUES (?, ?, ?, ?, ?, ?)",
                [(i, *astuple(one)) for i, one in enumerate(ids)],
            )

    def spent(self, seconds: float) -> None:
        """Commit how long this process is at it."""
        with self._writing():
            self._note(seconds)

    def _note(self, seconds: float) -> None:
        if self._call is None:
            (count,) = self._connection.execute("SELECT count(*) FROM calls").fetchone()
            self._call = count
        self._connection.execute(
            "INSERT OR REPLACE INTO calls VALUES (?, ?)", (self._call, seconds)
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Commit what is executed, all or none."""
        try:
            with self._connection:
                yield
        except sqlite3.Error as error:
            raise RunFolderError(
                f"cannot write {self.path} ({error}): what was committed before is kept; "
                f"free some space or repair the folder, then run the same command again"
            ) from error

    def results(self) -> list[Result]:
        """Return every committed result."""
        with _reading(self.path):
            return _results(self._connection)

    def rungs(self) -> dict[tuple[str, int], float]:
        """Return the validation accuracy (NaN: diverged) that each cut was decided on."""
        with _reading(self.path):
            return _rungs(self._connection)

    def ids(self) -> list[RowId]:
        """Return what there is under each id."""
        with _reading(self.path):
            return _ids(self._connection)

    def keys(self) -> set[str]:
        """Return the keys of the committed results."""
        with _reading(self.path):
            return {key for (key,) in self._connection.execute("SELECT key FROM results")}

    def seconds(self) -> float:
        """Return how long the calls that trained were at it, all together."""
        with _reading(self.path):
            (total,) = self._connection.execute("SELECT total(seconds) FROM calls").fetchone()
            return _number(total)


def read_store(path: Path) -> Stored:
    """Return what a store holds, as committed so far; another process may write it.

    RunFolderError where the file is none.
    """
    # As a writer where that can be: the last of those to leave tidies up. A folder that may only be
    # read has no other process in it.
    mode = "mode=rw" if os.access(path.parent, os.W_OK) else "immutable=1"
    with _reading(path), contextlib.closing(_opened(path, mode)) as store:
        _check_tables(store)
        return Stored(_results(store), _rungs(store), _ids(store))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise RunFolderError for all that a damaged or a hostile file gives rise to."""
    try:
        yield
    except RunFolderError:
        raise
    except (
        *(sqlite3.Error, SafetensorError, OSError, MemoryError, OverflowError),
        *(ValueError, KeyError, TypeError),
    ) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error


# How a journal ends that names a second journal, which SQLite would read and delete wherever it is.
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")


def _check_journal(path: Path) -> None:
    journal = path.with_name(path.name + "-journal")
    if journal.exists():
        with journal.open("rb") as file:
            file.seek(max(0, journal.stat().st_size - len(_SUPER_JOURNAL)))
            if file.read() == _SUPER_JOURNAL:
                raise RunFolderError(
                    f"{journal} names other files, which no journal of jaxnet does: do not trust "
                    f"this folder. Remove that file to read the rest"
                )


def _opened(path: Path, mode: str = "mode=rwc") -> sqlite3.Connection:
    """Connect to a file that may be a stranger's."""
    _check_journal(path)
    store = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    try:
        store.execute("PRAGMA trusted_schema = OFF")
        store.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
    except sqlite3.Error:
        store.close()
        raise
    return store


def _check_tables(store: sqlite3.Connection) -> None:
    """Raise ValueError unless there are our tables and no more.

    A view, a trigger, a computed column or an index of an expression are programs that run on.
    """
    found = store.execute(
        "SELECT type, name, rootpage FROM sqlite_master WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^'"
    ).fetchall()
    if sorted((kind, name) for kind, name, root in found if root) != [
        ("table", name) for name in sorted(_COLUMNS)
    ] or len(found) != len(_COLUMNS):
        raise ValueError(f"expected the tables {', '.join(_COLUMNS)}, and nothing else")
    for name, expected in _COLUMNS.items():
        columns = store.execute(f"PRAGMA table_xinfo({name})").fetchall()
        if [column[1] for column in columns] != expected or any(column[6] for column in columns):
            raise ValueError(f"{name} has other columns than jaxnet writes")


def _results(store: sqlite3.Connection) -> list[Result]:
    return [_result(record) for record in store.execute("SELECT * FROM results ORDER BY rowid")]


def _rungs(store: sqlite3.Connection) -> dict[tuple[str, int], float]:
    found = {}
    for key, step, accuracy in store.execute("SELECT * FROM rungs"):
        if not isinstance(key, str) or not isinstance(step, int):
            raise ValueError("a rung of no key or step")
        found[key, step] = _number(accuracy)
    return found


def _ids(store: sqlite3.Connection) -> list[RowId]:
    found = []
    for i, *texts in store.execute("SELECT * FROM ids ORDER BY id"):
        digests = [text for text in texts if text is not None]
        if i != len(found) or None in texts[:3] or (texts[3] is None) != (texts[4] is None):
            raise ValueError("ids that are not those of a run")
        # They become names of files.
        if not all(isinstance(text, str) and _DIGEST.fullmatch(text) for text in digests):
            raise ValueError("an id of what is no digest")
        found.append(RowId(*texts))
    return found


def _result(record: Sequence[Any]) -> Result:
    key, text, steps, *measured, status, history = record
    settings = parse_json(text)
    if not isinstance(key, str) or not isinstance(steps, int) or steps < 0:
        raise ValueError("a result of no key or number of steps")
    if not isinstance(status, str) or not _STATUS.fullmatch(status):
        raise ValueError(f"a status that is none, {str(status)[:50]!r}")
    if not isinstance(settings, dict) or not isinstance(settings.get("seed"), int):
        raise ValueError("settings without a seed")
    widths = settings.get("hidden", [])
    if not isinstance(widths, list) or not all(type(width) is int for width in widths):
        raise ValueError("hidden layers of no width")
    if not all(_plain(value) for value in settings.values()):
        raise ValueError("settings that are neither numbers nor texts nor lists of them")
    final_loss, train_accuracy, val_accuracy = map(_number, measured)
    if any(share < 0 or share > 1 for share in (train_accuracy, val_accuracy)):
        raise ValueError("an accuracy that is no share")
    past = History.from_arrays(load(history))
    outcome = Outcome(steps, final_loss, train_accuracy, val_accuracy, status, past)
    return Result(key, settings, outcome)


def _plain(value: Any, depth: int = 4) -> bool:
    """Whether a value is a number, a text, or a list of such, as deep as a setting may be.

    Or the label and fingerprint of an object (see `jaxnet.sweeps.folder.identity.settings_of`).
    """
    if isinstance(value, dict):
        texts = all(isinstance(inner, str) for inner in value.values())
        return texts and value.keys() == {"label", "fingerprint"}
    if isinstance(value, list):
        return depth > 0 and all(_plain(inner, depth - 1) for inner in value)
    return isinstance(value, bool | int | float | str | None)


def _number(value: Any) -> float:
    if not isinstance(value, float | int | None):
        raise ValueError("a number that is none")
    return math.nan if value is None else float(value)


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
