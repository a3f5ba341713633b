"""What a user calls: sweep, plan, train, search, optimize. Each makes a job and carries it out."""

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxnet.arguments.checks import whole
from jaxnet.data import DataSet, load
from jaxnet.errors import ConfigurationError
from jaxnet.host.interrupt import Interrupt
from jaxnet.host.log import logged
from jaxnet.host.progress import Bar, Reporter
from jaxnet.sweeps.folder.extension import AnotherRun
from jaxnet.sweeps.folder.folder import LOG_FILE, RunFolder, folder_beside
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.planning.plan import Plan
from jaxnet.sweeps.planning.plan_job import plan_job
from jaxnet.sweeps.results.sweep_result import SweepResult
from jaxnet.sweeps.run.checks import check_job
from jaxnet.sweeps.run.cluster import connected
from jaxnet.sweeps.run.options import Asked, RunOptions, takes_options
from jaxnet.sweeps.run.optuna_sampler import OptunaSampler
from jaxnet.sweeps.run.ray_executor import OnRay
from jaxnet.sweeps.run.rounds import Rounds, check_round, with_settings
from jaxnet.sweeps.run.run import Resources, Run
from jaxnet.sweeps.run.search import Sampler, Share, asked_of
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Listed, Random, Settings, Space
from jaxnet.sweeps.stacks.timetable import Evaluation

if TYPE_CHECKING:
    import optuna

MINI = "fashion-mnist-mini"


