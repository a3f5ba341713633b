"""Carry out a job: what is missing is planned, trained chunk by chunk, and committed."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from jaxnet.data import DataSet
from jaxnet.errors import RunFolderError
from jaxnet.host.interrupt import Interrupt
from jaxnet.host.progress import Reporter
from jaxnet.sweeps.folder.checkpoint import Checkpoint, StoredStack
from jaxnet.sweeps.folder.folder import DATABASE, LAYERS, RunFolder, read_config
from jaxnet.sweeps.folder.identity import identify, shown
from jaxnet.sweeps.folder.keep import Keeper
from jaxnet.sweeps.folder.network_file import load_saved, network_of
from jaxnet.sweeps.folder.pool import Pool
from jaxnet.sweeps.folder.row_ids import rows_of
from jaxnet.sweeps.folder.store import Result, Store, read_store
from jaxnet.sweeps.planning.plan import Plan
from jaxnet.sweeps.planning.plan_job import capacity_here, plan_job
from jaxnet.sweeps.results.judged import judge
from jaxnet.sweeps.results.record import evaluation_steps
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.results.sweep_result import SweepResult, best_of, network_file, not_kept
from jaxnet.sweeps.run.local_executor import Desk, Executor, Finished, Local
from jaxnet.sweeps.run.meter import Meter
from jaxnet.sweeps.run.options import RunOptions
from jaxnet.sweeps.run.queue import Assignment, Interrupted, Queue, Sizes
from jaxnet.sweeps.space.halving import Bracket
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.stacks.prepared import DataCache, shapes_of
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.sweeps.stacks.task import Task
from jaxnet.sweeps.stacks.timetable import Callback, Timetable
from jaxnet.sweeps.stacks.watch import Watcher
from jaxnet.training.network import Network
from jaxnet.training.numerics import pinned_flags
from jaxnet.training.program import Program
from jaxnet.training.step import Member


def kept_network(folder: Path | str, id: int) -> Network:
    """Return the network of one configuration of a run folder; RunFolderError if it was not kept.

    `id` is the one in `results.csv`.
    """
    read_config(folder)  # says so where it is no run folder
    ids = read_store(Path(folder) / DATABASE).ids
    if not 0 <= id < len(ids):
        raise RunFolderError(f"{folder} has configurations 0 to {len(ids) - 1}, not {id}")
    network = ids[id].network
    path = None if network is None else network_file(Path(folder), network)
    if path is None or not path.exists():
        raise RunFolderError(not_kept(id))
    return Network.load(path)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a run trains with, and what it keeps of it.

    `executor` is where networks train (default: this process), each chunk within `memory` bytes.
    `in_blocks`: plans may cut hidden layers into blocks, see `make_plan`. `choose` may put an
    assignment into another program than the plan's, at the `sizes` that programs have had.
    """

    executor: Executor | None = None
    memory: float | int | None = None
    devices: int | None = None
    keep: int | None = 1
    select: str = "mean"
    callback: Callback | None = None
    in_blocks: bool = True
    choose: Callable[[Assignment], Assignment] | None = None
    sizes: Sizes = field(default_factory=Sizes)

    @classmethod
    def of(cls, options: RunOptions, *, executor: Executor | None = None) -> "Resources":
        """Return the resources that a user asks for."""
        return cls(
            executor=executor,
            memory=options.memory,
            devices=options.devices,
            keep=options.keep,
            select=options.select,
            callback=options.callback,
        )


