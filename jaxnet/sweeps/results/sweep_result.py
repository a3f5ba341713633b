"""What a sweep found: its rows, its winner, and the networks that were kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jaxnet.arguments.signatures import checked
from jaxnet.data.splits import LabelShift
from jaxnet.errors import RunFolderError
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.results.replicates import Replicates, noise_note, rank_replicates, replicates
from jaxnet.sweeps.results.rows import Row, rank, swept
from jaxnet.training.network import Network
from jaxnet.training.settings import Structure

NETWORKS = "networks"  # the folder, in that of a run, of what is kept


def network_file(folder: Path, key: str) -> Path:
    """Return where the network of a row is, if it is kept."""
    return folder / NETWORKS / f"{key}.safetensors"


@dataclass(frozen=True, eq=False, kw_only=True)
class SweepResult:
    """What a sweep found; `network` is the one of `best`.

    It and `test_accuracy` are None if all configurations diverged. `test_accuracy` is the
    network's on the test images, which nothing else has seen. `seconds` is the time this call took;
    `folder` the run folder, if there is one. Seeds are replicates: settings are ranked by the mean
    of the validation accuracy over them, or by the median (`select`).
    """

    rows: list[Row]
    network: Network | None
    test_accuracy: float | None
    seconds: float
    folder: Path | None
    select: str = "mean"
    validation: int | None = None  # how many images judged
    label_shifts: Mapping[str, LabelShift] = field(default_factory=dict)  # of validation and test
    networks: Mapping[str, Network] = field(default_factory=dict)  # kept without a folder
    models: Mapping[int, Structure] = field(default_factory=dict)  # of rows of a user's model
    layers: LayerHistory | None = None  # of a single run with a folder: what went on inside

    @property
    def ranked(self) -> list[Row]:
        """The rows from best to worst: validation accuracy, then lower loss; diverged last."""
        return rank(self.rows)

    @cached_property
    def replicates(self) -> list[Replicates]:
        """The settings, each with its rows: one a seed; from best to worst."""
        return rank_replicates(replicates(self.rows), by=self.select)

    @property
    def winner(self) -> Replicates | None:
        """The best setting, None if all diverged."""
        first = self.replicates[:1]
        return first[0] if first and first[0].count else None

    @cached_property
    def best(self) -> Row | None:
        """The row of the winner; of several seeds the middle one, which no luck has picked."""
        return middle_row(self.winner)

    @property
    def noise(self) -> str | None:
        """A sentence if the winner's lead may be noise, None if it is clear."""
        return noise_note(self.replicates, validation=self.validation)

    @property
    def diverged(self) -> list[Row]:
        """The rows whose loss became infinite or not a number."""
        return [row for row in self.rows if not row.ok]

    @property
    def swept(self) -> list[str]:
        """The names of the settings that vary between rows."""
        return swept(self.rows)

    @checked
    def network_of(self, id: int) -> Network:
        """Return the trained network of a row; RunFolderError if it was not kept (see `keep`)."""
        row = next((row for row in self.rows if row.id == id), None)
        if row is None:
            raise RunFolderError(f"there is no configuration {id}: ids are those of the rows")
        if row.key in self.networks:
            return self.networks[row.key]
        path = None if self.folder is None else network_file(self.folder, row.key)
        if path is None or not path.exists():
            raise RunFolderError(not_kept(id))
        structure = self.models.get(id)
        if structure is None or structure.model is None:
            return Network.load(path)
        objects = {name: one.value for name, one in structure.arguments if not one.is_plain}
        return Network.load(path, structure.model.value, **objects)


def not_kept(id: int) -> str:
    """Return the text for a network that is not there."""
    return (
        f"the network of configuration {id} was not kept: run again with keep=None (--keep all), "
        f"which keeps all, or with a larger number"
    )


def best_of(rows: Sequence[Row], select: str) -> Row | None:
    """Return the row of the best setting, None if all diverged; see `SweepResult.best`."""
    first = rank_replicates(replicates(rows), by=select)[:1]
    return middle_row(first[0]) if first and first[0].count else None


def middle_row(setting: Replicates | None) -> Row | None:
    """Return the middle one of the rows that did not diverge, by rank; the lower of two."""
    if setting is None:
        return None
    finite = [row for row in rank(setting.rows) if row.ok]
    return finite[len(finite) // 2]


def wanted(rows: Sequence[Row], keep: int | None, select: str) -> list[Row]:
    """Return the rows whose networks to keep: the best `keep` settings, None: of all."""
    finite = [row for row in rows if row.ok]
    if keep is None:
        return finite
    best = rank_replicates(replicates(finite), by=select)[:keep]
    return [row for setting in best for row in setting.rows]
