"""The networks that a sweep keeps: of its best settings, in the run folder or in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnet.sweeps.folder.network_file import save_trained, saved_step
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.results.sweep_result import NETWORKS, network_file, wanted
from jaxnet.training.network import Network
from jaxnet.training.step import Member


class Keeper:
    """Keeps the networks of the best `keep` settings (None: of all) as rows come in.

    `related(rows)` gives the rows so far of the settings that these rows are of: with several seeds
    a setting's rank changes as they come. `load(row)` reads a network from its file.
    """

    def __init__(
        self,
        folder: Path | None,
        keep: int | None,
        select: str,
        related: Callable[[Sequence[Row]], list[Row]],
        load: Callable[[Row], Network],
    ) -> None:
        self._folder, self._keep, self._select = folder, keep, select
        self._related, self._load = related, load
        self._kept: dict[str, Row] = {}
        self.in_memory: dict[str, Network] = {}

    def begin(self, rows: Sequence[Row]) -> None:
        """Take in the networks of an earlier call that are in the folder."""
        if self._folder is None:
            return
        there = {path.stem for path in (self._folder / NETWORKS).glob("*.safetensors")}
        self._kept |= {row.key: row for row in rows if row.key in there}

    def file(self, row: Row) -> Path | None:
        """Return where the network of a row is, if it is kept; None without a folder."""
        return None if self._folder is None else network_file(self._folder, row.key)

    def add(
        self, rows: Sequence[Row], trained: Callable[[Row], tuple[Network, Member]]
    ) -> list[Path]:
        """Keep the networks of these rows that are among the best now; return files not wanted any
        more.

        To be called before the rows are committed, and the files removed after: whatever happens
        between, a committed row that should have its network has it.
        """
        touched = self._related([*rows, *self._kept.values()])
        chosen = {row.key: row for row in wanted(touched, self._keep, self._select)}
        for row in rows:
            if row.key not in chosen:
                continue
            network, member = trained(row)
            path = self.file(row)
            if path is None:
                self.in_memory[row.key] = network
            else:
                save_trained(path, network, member, row.outcome)
            self._kept[row.key] = row
        obsolete = [row for key, row in self._kept.items() if key not in chosen]
        for row in obsolete:
            del self._kept[row.key]
            self.in_memory.pop(row.key, None)
        return [path for row in obsolete if (path := self.file(row)) is not None]

    def missing(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows whose network should be here, and is not: it is of an earlier run, say.

        What was cut has one only if its settings are kept; it is not trained again for it.
        """
        best = wanted(rows, self._keep, self._select)
        return [row for row in best if row.whole and not self.has(row)]

    def has(self, row: Row) -> bool:
        """Whether the network of a row is kept, as it was when the row was committed."""
        if row.key in self.in_memory:
            return True
        path = self.file(row)
        return path is not None and path.exists() and saved_step(path) == row.outcome.steps

    def network(self, row: Row) -> Network:
        """Return the network of a row that `has` one."""
        return self.in_memory[row.key] if row.key in self.in_memory else self._load(row)