class Run:
    """A job on its way: what was found so far, in memory and, if there is one, in its folder."""

    def __init__(
        self,
        job: Job,
        data: DataSet,
        resources: Resources,
        folder: RunFolder | None = None,
        store: Store | None = None,
    ) -> None:
        self.data, self.folder, self.store, self.resources = data, folder, store, resources
        self.executor = resources.executor or Local(
            capacity_here(resources.memory, resources.devices)
        )
        self.reporter, self.interrupt, self.meter = Reporter(), Interrupt(), Meter()
        self.splits = job.splits(data)
        self.prepared = DataCache(self.splits, shapes_of(data))
        path = None if folder is None else folder.path
        self.keeper = Keeper(path, resources.keep, resources.select, self._related, self._loaded)
        self.pool = Pool(path, self._restored)
        self.watcher: Watcher | None = None
        self.callback = resources.callback
        self.started, self.trained, self.highest = time.perf_counter(), 0, math.nan
        self.take(job)

    def take(self, job: Job) -> None:
        """Set out on a job: what the store has of it is found already."""
        self.job, self.configurations = job, job.configurations()
        self.identities = identify(job)
        self.keys = [identity.key for identity in self.identities]
        self.settings = shown([identity.settings for identity in self.identities])
        self.id_of = {key: i for i, key in reversed(list(enumerate(self.keys)))}
        self.units = job.units()
        self.unit_of = {i: unit for unit in self.units for i in unit}
        self.brackets = self._brackets()
        self.timetable = self._timetable()
        self.found: dict[str, Result] = {}
        self.rungs: dict[tuple[str, int], float] = {}
        if self.store is not None:
            known = set(self.keys)
            self.found = {r.key: r for r in self.store.results() if r.key in known}
            self.rungs = {at: v for at, v in self.store.rungs().items() if at[0] in known}
        self.keeper.begin(self.rows)
        # What goes on prefers what was compiled before.
        for stored in self.pool.stored:
            if stored.keys[0] in self.id_of:
                self.resources.sizes.note(self._program(stored))
        one, self.watcher = self.configurations[0] if len(self.configurations) == 1 else None, None
        if one is not None and self.folder is not None and one.structure.row.is_chain:
            self.watcher = Watcher(one, job.steps, self.folder.path / LAYERS)

    def _brackets(self) -> list[Bracket]:
        if self.job.halving is None:
            return [Bracket((self.job.steps,), tuple(range(len(self.configurations))))]
        return self.job.halving.deal(len(self.units), self.job.steps, self.job.seed)

    def _timetable(self) -> Timetable:
        steps = self.job.steps
        rungs = {rung for bracket in self.brackets for rung in bracket.rungs}
        evaluations = sorted({*evaluation_steps(steps, self.job.evaluations), *rungs})
        stride = math.ceil(steps / self.job.history)
        return Timetable(steps, tuple(evaluations), stride, self.job.stop)

    def work_of(self, ids: Iterable[int] | None = None) -> float:
        """Return the floating-point operations of what is still to train of these, or of all."""
        ids = range(len(self.configurations)) if ids is None else ids
        return self.plan(self._missing(ids)).flops

    def train_only(self, ids: Iterable[int]) -> None:
        """Train what is missing of these to the end."""
        self._train_to(self._missing(ids), self.job.steps)

    def plan(self, ids: Iterable[int] | None = None, begins: Sequence[int] | None = None) -> Plan:
        """Return how to train these configurations."""
        return plan_job(
            self.job,
            self.data,
            memory=self.resources.memory,
            ids=ids,
            begins=begins,
            capacity=self.executor.capacity(),
            in_blocks=self.resources.in_blocks,
        )

    @property
    def rows(self) -> list[Row]:
        """The rows found so far, by id."""
        return self._rows(range(len(self.keys)))

    def _rows(self, ids: Iterable[int]) -> list[Row]:
        found = ((i, self.found.get(self.keys[i])) for i in ids)
        return [
            Row(i, self.settings[i], result.outcome, self.identities[i].name)
            for i, result in found
            if result is not None
        ]

    def _related(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows so far of the settings of these."""
        units = dict.fromkeys(self.unit_of[row.id] for row in rows)
        return self._rows(i for unit in units for i in unit)

    def result(self, started: float, network: Network | None) -> SweepResult:
        """Return what was found."""
        models = {i: c.structure for i, c in enumerate(self.configurations) if c.structure.model}
        rows = self.rows
        if self.store is not None and len(rows) < len(ids := self.store.ids()):
            # Interrupted: a row that trains for longer, or was not asked for yet, is as it was.
            rows = rows_of(ids, {one.key: one for one in self.store.results()})
        return SweepResult(
            rows=rows,
            network=network,
            test_accuracy=None if network is None else network.accuracy(self.splits.test),
            seconds=time.perf_counter() - started,
            folder=None if self.folder is None else self.folder.path,
            select=self.resources.select,
            validation=len(self.splits.validation),
            label_shifts=self.job.label_shifts(self.data),
            networks=self.keeper.in_memory,
            models=models,
            layers=None if self.watcher is None else self.watcher.seen,
        )

    def leave(self, result: SweepResult, *, complete: bool) -> None:
        """Write what a run folder shows, if there is one."""
        if self.folder is None:
            return
        judged = None if result.network is None else judge(result.network, self.splits.validation)
        if self.trained and self.store is not None:
            self.store.spent(time.perf_counter() - self.started)
        self.folder.finish(
            result,
            complete=complete,
            trained=self.trained > 0,
            seconds=0.0 if self.store is None else self.store.seconds(),
            plan=str(self.plan()),
            work=self.meter.summary(),
            judged=judged,
        )

    # Training

    def train(self) -> None:
        """Train what is missing, bracket by bracket and rung by rung."""
        for bracket in self.brackets:
            if self.job.halving is None:
                self._train_to(self._missing(bracket.ids), self.job.steps, bracket.ids)
                continue
            alive, before = list(bracket.ids), 0
            for rung in bracket.rungs:
                ids = [i for unit in alive for i in self.units[unit]]
                left = [i for i in ids if not self._decided(i, rung)]
                self._train_to(left, rung, ids, before)
                before = rung
                alive = sorted(alive, key=lambda unit: self._worth(unit, rung), reverse=True)
                alive = sorted(alive[: self.job.halving.survivors(len(alive))])
        self.pool.clear()

    def _missing(self, ids: Iterable[int]) -> list[int]:
        """Return those without a final result; the first of several that are the same."""
        seen, missing = set(), []
        for i in ids:
            key = self.keys[i]
            final = key in self.found and self.found[key].outcome.kind != "cut"
            if not final and key not in seen:
                missing.append(i)
                seen.add(key)
        return missing

    def _decided(self, i: int, rung: int) -> bool:
        key = self.keys[i]
        if key not in self.found:
            return False
        outcome = self.found[key].outcome
        return outcome.kind != "cut" or (key, rung) in self.rungs or outcome.steps > rung

    def _worth(self, unit: int, rung: int) -> tuple[float, int]:
        """Mean accuracy at the rung of one setting over its seeds, 0 for a diverged one."""
        accuracies = [self._accuracy_at(self.keys[i], rung) for i in self.units[unit]]
        finite = [0.0 if math.isnan(accuracy) else accuracy for accuracy in accuracies]
        return sum(finite) / len(finite), -self.units[unit][0]

    def _accuracy_at(self, key: str, rung: int) -> float:
        if (key, rung) in self.rungs:
            return self.rungs[key, rung]
        outcome = self.found[key].outcome  # it ended before, or was trained without a halving
        at = np.flatnonzero(outcome.history.evaluated == rung)
        return float(outcome.history.val_accuracy[at[0]]) if len(at) else outcome.val_accuracy

    @pinned_flags()
    def _train_to(
        self, ids: Sequence[int], until: int, of: Sequence[int] = (), before: int = 0
    ) -> None:
        """Train these to step `until`: first what was interrupted, then the rest as planned.

        They are what is left `of` a larger set, of which the others have been trained from step
        `before`: chunks of that set of which all is left are trained as they would have been in
        one go, so that a run that goes on has the same results to the bit.
        """
        resources, left = self.resources, list(dict.fromkeys(ids))
        queue = Queue(resources.sizes, self.reporter.say, resources.choose)
        for stack, keys in self.pool.interrupted(until, {self.keys[i] for i in left}):
            queue.add(Interrupted([self.id_of[key] for key in keys], until, stack))
            left = [i for i in left if self.keys[i] not in keys]
        begins = [before] * len(self.configurations)
        for i in left:
            begins[i] = self.pool.step(self.keys[i], self._shorter(i), until)
        unique = [i for i in of if self.id_of[self.keys[i]] == i]
        for together in (unique, None):
            chosen = left if together is None else together
            waiting = set(left)
            for group in self.plan(chosen, begins).groups if left else ():
                for chunk in group.chunks:
                    if waiting.issuperset(chunk.ids):
                        members = [self.configurations[i] for i in chunk.ids]
                        queue.add(
                            Assignment(
                                ids=chunk.ids,
                                members=members,
                                until=until,
                                group=group,
                                program=group.program,
                            )
                        )
                        waiting.difference_update(chunk.ids)
            left = [i for i in left if i in waiting]
        desk = Desk(
            data=self.prepared,
            task=self._task,
            checkpoint=self._checkpoint,
            reporter=self.reporter,
            interrupt=self.interrupt,
            meter=self.meter,
            callback=self.callback,
            watcher=self.watcher,
        )
        for finished in self.executor.run(queue, desk):
            self._commit(finished)

    def _shorter(self, i: int) -> Path | None:
        """Return where a shorter run is kept, if that is the beginning of this one."""
        identity = self.identities[i]
        if self.folder is None or not identity.open_ended:
            return None
        return network_file(self.folder.path, identity.name)

    def _task(self, assignment: Assignment) -> Task:
        """Return the task of an assignment, with the networks that it goes on from."""
        begin, program, saved = assignment.group.begin, assignment.program, []
        data = self.prepared.on(program.structure)
        for i in assignment.ids if begin else ():
            at = (self.keys[i], self._shorter(i), begin)
            saved.append(self.pool.take(*at, self.configurations[i], data))
        return Task(
            program=program,
            configurations=tuple(assignment.members),
            timetable=self.timetable,
            until=assignment.until,
            saved=tuple(saved),
        )

    def _checkpoint(self, ids: Sequence[int]) -> Checkpoint | None:
        """Return where a stack of these is stored while it trains; None without a folder."""
        if self.folder is None:
            return None
        return Checkpoint(self.folder.path, [self.keys[i] for i in ids])

    def _program(self, stored: StoredStack) -> Program:
        one = self.configurations[self.id_of[stored.keys[0]]]
        return stored.program(one.structure, self.prepared.shapes)

    def _restored(self, stored: StoredStack, tensors: Mapping[str, np.ndarray]) -> Stack:
        """Return the stack of a file; KeyError for configurations that are not of this job."""
        members = [self.configurations[self.id_of[key]] for key in stored.keys]
        program = self._program(stored)
        devices = min(program.layout.devices, self.executor.devices_here)
        task = Task(
            program=program.with_layout(devices=devices),
            configurations=tuple(members),
            timetable=self.timetable,
            until=stored.end,
        )
        return task.start(lambda n: self.prepared.on(program.structure, n), tensors)

    # Results

    def _commit(self, finished: Finished) -> None:
        """Take in a finished stack: states and networks first, then rows, then what is obsolete.

        Killed anywhere on the way, the folder holds the network of every row that should have one.
        """
        stack, ids, until = finished.stack, finished.ids, finished.until
        keys = [self.keys[i] for i in ids]
        results = [
            Result(key, self.identities[i].settings, outcome)
            for i, key, outcome in zip(ids, keys, stack.outcomes(), strict=True)
        ]
        pausing = until < self.job.steps
        stack.state = jax.device_get(stack.state)  # the device is for those in training
        if pausing:
            self.pool.put(stack, keys, finished.checkpoint)
        self.found |= {result.key: result for result in results}
        self.trained += len(results)
        accuracies = [self.highest, *(result.outcome.val_accuracy for result in results)]
        self.highest = float(np.fmax.reduce(accuracies))
        if pausing:
            self.rungs |= {(r.key, until): r.outcome.val_accuracy for r in results}
        obsolete = self.keeper.add(self._rows(ids), lambda row: self._trained(stack, ids, row.id))
        if self.store is not None:
            rung, seconds = until if pausing else None, time.perf_counter() - self.started
            self.store.add(results, rung, seconds)
        for path in obsolete:
            path.unlink(missing_ok=True)
        if finished.checkpoint is not None and not pausing:
            finished.checkpoint.remove()
        self.reporter.say(self._summary())

    def _trained(self, stack: Stack, ids: Sequence[int], i: int) -> tuple[Network, Member]:
        member = stack.member(list(ids).index(i))
        preprocessing = stack.data.preprocessing
        return network_of(self.configurations[i], self.data, preprocessing, member), member

    def _loaded(self, row: Row) -> Network:
        configuration = self.configurations[row.id]
        data, path = self.prepared.on(configuration.structure), self.keeper.file(row)
        assert path is not None
        member = load_saved(path, configuration, data).member
        return network_of(configuration, self.data, data.preprocessing, member)

    def best_network(self) -> Network | None:
        """Return the network of the best; what should be kept and is not is trained again."""
        self.callback = None  # it has had its say
        for _ in range(2):  # trained again the ranking may change, by rounding
            missing = self.keeper.missing(self.rows)
            for row in missing:
                del self.found[self.keys[row.id]]
            self._train_to([row.id for row in missing], self.job.steps)
        return self.kept_best()

    def kept_best(self) -> Network | None:
        """Return the network of the best, if it is kept, and write it to its file."""
        best = best_of(self.rows, self.resources.select)
        if best is None or not self.keeper.has(best):
            return None
        network = self.keeper.network(best)
        if self.folder is not None:
            network.save(self.folder.weights)
        return network

    def _summary(self) -> str:
        """Return a line on how far the sweep is."""
        best = "none yet" if math.isnan(self.highest) else f"{self.highest:.3f}"
        seconds = time.perf_counter() - self.started
        return (
            f"{len(self.found)}/{len(self.id_of)} configurations, {self.trained / seconds:.2g}/s, "
            f"best {best}"
        )
