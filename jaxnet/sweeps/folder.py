"""The run folder: what a run leaves behind, and what another needs to go on from it.

config.json        everything needed to run it again: job, data, versions, machine
sweep.db           results as they come (SQLite)
checkpoint-*.safetensors   the chunk in flight, by first id and size; gone when complete
best.safetensors   the best network so far
results.csv  summary.json  *.png    written at the end, also of an interrupted run
"""

import dataclasses
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
from jaxnet.network import Network
from jaxnet.sweeps.job import Job
from jaxnet.sweeps.plan import Chunk
from jaxnet.sweeps.results import SweepResult, swept, write_csv

CONFIG = "config.json"


class RunFolder:
    """A folder of one run. `create` never touches an old one, `resume` continues one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "sweep.db"
        self.weights = path / "best.safetensors"
        self.candidate = path / "candidate.safetensors"  # of a row not yet committed

    @classmethod
    def create(cls, path: Path | str, job: Job, data: DataSet) -> "RunFolder":
        """Make the folder and its config.json; RunFolderError if anything is there already."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunFolderError(
                f"{path} exists and is not an empty folder: choose another, or add --resume "
                f"(resume=True) to go on with the run in it"
            )
        folder = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / CONFIG).write_text(_json(_config(job, data)), encoding="utf-8")
        except OSError as error:
            raise RunFolderError(f"cannot write the run folder {path}: {error}") from error
        return folder

    @classmethod
    def resume(cls, path: Path | str, job: Job, data: DataSet) -> "RunFolder":
        """Open a run to go on with it, or create it; RunFolderError if it is of another job."""
        path = Path(path)
        if not (path / CONFIG).exists():
            return cls.create(path, job, data)
        stored = read_config(path)
        wanted = json.loads(_json(_config(job, data)))
        for part in ("job", "data", "versions"):
            if (difference := _difference(stored.get(part), wanted[part], part)) is not None:
                raise RunFolderError(
                    f"{path} holds another run: {difference}. Choose another folder, or run with "
                    f"what config.json says"
                )
        return cls(path)

    def checkpoint(self, chunk: Chunk) -> Path:
        """Return where the state of a chunk in flight is kept."""
        return self.path / f"checkpoint-{chunk.ids[0]}-{chunk.size}.safetensors"

    def adopt_weights(self, settings: dict[str, Any]) -> Network:
        """Make the file with the network of these settings, candidate or best, the best one."""
        for path in (self.candidate, self.weights):
            if not path.exists():
                continue
            network = Network.load(path)
            if network.settings == settings:
                path.replace(self.weights)
                return network
        raise RunFolderError(
            f"{self.path} has lost the weights of its best configuration: it needs "
            f"{self.weights.name}, or a run in a new folder"
        )

    def finish(self, result: SweepResult, *, complete: bool) -> None:
        """Write the tables, and the pictures of a complete run."""
        best = result.best
        summary = {
            "complete": complete,
            "configurations": len(result.rows),
            "diverged": len(result.diverged),
            "best": None if best is None else best.to_dict(),
            "test_accuracy": result.test_accuracy,
            "seconds": round(result.seconds, 2),
        }
        try:
            write_csv(result.rows, self.path / "results.csv")
            (self.path / "summary.json").write_text(_json(summary), encoding="utf-8")
            if complete:
                for left in self.path.glob("checkpoint-*.safetensors"):
                    left.unlink()  # of a run that was cut into other chunks
                self._draw(result)
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.path}: {error}. The results are safe in {self.database}"
            ) from error

    def _draw(self, result: SweepResult) -> None:
        import numpy as np

        from jaxnet import plots  # matplotlib takes a while to import

        best = result.best
        if best is not None and result.network is not None:
            history = best.outcome.history
            figure = plots.learning_curves(
                *(np.asarray(series) for series in dataclasses.astuple(history)),
                title=f"best configuration (id {best.id})",
                chance=1 / len(result.network.class_names),
            )
            figure.savefig(self.path / "curves.png", dpi=120)
            network = result.network
            images = len(network.input_shape) == 3 and network.input_shape[-1] in (1, 3)
            if images and network.preprocessing.method != "pca":  # whose inputs are no pixels
                height, width, channels = network.input_shape
                figure = plots.weight_images(
                    network.params["affine_1"]["w"],
                    (height, width, channels),
                    title="first-layer weights of the best",
                )
                figure.savefig(self.path / "weights.png", dpi=120)
        axes = swept(result.rows)
        if axes:
            columns = {
                name: [_plotted(row.settings.get(name)) for row in result.rows] for name in axes
            }
            figure = plots.accuracy_over_pairs(
                columns,
                [row.outcome.val_accuracy for row in result.rows],
                [not row.ok for row in result.rows],
                title="best validation accuracy",
            )
            figure.savefig(self.path / "accuracy.png", dpi=120)


def next_run_folder(kind: str, parent: Path | str = "runs") -> Path:
    """Return the first of parent/kind-001, kind-002, ... that does not exist."""
    number = 1
    while (path := Path(parent) / f"{kind}-{number:03d}").exists():
        number += 1
    return path


def read_config(path: Path | str) -> dict[str, Any]:
    """Return the config.json of a run folder."""
    file = Path(path) / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path} is not a run folder: it has no {CONFIG}") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict) or "job" not in config:
        raise RunFolderError(f"{file} is not the configuration of a run: it has no job")
    return config


def versions() -> dict[str, str]:
    """Return the versions that results may depend on."""
    packages = ("jaxnet", "jax", "jaxlib", "optax", "numpy")
    return {name: importlib.metadata.version(name) for name in packages}


def _config(job: Job, data: DataSet) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "job": job.to_dict(),
        "data": {"name": data.name, "fingerprint": data.fingerprint},
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


def _plotted(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=_json_default) + "\n"


def _json_default(value: Any) -> str:
    return getattr(value, "__name__", None) or type(value).__name__
