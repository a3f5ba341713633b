"""The run folder: what a run leaves behind, and what another needs to go on from it.

config.json        everything needed to run it again: job, data, versions, machine
sweep.db           results as they come, and what each id is (SQLite)
stack-*.safetensors      networks part of the way; gone when complete
networks/*.safetensors   the networks that are kept, to score with or to train on
best.safetensors         the best network; judged.safetensors, what it says of validation images
layers.safetensors       of a single run: what went on in its layers
log.txt            what happened on the way: lost workers and nodes, memory that ran out
results.csv  summary.json  *.png  report.html    written at the end, also of an interrupted run;
replicates.csv           where there is more than one seed
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from jaxnet.data import DataSet
from jaxnet.errors import RunFolderError
from jaxnet.host.files import PARTIAL, write_whole
from jaxnet.host.texts import parse_json, read_text, to_json
from jaxnet.sweeps.folder.extension import AnotherRun, check_ends, check_same, check_search, ids_of
from jaxnet.sweeps.folder.identity import identify
from jaxnet.sweeps.folder.row_ids import record, with_results
from jaxnet.sweeps.folder.store import Store, read_store
from jaxnet.sweeps.results.judged import Judged
from jaxnet.sweeps.results.replicates import write_replicates_csv
from jaxnet.sweeps.results.rows import write_csv
from jaxnet.sweeps.results.sweep_result import NETWORKS, SweepResult
from jaxnet.sweeps.space.job import Job
from jaxnet.training.numerics import compiler_flags

CONFIG = "config.json"
DATABASE = "sweep.db"
SUMMARY = "summary.json"
JUDGED = "judged.safetensors"
LAYERS = "layers.safetensors"
LOG_FILE = "log.txt"

_CONFIG_PARTS = {
    "data": dict,
    "label_shifts": dict,
    "versions": dict,
    "machine": dict,
    "command": list,
}
_SUMMARY_PARTS = {
    "complete": bool,
    "test_accuracy": float | int | None,
    "seconds": float | int,
    "select": str,
    "noise": str | None,
    "plan": str,
    "work": dict,
}


class RunFolder:
    """A folder of one run, or of several on the same data that add to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / DATABASE
        self.weights = path / "best.safetensors"

    @classmethod
    def open(cls, path: Path | str, job: Job, data: DataSet) -> "RunFolder":
        """Make the folder, or open the run in it to add to it.

        RunFolderError if it holds something else, or results on other data, of another split or
        of other versions: the difference is named, and nothing is touched.
        """
        path = Path(path)
        if (path / CONFIG).exists():
            check_same(path, read_config(path), _config(job, data))
        elif path.exists() and not _is_blank(path):
            raise RunFolderError(
                f"{path} exists and is neither an empty folder nor a run's: choose another"
            )
        try:
            (path / NETWORKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot write the run folder {path}: {error}") from error
        return cls(path)

    def enter(self, job: Job, data: DataSet, store: Store, *, trials: int | None = None) -> Job:
        """Write what is to be run, and return it with the ids that its configurations have here.

        A sweep extends what is there: it has all of its configurations, at least as many steps, and
        ends none earlier; so no row is lost, and no id means another configuration than before.
        `trials` is how many configurations a search comes to, whose job grows: it asks for those
        that are there again, in their order, before any other.

        AnotherRun if that is not so, and nothing is touched. To be called by the process that has
        the folder to itself, as `store` says.
        """
        config, stored, recorded = _config(job, data), None, []
        if (self.path / CONFIG).exists():
            stored, recorded = read_config(self.path), store.ids()
        known, wanted = with_results(recorded), identify(job)
        if known and stored is not None:
            check_ends(self.path, stored, config)
            config["started"] = stored.get("started")
        if trials is None:
            ids = ids_of(self.path, recorded, wanted, store.results)
            if ids != tuple(range(len(ids))):
                job = dataclasses.replace(job, ids=ids)
                by_id = dict(zip(ids, wanted, strict=True))
                wanted = [by_id[i] for i in range(len(ids))]
        else:
            check_search(self.path, recorded, wanted, trials, store.results)
            if len(wanted) < len(known):
                return job  # on its way through what is there
        try:
            if stored is None or stored["job"] != config["job"]:  # else it is the same command
                write_whole(self.path / CONFIG, _json(config).encode("utf-8"))
        except OSError as error:
            raise RunFolderError(f"cannot write the run folder {self.path}: {error}") from error
        store.record(record(recorded, wanted, store.keys()))
        return job

    def finish(
        self,
        result: SweepResult,
        *,
        complete: bool,
        trained: bool,
        seconds: float,
        plan: str,
        work: dict[str, Any],
        judged: Judged | None,
    ) -> None:
        """Write the tables, the summary and the arrays; `jaxnet.report.publish` draws them.

        `seconds` is the time of all calls, `plan` says what trained together, `work` how long it
        took (see `Meter`). Where this call has not `trained`, both come from an earlier one.
        """
        best, earlier = result.best, {} if trained else read_summary(self.path)
        summary = {
            "complete": complete,
            "configurations": len(result.rows),
            "diverged": len(result.diverged),
            "replicates": None if result.winner is None else result.winner.count,
            "best": None if best is None else best.to_dict(),
            "test_accuracy": result.test_accuracy,
            "seconds": round(seconds, 2),
            "select": result.select,
            "noise": result.noise,
            "plan": earlier.get("plan", plan),
            "work": earlier.get("work", work),
        }
        try:
            write_csv(result.rows, self.path / "results.csv")
            if any(len(one.rows) > 1 for one in result.replicates):
                write_replicates_csv(result.replicates, self.path / "replicates.csv")
            write_whole(self.path / SUMMARY, _json(summary).encode("utf-8"))
            if judged is not None:
                judged.save(self.path / JUDGED)
            if result.layers is not None:
                result.layers.save(self.path / LAYERS)
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path}: {error}. The results are safe in {self.database}"
            ) from error


