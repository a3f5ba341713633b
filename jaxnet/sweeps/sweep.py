"""The sweep: from a space and a data set to a table, a best network and a run folder."""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnet.configuration import Configuration, Structure
from jaxnet.data import DataSet, Preprocessing, Splits, load
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Tree
from jaxnet.network import Network
from jaxnet.progress import Bar, Reporter
from jaxnet.sweeps.checkpoint import Checkpoint
from jaxnet.sweeps.chunk import ChunkResult, prepare, train_chunk
from jaxnet.sweeps.folder import RunFolder
from jaxnet.sweeps.interrupt import Interrupt
from jaxnet.sweeps.job import STEPS, Job
from jaxnet.sweeps.plan import Chunk, Plan, make_plan, memory_budget, preprocessing_of
from jaxnet.sweeps.results import Row, SweepResult, best_of
from jaxnet.sweeps.space import Listed, Space
from jaxnet.sweeps.store import Store
from jaxnet.training import check_optimizer


def sweep(
    space: Space | Sequence[Mapping[str, Any]],
    data: DataSet | str = "fashion-mnist-mini",
    *,
    steps: int = STEPS,
    seed: int = 0,
    validation: int | None = None,
    train: int | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    progress: bool = False,
    memory: float | int | None = None,
    **settings: Any,
) -> SweepResult:
    """Train every configuration of a space for `steps` updates, many at once, and rank them.

    `space` is a `grid`, a `random` draw or a list of dicts of settings; `settings` hold for all
    (see `jaxnet.configure` for names and defaults). `validation`, `train` and `seed`: see `Job`.
    With `out` the run is kept in that folder, and `resume=True` goes on with what is there.
    What trains together takes at most `memory` bytes by estimate (default: a quarter of the
    host's, half of an accelerator's); `plan` tells beforehand.
    A configuration's result depends on its settings and seed, not on what trains beside it, up to
    rounding. Raises ConfigurationError, DataError or RunFolderError before anything is compiled.

    >>> from jaxnet.sweeps import grid
    >>> result = sweep(grid(learning_rate=[1e-2, 1e9], hidden=[[20]]), steps=40, batch_size=50)
    >>> result.best.settings["learning_rate"], len(result.diverged)
    (0.01, 1)
    """
    space, dataset = _space(space), load(data) if isinstance(data, str) else data
    job = Job(space, dataset.name, steps, seed, validation, train, settings)
    return run_job(job, dataset, out=out, resume=resume, progress=progress, memory=memory)


def plan(
    space: Space | Sequence[Mapping[str, Any]],
    data: DataSet | str = "fashion-mnist-mini",
    *,
    steps: int = STEPS,
    seed: int = 0,
    validation: int | None = None,
    train: int | None = None,
    memory: float | int | None = None,
    **settings: Any,
) -> Plan:
    """Return what `sweep` would do with these arguments: groups, chunks, programs, memory, work.

    Nothing is compiled or trained. The errors are those of `sweep`.

    >>> from jaxnet.sweeps import grid
    >>> print(plan(grid(learning_rate=[1e-2, 1e-3], hidden=[[20], [30]]), memory=2e9))
    4 configurations × 200 steps: 2 groups, 2 chunks, 2 programs to compile, 0.0128 TFLOP; ...
    Split by hidden: each combination is a program of its own.
    <BLANKLINE>
    hidden  networks  at once  chunks  as arrays      MB   TFLOP
    20      2         2        1       learning_rate  1.5  0.00511
    30      2         2        1       learning_rate  2.1  0.00767
    """
    space, dataset = _space(space), load(data) if isinstance(data, str) else data
    job = Job(space, dataset.name, steps, seed, validation, train, settings)
    return plan_job(job, dataset, memory=memory)