@takes_options()
def sweep(
    space: Space | Sequence[Mapping[str, Any]], data: DataSet | str = MINI, *, asked: Asked
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
    dataset = _loaded(data)
    return _run(asked.job_of(space, dataset), dataset, asked.run)


@takes_options()
def plan(
    space: Space | Sequence[Mapping[str, Any]], data: DataSet | str = MINI, *, asked: Asked
) -> Plan:
    """Return what `sweep` would do with these arguments: groups, chunks, programs, memory, work.

    Nothing is trained; where memory is short, small programs are compiled to learn what they take.
    The arguments and errors are as in `sweep`. The plan is for the whole job in this
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
    dataset, options = _loaded(data), asked.run
    job = asked.job_of(space, dataset)
    check_job(job, dataset, filed=options.out is not None)
    return plan_job(job, dataset, memory=options.memory, devices=options.devices)


@takes_options()
def train(data: DataSet | str = MINI, *, asked: Asked) -> SweepResult:
    """Train one network: a sweep of one configuration, with the options and settings of `sweep`.

    `result.network` is what it made.

    >>> result = train(steps=40, hidden=(30,), learning_rate=1e-2)
    >>> result.network.params["affine_1"]["w"].shape
    (784, 30)
    """
    dataset = _loaded(data)
    return _run(asked.job_of([{}], dataset), dataset, asked.run)


@takes_options(job=False)
def run_job(job: Job, data: DataSet, *, asked: Asked) -> SweepResult:
    """Run a job on a data set already loaded; `sweep` says the rest."""
    return _run(job, data, asked.run)


_ROUNDS_WITHOUT = ("halving", "beside", "devices", "on")


@takes_options(without=_ROUNDS_WITHOUT)
def search(
    sampler: Sampler, data: DataSet | str = MINI, *, trials: int, batch: int, asked: Asked
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

    >>> from jaxnet.sweeps import RandomSearch, log_uniform, random_draws
    >>> sampler = RandomSearch(random_draws(1, learning_rate=log_uniform(1e-4, 1e-1)))
    >>> result = search(sampler, trials=4, batch=2, steps=20, hidden=[20], batch_size=50)
    >>> [row.id for row in result.rows]
    [0, 1, 2, 3]
    """
    dataset = _loaded(data)
    job = asked.job_of(Listed([]), dataset)
    return _search(sampler, job, dataset, asked.run, trials=trials, batch=batch)


@takes_options(without=_ROUNDS_WITHOUT)
def optimize(
    study: "optuna.study.Study",
    space: Random,
    data: DataSet | str = MINI,
    *,
    batch: int,
    trials: int | None = None,
    asked: Asked,
) -> SweepResult:
    """Search a space with an Optuna study, `batch` trials at once, until it has `trials`.

    `trials` (default: the count of the space) is how many the study has in the end, the trials of
    earlier calls included: the same call goes on where it was killed, a larger number extends the
    study. With `out`, the result has the rows of the earlier ones, too. Between two evaluations
    the study's pruner may end trials; pruners such as the median one judge by trials that are
    complete, which the first batch has none of. See `OptunaSampler` for how trials are told, and
    `sweep` for the rest.

    Of Optuna's storages take JournalStorage: with ten evaluations it takes some 10 ms a trial,
    SQLite 10 to 40 times as long, which is more than many a network trains.

    >>> import optuna                                         # doctest: +SKIP
    >>> study = optuna.create_study(direction="maximize")     # doctest: +SKIP
    >>> space = random_draws(60, learning_rate=log_uniform(1e-4, 1))  # doctest: +SKIP
    >>> optimize(study, space, batch=20, out="runs/tpe").best  # doctest: +SKIP
    """
    dataset, options = _loaded(data), asked.run
    sampler = OptunaSampler(study, space, select=options.select)
    trials = space.count if trials is None else trials
    example = asked.job_of(Random(1, space.axes), dataset)
    # Before a trial is asked for.
    check_round(example, dataset, options.memory, filed=options.out is not None)
    before = sampler.begin(trials, example.replicates, filed=options.out is not None)

    def judge(evaluation: Evaluation) -> set[int]:
        """Return what the pruner or the user's own callback cuts."""
        callback = options.callback
        cut = set(callback(evaluation) or ()) if callback is not None else set()
        return cut.union(sampler.prune(evaluation) if example.replicates == 1 else ())

    try:
        return _search(
            sampler,
            asked.job_of(Listed(before), dataset),
            dataset,
            dataclasses.replace(options, callback=judge),
            trials=trials,
            batch=batch,
        )
    finally:
        sampler.release()  # what an error or Ctrl-C has left open


def _loaded(data: DataSet | str) -> DataSet:
    return load(data) if isinstance(data, str) else data


def _run(job: Job, data: DataSet, options: RunOptions) -> SweepResult:
    """Carry out a job."""
    started, cluster, out = time.perf_counter(), options.cluster, options.out
    check_job(job, data, filed=out is not None)
    # What cannot be is refused before anything is written.
    plan_job(job, data, memory=options.memory, devices=options.devices)
    if options.beside and out is not None:
        out = folder_beside(out, job, data)
    with contextlib.ExitStack() as stack:
        if cluster is not None:
            stack.enter_context(connected(cluster))
        folder = None if out is None else RunFolder.open(out, job, data)
        store = None if folder is None else stack.enter_context(Store(folder.database))
        if folder is not None and store is not None:
            job = folder.enter(job, data, store)
            stack.enter_context(logged(folder.path / LOG_FILE))
        executor = None if cluster is None else OnRay(cluster, options.memory)
        resources = Resources.of(options, executor=executor)
        run = Run(job, data, resources, folder, store)
        run.reporter = stack.enter_context(Bar(run.work_of()) if options.progress else Reporter())
        run.interrupt = stack.enter_context(Interrupt())
        try:
            run.train()
        except BaseException:
            # Ctrl-C, a full disk, no memory: what finished is kept, and readable.
            if folder is not None and run.found:
                with contextlib.suppress(OSError):
                    result = run.result(started, run.kept_best())
                    run.leave(result, complete=False)
                    _publish(result, complete=False)
            raise
        network = run.best_network()
        result = run.result(started, network)
        run.leave(result, complete=True)
        _publish(result, complete=True)
    return result


def _search(
    sampler: Sampler, job: Job, data: DataSet, options: RunOptions, *, trials: int, batch: int
) -> SweepResult:
    """Search on; what the list of `job` has already is not trained, but counted and reported."""
    started, memory, out = time.perf_counter(), options.memory, options.out
    trials, batch = whole("trials", trials, 1), whole("batch", batch, 1)
    asked = before = len(job.space.settings(job.seed))
    folder: RunFolder | None = None
    store: Store | None = None
    rounds: Rounds | None = None
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Bar(float(trials - before)) if options.progress else Reporter())
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
            if rounds is not None:
                rounds.extend(job)
                return rounds
            most = min(batch, trials) * job.replicates
            new = Rounds(job, data, Resources.of(options), most, folder, store)
            new.run.interrupt = interrupt
            return new

        try:
            while asked < trials:
                interrupt.check()
                settings = asked_of(sampler, min(batch, trials - asked))
                if not settings:
                    break
                rounds = extended(settings)
                first, asked = asked * job.replicates, asked + len(settings)
                if options.progress:
                    rounds.run.reporter = Share(bar, rounds.work_from(first), len(settings))
                sampler.tell(rounds.train_from(first))
            if rounds is None and before:
                rounds = extended([])
        except AnotherRun:
            raise  # the folder is another search's, and stays as it is
        except BaseException:
            # Ctrl-C, a full disk, a sampler's error: what finished is kept, and readable.
            if rounds is not None and folder is not None and rounds.run.found:
                with contextlib.suppress(OSError):
                    _publish(rounds.give_up(started), complete=False)
            raise
        if rounds is None:
            raise ConfigurationError("the sampler asked for no configuration at all")
        entered(asked)
        result = rounds.finish(started)
        _publish(result, complete=True)
        return result


def _publish(result: SweepResult, *, complete: bool) -> None:
    """Draw the pictures and the report of a run that has a folder."""
    if result.folder is None:
        return
    from jaxnet.report import publish  # here, as matplotlib takes a while to import

    publish(result, complete=complete)
