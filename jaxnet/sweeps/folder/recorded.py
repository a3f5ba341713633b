"""Read a run folder back; if the run still goes on, read the results committed so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxnet.data import load
from jaxnet.data.splits import LabelShift
from jaxnet.errors import ConfigurationError, DataError, JaxnetError, RunFolderError
from jaxnet.host.tensors import read_metadata
from jaxnet.host.texts import parse_json
from jaxnet.sweeps.folder.folder import DATABASE, JUDGED, LAYERS, read_config, read_summary
from jaxnet.sweeps.folder.row_ids import rows_of
from jaxnet.sweeps.folder.store import read_store
from jaxnet.sweeps.results.judged import Judged
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.results.replicates import Replicates, noise_note, rank_replicates, replicates
from jaxnet.sweeps.results.rows import Row, swept
from jaxnet.sweeps.results.sweep_result import middle_row, network_file
from jaxnet.training.network import Network


@dataclass(frozen=True, eq=False, kw_only=True)
class Recorded:
    """One run: its rows, the accuracies that decided each halving, and the files of its folder."""

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    rows: list[Row]
    rungs: dict[tuple[int, int], float]  # (id, step) -> validation accuracy
    network: Network | None
    judged: Judged | None
    layers: LayerHistory | None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def select(self) -> str:
        """The statistic that ranks settings, "mean" or "median"."""
        return self.summary.get("select") or "mean"

    @cached_property
    def settings(self) -> list[Replicates]:
        """The settings from best to worst, each with its seeds."""
        return rank_replicates(replicates(self.rows), by=self.select)

    @cached_property
    def means(self) -> list[float]:
        """The mean accuracy of each setting; NaN if all its seeds diverged."""
        return [setting.mean for setting in self.settings]

    @cached_property
    def best(self) -> Row | None:
        """The best row, as in `SweepResult.best`."""
        return middle_row(self.settings[0]) if self.settings[0].count else None

    def best_networks(self, most: int) -> list[tuple[Row, Network]]:
        """Return the saved networks among the best `most` settings, from the best on.

        Each setting is represented by its middle seed, as `best` is. A user's models are left out,
        because their functions are not in the folder.
        """
        found = []
        for setting in self.settings[:most]:
            row = middle_row(setting) if setting.count else None
            if row is None:
                continue
            file = network_file(self.folder, row.key)
            network = self.network if row is self.best else _optional(Network.load, file)
            if network is not None:
                found.append((row, network))
        return found

    @cached_property
    def axes(self) -> list[str]:
        """The names of the settings that vary, without the seed."""
        return [name for name in swept(self.rows) if name != "seed"]

    @property
    def validation(self) -> int | None:
        """The number of validation images, if it is known."""
        count = self.config.get("data", {}).get("validation")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def label_shifts(self) -> dict[str, LabelShift]:
        """How the labels of "validation" and "test" are distributed against the training labels."""
        parts = self.config.get("label_shifts", {})
        found = {part: LabelShift.from_dict(shift) for part, shift in parts.items()}
        return {part: shift for part, shift in found.items() if shift is not None}

    @property
    def noise(self) -> str | None:
        """A sentence if the winner's lead may be noise, else None."""
        if "noise" in self.summary:
            return self.summary["noise"]
        return noise_note(self.settings, validation=self.validation)

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, from the best network's file or else from the data set."""
        try:
            described = read_metadata(self.folder / "best.safetensors")
            # The file of a user's model has another key; its functions are not needed here.
            text = described.get("jaxnet") or described["jaxnet model"]
            return tuple(parse_json(text)["class_names"])
        except (DataError, KeyError, ValueError):
            pass
        try:
            return load(self.config["data"]["name"]).class_names
        except (JaxnetError, KeyError):
            return None

    @property
    def classes(self) -> int | None:
        """The number of classes, if it is known."""
        return None if self.class_names is None else len(self.class_names)


def read_run(folder: Path | str, rows: Sequence[Row] | None = None) -> Recorded:
    """Return the content of a run folder; raise RunFolderError if it has no results yet.

    A caller that has the rows can pass them, which saves a read.
    """
    folder = Path(folder)
    config = read_config(folder)
    rungs = {}
    if rows is None or config["job"].get("halving"):
        stored = read_store(folder / DATABASE)
        of_key = {one.key: i for i, one in reversed(list(enumerate(stored.ids)))}
        rungs = {(of_key[key], at): v for (key, at), v in stored.rungs.items() if key in of_key}
        if rows is None:
            rows = rows_of(stored.ids, {result.key: result for result in stored.results})
    if not rows:
        raise RunFolderError(f"{folder} has no results yet: wait until its first networks are done")
    return Recorded(
        folder=folder,
        config=config,
        summary=read_summary(folder),
        rows=list(rows),
        rungs=rungs,
        network=_optional(Network.load, folder / "best.safetensors"),
        judged=_optional(Judged.load, folder / JUDGED),
        layers=_optional(LayerHistory.load, folder / LAYERS),
    )


def _optional(read: Any, path: Path) -> Any:
    """Return the content of a file; None if there is none, or it belongs to a user's model."""
    try:
        return read(path) if path.exists() else None
    except (ConfigurationError, DataError, RunFolderError):
        return None
