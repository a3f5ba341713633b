"""The run folder: what a run leaves behind, and what another needs to go on from it.

config.json        everything needed to run it again: job, data, versions, machine
sweep.db           results as they come (SQLite)
stack-*.safetensors      networks part of the way; gone when complete
networks/*.safetensors   the networks that are kept, to score with or to train on
best.safetensors         the best network; judged.safetensors, what it says of validation images
layers.safetensors       of a single run: what went on in its layers
log.txt            what happened on the way: lost workers and nodes, memory that ran out
results.csv  summary.json  *.png  report.html    written at the end, also of an interrupted run;
replicates.csv           where there is more than one seed
"""

import importlib.metadata
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from jaxnet.data import DataSet
from jaxnet.errors import RunFolderError
from jaxnet.sweeps.job import Job
from jaxnet.sweeps.judged import Judged
from jaxnet.sweeps.replicates import write_replicates_csv
from jaxnet.sweeps.results import NETWORKS, SweepResult
from jaxnet.sweeps.rows import write_csv
from jaxnet.texts import parse_json, read_text

CONFIG = "config.json"
SUMMARY = "summary.json"
JUDGED = "judged.safetensors"
LAYERS = "layers.safetensors"
LOG_FILE = "log.txt"

_CONFIG_PARTS = {"data": dict, "versions": dict, "machine": dict, "command": list}
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
        self.database = path / "sweep.db"
        self.weights = path / "best.safetensors"

    @classmethod
    def open(cls, path: Path | str, job: Job, data: DataSet) -> "RunFolder":
        """Make the folder, or open the run in it to add to it.

        RunFolderError if it holds something else, or results on other data, of another split or
        of other versions: the difference is named, and nothing is touched.
        """
        path = Path(path)
        if (path / CONFIG).exists():
            stored, wanted = read_config(path), json.loads(_json(_config(job, data)))
            for part in ("data", "versions"):
                if (difference := _difference(stored.get(part), wanted[part], part)) is not None:
                    raise RunFolderError(
                        f"{path} holds another run: {difference}. Choose another folder, or run "
                        f"with what config.json says"
                    )
        elif path.exists() and not _is_blank(path):
            raise RunFolderError(
                f"{path} exists and is neither an empty folder nor a run's: choose another"
            )
        try:
            (path / NETWORKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunFolderError(f"cannot write the run folder {path}: {error}") from error
        return cls(path)

    def describe(self, job: Job, data: DataSet) -> None:
        """Write config.json; to be called by the process that has the folder to itself."""
        partial = self.path / (CONFIG + ".partial")
        try:
            partial.write_text(_json(_config(job, data)), encoding="utf-8")
            partial.replace(self.path / CONFIG)
        except OSError as error:
            raise RunFolderError(f"cannot write the run folder {self.path}: {error}") from error

    def finish(
        self,
        result: SweepResult,
        *,
        complete: bool,
        plan: str,
        work: dict[str, Any],
        judged: Judged | None,
    ) -> None:
        """Write the tables, and the pictures and the report of a complete run.

        `plan` says what trained together, `work` how long it took (see `Meter`).
        """
        best = result.best
        summary = {
            "complete": complete,
            "configurations": len(result.rows),
            "diverged": len(result.diverged),
            "replicates": None if result.winner is None else result.winner.count,
            "best": None if best is None else best.to_dict(),
            "test_accuracy": result.test_accuracy,
            "seconds": round(result.seconds, 2),
            "select": result.select,
            "noise": result.noise,
            "plan": plan,
            "work": self._work(work),
        }
        try:
            write_csv(result.rows, self.path / "results.csv")
            if any(len(one.rows) > 1 for one in result.replicates):
                write_replicates_csv(result.replicates, self.path / "replicates.csv")
            (self.path / SUMMARY).write_text(_json(summary), encoding="utf-8")
            if complete:
                from jaxnet.sweeps.pictures import draw  # matplotlib takes a while to import

                draw(result, self.path)
            if judged is not None:
                judged.save(self.path / JUDGED)
            if result.layers is not None:
                result.layers.save(self.path / LAYERS)
            from jaxnet.report import available, write_report

            if available():
                write_report([self.path], rows=result.rows)
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path}: {error}. The results are safe in {self.database}"
            ) from error

    def _work(self, work: dict[str, Any]) -> dict[str, Any]:
        """Return what training took: of this call, or of the one before if this trained nothing."""
        if work["training_seconds"] > 0:
            return work
        return read_summary(self.path).get("work", work)


def _is_blank(path: Path) -> bool:
    """Whether a folder is empty, but for what a run leaves that is killed as it begins."""
    begun = {NETWORKS, "sweep.db", "sweep.lock", CONFIG + ".partial"}
    return path.is_dir() and all(
        entry.name in begun or entry.name.startswith(("sweep.db-", "sweep.lock-"))
        for entry in path.iterdir()
    )


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
    """Return the versions that results may depend on."""
    packages = ("jaxnet", "jax", "jaxlib", "optax", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def _config(job: Job, data: DataSet) -> dict[str, Any]:
    device, splits = jax.devices()[0], job.split(data)
    return {
        "job": job.to_dict(),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "validation": len(splits.validation),
            "train": len(splits.train),
        },
        "versions": versions(),
        "machine": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": f"{device.platform}: {device.device_kind}",
        },
        "command": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _difference(stored: Any, wanted: Any, name: str) -> str | None:
    """Return a sentence on the first difference of two JSON values, None if there is none."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in stored if key not in wanted)]:
            inner = _difference(stored.get(key), wanted.get(key), f"{name}.{key}")
            if inner is not None:
                return inner
        return None
    return None if stored == wanted else f"{name} was {stored!r}, now is {wanted!r}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_json_default) + "\n"


def _json_default(value: Any) -> str:
    return getattr(value, "__name__", None) or type(value).__name__