def plan_job(job: Job, data: DataSet, *, memory: float | int | None = None) -> Plan:
    """Return what `run_job` would do; ConfigurationError if one network needs more than memory."""
    budget = memory_budget() if memory is None else memory
    features, classes = data.train_images[0].size, len(data.class_names)
    found = make_plan(job.configurations(), features, classes, steps=job.steps, memory=budget)
    if memory is not None:
        for group in found.groups:
            if group.bytes_per_network > memory:
                raise ConfigurationError(
                    f"memory: one network of hidden {group.structure.hidden}, batch size "
                    f"{group.structure.batch_size} takes {group.bytes_per_network} bytes by "
                    f"estimate, got a budget of {memory:.0f}: raise it, or shrink the network"
                )
    return found


def _space(space: Space | Sequence[Mapping[str, Any]]) -> Space:
    if isinstance(space, Mapping):
        raise ConfigurationError(
            "sweep takes a space: write grid(**axes) for every combination of the lists in a "
            "dict, [settings] for one configuration"
        )
    return space if isinstance(space, Space) else Listed(space)


def train(data: DataSet | str = "fashion-mnist-mini", **options: Any) -> SweepResult:
    """Train one network: a sweep of one configuration, with the options and settings of `sweep`.

    `result.network` is what it made.

    >>> result = train(steps=40, hidden=(30,), learning_rate=1e-2)
    >>> result.network.params["affine_1"]["w"].shape
    (784, 30)
    """
    return sweep([{}], data, **options)


def run_job(
    job: Job,
    data: DataSet,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    progress: bool = False,
    memory: float | int | None = None,
) -> SweepResult:
    """Run a job on a data set already loaded; `sweep` says the rest."""
    started = time.perf_counter()
    configurations = job.configurations()
    splits = split(job, data)
    classes = len(data.class_names)
    features = data.train_images[0].size
    chunks = plan_job(job, data, memory=memory).chunks
    _check_components(configurations, most=min(len(splits.train), features))
    for structure, numbers in {c.structure: list(c.numbers) for c in configurations}.items():
        if callable(structure.optimizer):
            check_optimizer(structure, numbers, features, classes)
    folder = None
    if out is not None:
        folder = (RunFolder.resume if resume else RunFolder.create)(out, job, data)

    with contextlib.ExitStack() as stack:
        store = None if folder is None else stack.enter_context(Store(folder.database))
        found = _Found(data, folder, store)
        waiting = [chunk for chunk in chunks if not found.has(chunk)]
        total = sum(chunk.flops_per_step for chunk in waiting) * job.steps
        reporter = stack.enter_context(Bar(total) if progress else Reporter())
        interrupt = stack.enter_context(Interrupt())
        try:
            _train_all(
                waiting, configurations, splits, classes, job.steps, found, reporter, interrupt
            )
        except BaseException:
            # Ctrl-C, a full disk, no memory: what finished is kept, and readable.
            if folder is not None and found.rows:
                seconds = time.perf_counter() - started
                partial = SweepResult(found.rows, found.network, None, seconds, folder.path)
                with contextlib.suppress(OSError):
                    if partial.best is not None:
                        folder.adopt_weights(partial.best.settings)
                    folder.finish(partial, complete=False)
            raise
    test_accuracy = None if found.network is None else found.network.accuracy(splits.test)
    seconds = time.perf_counter() - started
    path = None if folder is None else folder.path
    result = SweepResult(found.rows, found.network, test_accuracy, seconds, path)
    if folder is not None:
        folder.finish(result, complete=True)
    return result


def _check_components(configurations: Sequence[Configuration], *, most: int) -> None:
    for configuration in configurations:
        components = configuration.structure.components
        if components is not None and components > most:
            raise ConfigurationError(
                f"components must be in 1..{most}, the smaller of training images and pixels, "
                f"got {components}"
            )


