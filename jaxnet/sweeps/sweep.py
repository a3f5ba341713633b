"""The sweep: from a space and a data set to a table, a best network and a run folder."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnet.arguments.signatures import checked
from jaxnet.data import DataSet, load
from jaxnet.errors import ConfigurationError
from jaxnet.host.interrupt import Interrupt
from jaxnet.host.log import logged
from jaxnet.host.progress import Bar, Reporter
from jaxnet.sweeps.checks import check_job, check_options
from jaxnet.sweeps.cluster import Ray, connected
from jaxnet.sweeps.folder import LOG_FILE, RunFolder, folder_beside
from jaxnet.sweeps.halving import Halving
from jaxnet.sweeps.job import STEPS, Job
from jaxnet.sweeps.on_ray import OnRay
from jaxnet.sweeps.plan import Plan
from jaxnet.sweeps.planning import plan_job
from jaxnet.sweeps.record import EVALUATIONS, HISTORY_POINTS
from jaxnet.sweeps.results import SweepResult
from jaxnet.sweeps.run import Resources, Run
from jaxnet.sweeps.schedule import Callback
from jaxnet.sweeps.space import Listed, Space
from jaxnet.sweeps.store import Store


@checked
def sweep(
    space: Space | Sequence[Mapping[str, Any]],
    data: DataSet | str = "fashion-mnist-mini",
    *,
    steps: int = STEPS,
    seed: int = 0,
    replicates: int = 1,
    validation: int | None = None,
    train: int | None = None,
    split: str | None = None,
    split_seed: int = 0,
    halving: Halving | float | int | None = None,
    patience: int | None = None,
    evaluations: int = EVALUATIONS,
    history: int = HISTORY_POINTS,
    out: Path | str | None = None,
    beside: bool = False,
    keep: int | None = 1,
    select: str = "mean",
    memory: float | int | None = None,
    devices: int | None = None,
    on: str | Ray | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    **settings: Any,
) -> SweepResult:
    """Train every configuration of a space for `steps` updates, many at once, and rank them.

    `space` is a `grid`, a `random_draws` or a list of dicts of settings; `settings` hold for all
    (see `jaxnet.configure` for names and defaults). What decides the results, from `seed` to
    `history`: see `Job`. A result depends on settings and seed, not on what trains beside it, up to
    rounding.

    With `out` the run is kept in that folder. The same call goes on where it was interrupted; one
    with more configurations, seeds or steps computes what is missing, and goes on from networks
    that were kept where the schedule is the same for any length. The configurations that are there
    keep their ids, new ones come after. Any other run is refused, or with `beside` kept in
    out-2, out-3, ...: the first that is free, or that it extends. `keep`: the networks of how many
    settings (None: all). `select`: settings are ranked by the "mean" or the "median" over seeds.
    What trains together takes at most `memory` bytes (default: a quarter of the host's, half of an
    accelerator's); `plan` tells beforehand. It is divided among so many `devices` of this process
    (default: all, but CPU devices only where that is faster). `callback(Evaluation)` is called at
    each evaluation of each chunk, and may return ids to cut. `on` trains the chunks on a Ray
    cluster, see `Ray`.

    Raises ConfigurationError, DataError or RunFolderError before anything is trained.

    >>> from jaxnet.sweeps import grid
    >>> result = sweep(grid(learning_rate=[1e-2, 1e9], hidden=[[20]]), steps=40, batch_size=50)
    >>> result.best.settings["learning_rate"], len(result.diverged)
    (0.01, 1)
    """
    dataset = load(data) if isinstance(data, str) else data
    job = Job(
        _space(space),
        dataset.name,
        steps,
        seed,
        validation,
        train,
        settings,
        replicates,
        _halving(halving),
        patience,
        evaluations,
        history,
        split,
        split_seed,
    )
    return run_job(
        job,
        dataset,
        out=folder_beside(out, job, dataset) if beside and out is not None else out,
        progress=progress,
        memory=memory,
        keep=keep,
        select=select,
        callback=callback,
        devices=devices,
        on=on,
    )


@checked
def plan(
    space: Space | Sequence[Mapping[str, Any]],
    data: DataSet | str = "fashion-mnist-mini",
    *,
    steps: int = STEPS,
    seed: int = 0,
    replicates: int = 1,
    validation: int | None = None,
    train: int | None = None,
    split: str | None = None,
    split_seed: int = 0,
    halving: Halving | float | int | None = None,
    patience: int | None = None,
    evaluations: int = EVALUATIONS,
    history: int = HISTORY_POINTS,
    out: Path | str | None = None,
    beside: bool = False,
    keep: int | None = 1,
    select: str = "mean",
    memory: float | int | None = None,
    devices: int | None = None,
    on: str | Ray | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    **settings: Any,
) -> Plan:
    """Return what `sweep` would do with these arguments: groups, chunks, programs, memory, work.

    Nothing is trained; where memory is short, small programs are compiled to learn what they take.
    The arguments and errors are those of `sweep`. The plan is that of the whole job in this
    process: `out` is not read, nothing is called back, and no cluster is asked.

    >>> from jaxnet.sweeps import grid
    >>> print(plan(grid(learning_rate=[1e-2, 1e-3], batch_size=[50, 100]), memory=2e9))
    4 configurations × 200 steps: 2 groups, 2 chunks, 2 programs to compile, 0.0192 TFLOP; ...
    Split by batch_size: each combination is a group of its own.
    <BLANKLINE>
    batch_size  networks  at once  chunks  as arrays      MB   TFLOP
    50          2         2        1       learning_rate  6.5  0.00639
    100         2         2        1       learning_rate  6.5  0.0128
    """
    del progress, beside
    dataset = load(data) if isinstance(data, str) else data
    job = Job(
        _space(space),
        dataset.name,
        steps,
        seed,
        validation,
        train,
        settings,
        replicates,
        _halving(halving),
        patience,
        evaluations,
        history,
        split=split,
        split_seed=split_seed,
    )
    check_options(keep=keep, select=select, on=on, callback=callback, devices=devices)
    check_job(job, dataset, filed=out is not None)
    return plan_job(job, dataset, memory=memory, devices=devices)


@checked
def train(data: DataSet | str = "fashion-mnist-mini", **options: Any) -> SweepResult:
    """Train one network: a sweep of one configuration, with the options and settings of `sweep`.

    `result.network` is what it made.

    >>> result = train(steps=40, hidden=(30,), learning_rate=1e-2)
    >>> result.network.params["affine_1"]["w"].shape
    (784, 30)
    """
    return sweep([{}], data, **options)


@checked
def run_job(
    job: Job,
    data: DataSet,
    *,
    out: Path | str | None = None,
    progress: bool = False,
    memory: float | int | None = None,
    keep: int | None = 1,
    select: str = "mean",
    callback: Callback | None = None,
    devices: int | None = None,
    on: str | Ray | None = None,
) -> SweepResult:
    """Run a job on a data set already loaded; `sweep` says the rest."""
    started = time.perf_counter()
    cluster = check_options(keep=keep, select=select, on=on, callback=callback, devices=devices)
    check_job(job, data, filed=out is not None)
    # What cannot be is refused before anything is written.
    plan_job(job, data, memory=memory, devices=devices)
    with contextlib.ExitStack() as stack:
        if cluster is not None:
            stack.enter_context(connected(cluster))
        folder = None if out is None else RunFolder.open(out, job, data)
        store = None if folder is None else stack.enter_context(Store(folder.database))
        if folder is not None and store is not None:
            job = folder.enter(job, data, store)
            stack.enter_context(logged(folder.path / LOG_FILE))
        resources = Resources(
            executor=None if cluster is None else OnRay(cluster, memory),
            memory=memory,
            devices=devices,
            keep=keep,
            select=select,
            callback=callback,
        )
        run = Run(job, data, resources, folder, store)
        run.reporter = stack.enter_context(Bar(run.work_of()) if progress else Reporter())
        run.interrupt = stack.enter_context(Interrupt())
        try:
            run.train()
        except BaseException:
            # Ctrl-C, a full disk, no memory: what finished is kept, and readable.
            if folder is not None and run.found:
                with contextlib.suppress(OSError):
                    result = run.result(started, run.kept_best())
                    run.leave(result, complete=False)
                    publish_run(result, complete=False)
            raise
        network = run.best_network()
        result = run.result(started, network)
        run.leave(result, complete=True)
        publish_run(result, complete=True)
    return result


def publish_run(result: SweepResult, *, complete: bool) -> None:
    """Draw the pictures and the report of a run that has a folder."""
    if result.folder is None:
        return
    from jaxnet.report import publish  # here, as matplotlib takes a while to import

    publish(result, complete=complete)


def _halving(value: Halving | float | int | None) -> Halving | None:
    return Halving(value) if isinstance(value, float | int) else value


def _space(space: Space | Sequence[Mapping[str, Any]]) -> Space:
    if isinstance(space, Mapping):
        raise ConfigurationError(
            "sweep takes a space: write grid(**axes) for every combination of the lists in a "
            "dict, [settings] for one configuration"
        )
    return space if isinstance(space, Space) else Listed(space)
