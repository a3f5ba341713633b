"""What a run folder knows, read back; of a run that is still going, what is committed so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxnet.data import load
from jaxnet.data.splits import LabelShift
from jaxnet.errors import DataError, JaxnetError, RunFolderError
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


@dataclass(frozen=True, eq=False)
class Recorded:
    """One run: its rows, what each halving was decided on, and the files of its folder."""

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
        """What settings are ranked by."""
        return self.summary.get("select") or "mean"

    @cached_property
    def settings(self) -> list[Replicates]:
        """The settings from best to worst, each with its seeds."""
        return rank_replicates(replicates(self.rows), by=self.select)

    @cached_property
    def means(self) -> list[float]:
        """The mean accuracy of each of the settings; NaN where all seeds diverged."""
        return [setting.mean for setting in self.settings]

    @cached_property
    def best(self) -> Row | None:
        """The best row, as `SweepResult.best`."""
        return middle_row(self.settings[0]) if self.settings[0].count else None

    def best_networks(self, most: int) -> list[tuple[Row, Network]]:
        """Return the networks of the best settings that are kept, from the best on.

        Of the best `most` settings, so that what is shown has a known place; each by its middle
        seed, as `best`. A user's models are left out: their functions are not in the folder.
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
        """The settings that vary, but for the seed."""
        return [name for name in swept(self.rows) if name != "seed"]

    @property
    def validation(self) -> int | None:
        """How many images judged."""
        count = self.config.get("data", {}).get("validation")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def label_shifts(self) -> dict[str, LabelShift]:
        """How far the labels of "validation" and of "test" are from those trained on."""
        parts = self.config.get("label_shifts", {})
        found = {part: LabelShift.from_dict(shift) for part, shift in parts.items()}
        return {part: shift for part, shift in found.items() if shift is not None}

    @property
    def noise(self) -> str | None:
        """A sentence if the winner's lead may be noise."""
        if "noise" in self.summary:
            return self.summary["noise"]
        return noise_note(self.settings, validation=self.validation)

    @cached_property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, from the best network's file, else from the data."""
        try:
            described = read_metadata(self.folder / "best.safetensors")
            # A user's model is described under another name; its functions are not needed here.
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
        """How many classes there are, if that is known."""
        return None if self.class_names is None else len(self.class_names)


def read_run(folder: Path | str, rows: Sequence[Row] | None = None) -> Recorded:
    """Return what a run folder holds; RunFolderError if it is none, or has no results yet.

    `rows` spares reading those that are at hand.
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
        folder,
        config,
        read_summary(folder),
        list(rows),
        rungs,
        _optional(Network.load, folder / "best.safetensors"),
        _optional(Judged.load, folder / JUDGED),
        _optional(LayerHistory.load, folder / LAYERS),
    )


def _optional(read: Any, path: Path) -> Any:
    """Return what a file holds; None if there is none, or it is of a user's model."""
    try:
        return read(path) if path.exists() else None
    except (DataError, RunFolderError):
        return None
