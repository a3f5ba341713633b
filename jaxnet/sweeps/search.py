"""Search by asking: a sampler proposes configurations, learns what became of them, and goes on."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxnet.arguments.checks import shown, whole
from jaxnet.arguments.signatures import checked
from jaxnet.data import DataSet, load
from jaxnet.errors import ConfigurationError
from jaxnet.host.interrupt import Interrupt
from jaxnet.host.progress import Bar, Reporter
from jaxnet.sweeps.checks import check_budget, check_keeping
from jaxnet.sweeps.extension import AnotherRun
from jaxnet.sweeps.folder import RunFolder
from jaxnet.sweeps.job import STEPS, Job
from jaxnet.sweeps.record import EVALUATIONS, HISTORY_POINTS
from jaxnet.sweeps.results import SweepResult
from jaxnet.sweeps.rounds import Rounds, check_round, with_settings
from jaxnet.sweeps.rows import Row
from jaxnet.sweeps.run import Resources
from jaxnet.sweeps.schedule import Callback
from jaxnet.sweeps.space import Distribution, Listed, Random, Settings
from jaxnet.sweeps.store import Store
from jaxnet.sweeps.sweep import publish_run


@runtime_checkable
class Sampler(Protocol):
    """What `search` asks for configurations: any object with these two methods.

    They are called in turn. What is not told was never trained: the search was interrupted.
    """

    def ask(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Return the settings of the next `count` configurations; fewer, or none, to end."""
        ...

    def tell(self, rows: Sequence[Row]) -> None:
        """Learn what became of all that was asked for last, in that order.

        One row a configuration, diverged and cut ones included (`row.ok`, `row.outcome.status`);
        with replicates so many rows each, one after another.
        """
        ...


class RandomSearch:
    """Independent draws from a space, whose `count` is not used; told rows change nothing.

    The same seed asks for the same configurations in any number of batches, those of
    `random_draws(...)` in a sweep of that seed.

    >>> from jaxnet.sweeps import log_uniform, random_draws
    >>> space = random_draws(3, learning_rate=log_uniform(1e-4, 1e-1))
    >>> sampler = RandomSearch(space, seed=7)
    >>> [*sampler.ask(1), *sampler.ask(2)] == space.settings(seed=7)
    True
    """

    def __init__(self, space: Random, seed: int = 0) -> None:
        self._axes, self._generator = (
            checked_axes("RandomSearch", space),
            np.random.default_rng(whole("seed", seed)),
        )

    def ask(self, count: int) -> list[Settings]:
        """Return the next draws."""
        return [
            {
                name: axis.draw(self._generator) if isinstance(axis, Distribution) else axis
                for name, axis in self._axes.items()
            }
            for _ in range(count)
        ]

    def tell(self, rows: Sequence[Row]) -> None:
        """Learn nothing."""


def checked_axes(name: str, space: Any) -> Mapping[str, Any]:
    """Return the axes of a random space; ConfigurationError for any other."""
    if not isinstance(space, Random):
        raise ConfigurationError(
            f"{name} draws from random_draws(count, learning_rate=log_uniform(1e-4, 1e-1), ...), "
            f"got {type(space).__name__}: every one of a grid or a list trains by sweep(space)"
        )
    return space.axes


@checked
def search(
    sampler: Sampler,
    data: DataSet | str = "fashion-mnist-mini",
    *,
    trials: int,
    batch: int,
    steps: int = STEPS,
    seed: int = 0,
    replicates: int = 1,
    validation: int | None = None,
    train: int | None = None,
    split: str | None = None,
    split_seed: int = 0,
    patience: int | None = None,
    evaluations: int = EVALUATIONS,
    history: int = HISTORY_POINTS,
    out: Path | str | None = None,
    keep: int | None = 1,
    select: str = "mean",
    memory: float | int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    **settings: Any,
) -> SweepResult:
    """Ask a sampler for `batch` configurations, train them at once, tell it the rows; repeat.

    It ends after `trials` configurations, or when the sampler has no more. The ids of the result's
    rows count in the order of asking; all else is as in `sweep`. Later batches run in the programs
    compiled for the first, places left free where there are fewer networks of a structure.

    With `out` all goes into that run folder. A configuration asked for again costs nothing there,
    unless it was cut: so a sampler that asks for the same when it starts again, as a seeded one
    that is told the same does, goes on where a killed search was. One that asks for others than the
    folder has results of is refused.

    Raises ConfigurationError, DataError or RunFolderError.

    >>> from jaxnet.sweeps import log_uniform, random_draws
    >>> sampler = RandomSearch(random_draws(1, learning_rate=log_uniform(1e-4, 1e-1)))
    >>> result = search(sampler, trials=4, batch=2, steps=20, hidden=[20], batch_size=50)
    >>> [row.id for row in result.rows]
    [0, 1, 2, 3]
    """
    dataset = load(data) if isinstance(data, str) else data
    options = (steps, seed, validation, train, settings, replicates, None)
    limits = (patience, evaluations, history, split, split_seed)
    job = Job(Listed([]), dataset.name, *options, *limits)
    return run_search(
        sampler,
        job,
        dataset,
        trials=trials,
        batch=batch,
        out=out,
        keep=keep,
        select=select,
        memory=memory,
        progress=progress,
        callback=callback,
    )