def split(job: Job, data: DataSet) -> Splits:
    """Return the training, validation and test examples of a job."""
    rows = len(data.train_labels)
    validation = min(1000, max(1, rows // 4)) if job.validation is None else job.validation
    return data.split(validation, job.train)


def _train_all(
    chunks: Sequence[Chunk],
    configurations: Sequence[Configuration],
    splits: Splits,
    classes: int,
    steps: int,
    found: "_Found",
    reporter: Reporter,
    interrupt: Interrupt,
) -> None:
    method, data = None, None
    for chunk in chunks:
        interrupt.check()
        structure = configurations[chunk.ids[0]].structure
        wanted = (*preprocessing_of(structure), structure.precision)
        if data is None or wanted != method:
            method, data = wanted, None  # drop the old data before making the new
            data = prepare(splits, structure)
        padded = [*chunk.ids, *[chunk.ids[-1]] * (chunk.size - len(chunk.ids))]

        def on_steps(count: int, chunk: Chunk = chunk) -> None:
            reporter.advance(count * chunk.flops_per_step)
            interrupt.check()

        result = train_chunk(
            [configurations[i] for i in padded],
            data,
            classes,
            steps=steps,
            on_steps=on_steps,
            checkpoint=found.checkpoint(chunk),
        )
        found.add(chunk, configurations, result, data.preprocessing)
        reporter.say(found.summary(len(configurations)))


class _Found:
    """The rows so far and the best network among them, in memory and, if there is one, on disk."""

    def __init__(self, data: DataSet, folder: RunFolder | None, store: Store | None) -> None:
        self.data, self.folder, self.store = data, folder, store
        self._rows = {row.id: row for row in (store.rows() if store is not None else [])}
        self.network: Network | None = None
        best = best_of(self.rows)
        if folder is not None and best is not None:
            self.network = folder.adopt_weights(best.settings)

    @property
    def rows(self) -> list[Row]:
        """The rows by id."""
        return [self._rows[i] for i in sorted(self._rows)]

    def has(self, chunk: Chunk) -> bool:
        """Whether all of a chunk was committed."""
        return self._rows.keys() >= set(chunk.ids)

    def checkpoint(self, chunk: Chunk) -> Checkpoint | None:
        """Return where the state of a chunk in flight is kept."""
        return None if self.folder is None else Checkpoint(self.folder.checkpoint(chunk))

    def add(
        self,
        chunk: Chunk,
        configurations: Sequence[Configuration],
        result: ChunkResult,
        preprocessing: Preprocessing,
    ) -> None:
        """Take in a finished chunk: new best weights beside the old, then rows, then the exchange.

        Killed anywhere on the way, the folder holds the weights of the best committed row.
        """
        rows = [
            Row(i, json.loads(json.dumps(configurations[i].to_dict())), outcome)
            for i, outcome in zip(chunk.ids, result.outcomes, strict=False)  # padding is dropped
        ]
        self._rows |= {row.id: row for row in rows}
        best = best_of(self.rows)
        if best is not None and best.id in chunk.ids:
            trained = result.network(chunk.ids.index(best.id))
            structure = configurations[best.id].structure
            self.network = self._network(structure, best, trained, preprocessing)
            if self.folder is not None:
                self.network.save(self.folder.candidate)
        if self.folder is None or self.store is None:
            return
        self.store.add(rows)
        if best is not None and best.id in chunk.ids:
            self.folder.adopt_weights(best.settings)
        self.folder.checkpoint(chunk).unlink(missing_ok=True)

    def _network(
        self,
        structure: Structure,
        row: Row,
        params_and_state: tuple[Tree, Tree],
        preprocessing: Preprocessing,
    ) -> Network:
        params, state = params_and_state
        return Network(
            hidden=structure.hidden,
            activation=structure.activation,
            norm=structure.norm,
            input_shape=self.data.input_shape,
            class_names=self.data.class_names,
            preprocessing=preprocessing,
            params=params,
            state=state,
            settings=row.settings,
        )

    def summary(self, total: int) -> str:
        """Return a line on how far the sweep is."""
        best = best_of(self.rows)
        accuracy = "none yet" if best is None else f"{best.outcome.val_accuracy:.3f}"
        return f"{len(self.rows)}/{total} configurations, best {accuracy}"