def _is_blank(path: Path) -> bool:
    """Whether a folder is empty, but for what a run leaves that is killed as it begins."""
    begun = {NETWORKS, DATABASE, "sweep.lock", CONFIG + PARTIAL}
    return path.is_dir() and all(
        entry.name in begun or entry.name.startswith(("sweep.db-", "sweep.lock-"))
        for entry in path.iterdir()
    )


def folder_beside(path: Path | str, job: Job, data: DataSet) -> Path:
    """Return the first of path, path-2, path-3, ... that is free, or whose run this one extends."""
    first = Path(path)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        if not (folder / CONFIG).exists():
            if number == 1 or not folder.exists() or _is_blank(folder):
                return folder
            continue
        with contextlib.suppress(AnotherRun):
            _check_extends(folder, job, data)
            return folder
    raise AssertionError


def _check_extends(folder: Path, job: Job, data: DataSet) -> None:
    """Raise AnotherRun unless a sweep may add to a run folder; nothing is touched."""
    stored, wanted, database = read_config(folder), _config(job, data), folder / DATABASE
    check_same(folder, stored, wanted)
    if database.exists() and with_results((found := read_store(database)).ids):
        check_ends(folder, stored, wanted)
        ids_of(folder, found.ids, identify(job), lambda: found.results)


def next_run_folder(kind: str, parent: Path | str = "runs") -> Path:
    """Return the first of parent/kind-001, kind-002, ... that does not exist."""
    number = 1
    while (path := Path(parent) / f"{kind}-{number:03d}").exists():
        number += 1
    return path


def read_config(path: Path | str) -> dict[str, Any]:
    """Return the config.json of a run folder."""
    folder = Path(path)
    file = folder / CONFIG
    try:
        config = parse_json(read_text(file))
    except FileNotFoundError:
        raise RunFolderError(f"{path} is not a run folder: it has no {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("job"), dict):
        raise RunFolderError(f"{file} is not the configuration of a run: it has no job")
    for part, kind in _CONFIG_PARTS.items():
        if not isinstance(config.get(part, kind()), kind):
            raise RunFolderError(f"{file} is damaged: {part} should be a {kind.__name__}")
    for entry in folder.iterdir():
        if entry.is_symlink():  # what is written under its name would go elsewhere
            raise RunFolderError(
                f"{entry} is a link out of the run folder, which jaxnet never makes: put the file "
                f"itself in its place, or remove it"
            )
    return config


def read_summary(path: Path | str) -> dict[str, Any]:
    """Return the summary.json of a run folder; {} where there is none that is whole."""
    try:
        summary = parse_json(read_text(Path(path) / SUMMARY))
    except (OSError, ValueError):
        return {}
    if not isinstance(summary, dict):
        return {}
    # What is of another type than it was written with is left out.
    return {
        name: value
        for name, value in summary.items()
        if name not in _SUMMARY_PARTS or isinstance(value, _SUMMARY_PARTS[name])
    }


def versions() -> dict[str, str]:
    """Return the versions, and the flags of compilers, that results may depend on."""
    packages = ("jaxnet", "jax", "jaxlib", "optax", "numpy")
    return {name: importlib.metadata.version(name) for name in packages} | compiler_flags()


def _config(job: Job, data: DataSet) -> dict[str, Any]:
    device, (train, validation) = jax.devices()[0], job.sizes(data)
    shifts = job.label_shifts(data)
    config = {
        "job": job.to_dict(),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "validation": validation,
            "train": train,
            "split": job.split_kind(data),
            "split_seed": job.split_seed,
        },
        "label_shifts": {part: dataclasses.asdict(shift) for part, shift in shifts.items()},
        "versions": versions(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": f"{device.platform}: {device.device_kind}",
        },
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return parse_json(_json(config))  # as it comes back from the file


def _json(value: Any) -> str:
    return to_json(value, indent=2) + "\n"