def run_search(
    sampler: Sampler,
    job: Job,
    data: DataSet,
    *,
    trials: int,
    batch: int,
    out: Path | str | None = None,
    keep: int | None = 1,
    select: str = "mean",
    memory: float | int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
) -> SweepResult:
    """Search on; what the list of `job` has already is not trained, but counted and reported."""
    started = time.perf_counter()
    trials, batch = whole("trials", trials, 1), whole("batch", batch, 1)
    check_keeping(keep, select)
    check_budget(memory)
    asked = before = len(job.space.settings(job.seed))
    folder: RunFolder | None = None
    store: Store | None = None
    run: Rounds | None = None
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar(float(trials - before)) if progress else Reporter())
        interrupt = stack.enter_context(Interrupt())

        def entered(most: int) -> None:
            if folder is not None and store is not None:
                folder.enter(job, data, store, trials=most * job.replicates)

        def extended(settings: Sequence[Settings]) -> Rounds:
            """Return the run with these configurations added, all of them checked."""
            nonlocal job, folder, store
            job = with_settings(job, settings)
            check_round(job, data, memory, filed=out is not None)  # before anything is written
            if out is not None and folder is None:
                folder = RunFolder.open(out, job, data)
                store = stack.enter_context(Store(folder.database))
            entered(max(trials, before))
            if run is not None:
                run.extend(job)
                return run
            most = min(batch, trials) * job.replicates
            resources = Resources(memory=memory, keep=keep, select=select, callback=callback)
            new = Rounds(job, data, resources, most, folder, store)
            new.run.interrupt = interrupt
            return new

        try:
            while asked < trials:
                interrupt.check()
                settings = _asked(sampler, min(batch, trials - asked))
                if not settings:
                    break
                run = extended(settings)
                first, asked = asked * job.replicates, asked + len(settings)
                if progress:
                    run.run.reporter = _Share(bar, run.work_from(first), len(settings))
                sampler.tell(run.train_from(first))
            if run is None and before:
                run = extended([])
        except AnotherRun:
            raise  # the folder is another search's, and stays as it is
        except BaseException:
            # Ctrl-C, a full disk, a sampler's error: what finished is kept, and readable.
            if run is not None and run.run.folder is not None and run.run.found:
                with contextlib.suppress(OSError):
                    publish_run(run.give_up(started), complete=False)
            raise
        if run is None:
            raise ConfigurationError("the sampler asked for no configuration at all")
        entered(asked)
        result = run.finish(started)
        publish_run(result, complete=True)
        return result


def _asked(sampler: Sampler, count: int) -> list[Settings]:
    asked = sampler.ask(count)
    if not isinstance(asked, Sequence) or not all(isinstance(one, Mapping) for one in asked):
        raise ConfigurationError(
            f"ask({count}) of the sampler should return a list of dicts of settings, such as "
            f"[{{'learning_rate': 0.01}}], got {shown(asked)}"
        )
    return [dict(settings) for settings in asked]


class _Share(Reporter):
    """Tells a bar that counts trials of the work of a round of so many."""

    def __init__(self, bar: Reporter, work: float, trials: int) -> None:
        self._bar, self._each = bar, trials / work if work else 0.0
        if not work:
            bar.advance(trials)  # all was known

    def advance(self, work: float) -> None:
        self._bar.advance(work * self._each)

    def say(self, text: str) -> None:
        self._bar.say(text)
