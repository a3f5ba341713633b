"""Networks of one structure in training together, from one step to another.

A stack begins with all networks of a chunk. Those that diverged or were stopped are frozen, and
leave it when the rest fits into half the slots: the next smaller program. Each network has a
column, its position in the chunk, under which its record stays.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.machine.devices import fill
from jaxnet.sweeps.machine.rates import fitting_size
from jaxnet.sweeps.results.record import NO_HISTORY, History, Outcome, Record
from jaxnet.sweeps.stacks.pace import Pace
from jaxnet.sweeps.stacks.prepared import PreparedData
from jaxnet.sweeps.stacks.timetable import Evaluation, Timetable
from jaxnet.sweeps.stacks.trees import like_tree, named_leaves
from jaxnet.training.blocks import blocks_of
from jaxnet.training.layout import config_axes, crop, put_on, take_member, to_stack
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.numerics import numerics
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Configuration, Shapes
from jaxnet.training.step import Member, TrainState

EARLY_LOOK = 50  # after 1/50 of the steps most of what diverges has done so


SECONDS_PER_CALL = 0.5  # between two looks at the clock, the progress bar and Ctrl-C


class Advance(NamedTuple):
    """What was done between two safe points: so many updates of so many slots."""

    steps: int
    slots: int


@dataclass(frozen=True)
class Saved:
    """One network to go on with: where it stands, arrays of its true widths, and its past."""

    step: int
    member: Member
    history: History


@dataclass(kw_only=True)
class Stack:
    """K networks in training. `columns` names the one in each slot; −1 is a copy that fills up.

    `program` is the one that it began with; `current` has as many slots and blocks as there are
    now. Slots are divided among the devices that the data are on, and are a multiple of their
    number.
    """

    program: Program
    configurations: Sequence[Configuration]
    data: PreparedData
    timetable: Timetable
    record: Record
    pasts: list[History]
    columns: np.ndarray
    ended: dict[str, np.ndarray]
    departed: dict[int, Member] = field(default_factory=dict)  # stopped, and no longer in a slot
    state: TrainState = field(init=False)
    current: Program = field(init=False)

    @classmethod
    def start(
        cls,
        program: Program,
        configurations: Sequence[Configuration],
        data: PreparedData,
        timetable: Timetable,
        *,
        until: int,
        saved: Sequence[Saved] = (),
    ) -> "Stack":
        """Return networks at their beginning, or where `saved` has them, to train to `until`."""
        count, slots = len(configurations), np.arange(program.layout.size)
        begin = saved[0].step if saved else 0
        stack = cls(
            program=program.of(data.shapes),
            configurations=configurations,
            data=data,
            timetable=timetable,
            record=Record(count, begin, until, timetable.evaluations, timetable.stride),
            pasts=[one.history for one in saved] or [NO_HISTORY] * count,
            columns=np.where(slots < count, slots, -1),
            ended=_ended(count),
        )
        with numerics(program.structure.precision):
            stack._fill()
            if saved:
                stack.state = stack._state_of(saved)
            else:
                stack.state = stack.current.init(stack._hyperparameters, stack._seed)
        return stack

    @classmethod
    def restored(
        cls,
        program: Program,
        configurations: Sequence[Configuration],
        data: PreparedData,
        timetable: Timetable,
        *,
        tensors: Mapping[str, np.ndarray],
    ) -> "Stack":
        """Return the stack whose `tensors` these are; KeyError or ValueError if they are not."""
        count, (begin, until) = len(configurations), tensors["span"].tolist()
        if not 0 <= begin <= until <= timetable.evaluations[-1]:  # arrays are made of this length
            raise ValueError(f"a span of steps {begin} to {until}")
        record = Record(count, begin, until, timetable.evaluations, timetable.stride)
        record.arrays = like_tree(record.arrays, tensors, "record")
        pasts = [
            History.from_arrays({n: tensors[f"past/{k}/{n}"] for n in NO_HISTORY.arrays()})
            for k in range(count if "past/0/loss" in tensors else 0)
        ]
        ended = {name: tensors[f"ended/{name}"].copy() for name in _ended(count)}
        stack = cls(
            program=program.of(data.shapes),
            configurations=configurations,
            data=data,
            timetable=timetable,
            record=record,
            pasts=pasts or [NO_HISTORY] * count,
            columns=tensors["columns"].copy(),
            ended=ended,
        )
        with numerics(program.structure.precision):
            stack._fill()
            shape = jax.eval_shape(stack.current.init, stack._hyperparameters, stack._seed)
            stack.state = stack._placed(like_tree(shape, tensors, "state"))
            one = jax.eval_shape(lambda members: take_member(members, 0), shape.members)
            for k in range(count):
                if f"departed/{k}.loss" in tensors:
                    stack.departed[k] = like_tree(one, tensors, f"departed/{k}")
        return stack

    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything that `restored` needs, as arrays on the host."""
        named = {"columns": self.columns, "span": np.asarray([self.record.begin, self.record.end])}
        named |= named_leaves("state", jax.device_get(self.state)) | named_leaves(
            "record", self.record.arrays
        )
        named |= {f"ended/{name}": array for name, array in self.ended.items()}
        for k, member in self.departed.items():
            named |= named_leaves(f"departed/{k}", member)
        if self.record.begin > 0:
            for k, past in enumerate(self.pasts):
                named |= {f"past/{k}/{name}": array for name, array in past.arrays().items()}
        return named

    def _placed(self, state: Any) -> TrainState:
        """Return the state on the devices of the data, each with its share of the networks."""
        step, members = state
        devices, axes = self.data.devices, config_axes(members)
        return TrainState(put_on(devices, step), put_on(devices, members, axes))

    def _fill(self) -> None:
        """Set the program for the slots there are, and what it is given for each."""
        members = [self.configurations[k] for k in self._filled()]
        layout = self.program.layout
        blocks = layout.blocks
        if blocks:
            needed = blocks_of([c.structure.hidden[0] for c in members])
            if needed > blocks:
                raise ValueError(f"{blocks} blocks, and networks of {needed}")
            if 2 * needed <= blocks:  # otherwise the program with room to spare serves
                blocks = needed
        self.current = self.program.with_layout(size=len(members), blocks=blocks)
        self._hyperparameters = Hyperparameters.of(members, padded=layout.padded)
        seeds = [c.seed for c in members]
        self._seed = jnp.uint32(seeds[0]) if layout.shared else jnp.asarray(seeds, jnp.uint32)

    @property
    def step(self) -> int:
        """How many updates were made."""
        return int(self.state.step)

    @property
    def flops_per_step(self) -> float:
        """The floating-point operations in the matrix products of one network's step."""
        return program_flops(self.program) / self.program.layout.size

    @property
    def running(self) -> np.ndarray:
        """Columns of the networks that still train."""
        over = (self.ended["diverged_at"] >= 0) | (self.ended["stopped_at"] >= 0)
        return np.flatnonzero(~over)

    def _filled(self) -> np.ndarray:
        """Return the column of each slot; the last one in those that only fill up."""
        return np.where(self.columns >= 0, self.columns, self.columns.max())

    def _state_of(self, saved: Sequence[Saved]) -> TrainState:
        shape = jax.eval_shape(self.current.init, self._hyperparameters, self._seed).members
        axes = config_axes(shape)

        def filled(axis: int, like: jax.ShapeDtypeStruct, *leaves: Any) -> np.ndarray:
            whole = [n for i, n in enumerate(like.shape) if i != axis]
            stack = np.zeros((len(leaves), *whole), like.dtype)
            for k, leaf in enumerate(leaves):
                stack[(k, *map(slice, np.shape(leaf)))] = leaf
            return stack

        members = [saved[k].member for k in self._filled()]
        leading = jax.tree.map(filled, axes, shape, *members)
        stacked = to_stack(jax.tree.map(jnp.asarray, leading))
        return self._placed((jnp.int32(saved[0].step), stacked))

    def train(
        self,
        on_evaluation: Callable[[Evaluation], Iterable[int] | None] | None = None,
        ids: Sequence[int] = (),
    ) -> Iterator[Advance]:
        """Train to the end of the record, and yield at each safe point: between two calls.

        Whoever leaves the loop before its end has a stack that can be stored and gone on with.
        `on_evaluation` is told of each evaluation under the `ids` of the columns, and returns
        those to cut, if any.
        """
        pace, done = Pace(SECONDS_PER_CALL), self.step
        for look in self._looks():
            # Calls end where somebody looks: at evaluations, at the end, and once early.
            while done < look:
                steps, networks = min(pace.steps, look - done), len(self.columns)
                # JAX's settings are of this block alone: what runs between two of them has its own.
                with numerics(self.program.structure.precision):
                    losses = self._advance(done, steps, pace)
                    done += steps
                    if done == look and self._look(look, losses, on_evaluation, ids):
                        pace.begin()  # the smaller program has yet to compile
                yield Advance(steps, networks)
            if not len(self.running):
                break  # nothing is left to train
        with numerics(self.program.structure.precision):
            # The end of the record, which an interrupted stack comes to when it is gone on with.
            self._note_diverged()
            there = [int(k) for k in self.columns if k >= 0 and self.ended["diverged_at"][k] < 0]
            if there:
                self._measure_train(there)

    def _look(
        self,
        step: int,
        losses: np.ndarray,
        on_evaluation: Callable[[Evaluation], Iterable[int] | None] | None,
        ids: Sequence[int],
    ) -> bool:
        """Note how the networks are, end those that are to end, and leave out what has ended."""
        evaluated = step in self.record.evaluations
        slots = np.flatnonzero(self.columns >= 0)
        columns = self.columns[slots]
        if evaluated:
            begin, count = self.data.train, self.data.validation
            correct, _ = self._evaluate(begin, begin + count)
            self.record.evaluate(step, columns, correct[slots] / count)
        # Divergence is noted before anybody is asked: a rule or a callback hears of what trains.
        self._note_diverged()
        if evaluated:
            last = dict(zip(columns.tolist(), losses.tolist(), strict=True))
            self._stop(step, last, on_evaluation, ids)
        return self._compact()

    def _looks(self) -> list[int]:
        early = self.timetable.steps // EARLY_LOOK
        looks = {*self.record.evaluations, self.record.end}
        if self.record.begin < early < self.record.end:
            looks.add(early)
        return sorted(look for look in looks if look > self.step)

    def _advance(self, done: int, steps: int, pace: Pace) -> np.ndarray:
        """Make so many updates in one call, and record them; return the last losses."""
        start = time.perf_counter()
        self.state, metrics = self.current.advance(
            self.state,
            self._hyperparameters,
            self._seed,
            self.data.device,
            Counts.of(self.data.train, steps, self.timetable.steps),
        )
        # The call has returned, and the program may not have: waiting is a part of its time.
        metrics = jax.device_get(metrics)
        pace.took(steps, time.perf_counter() - start)
        slots = np.flatnonzero(self.columns >= 0)
        loss, accuracy = metrics.loss[:steps, slots], metrics.accuracy[:steps, slots]
        self.record.add(done, self.columns[slots], loss, accuracy)
        return loss[-1]

    def _evaluate(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        correct, finite = self.current.evaluate(
            self.state, self._hyperparameters, self.data.device, jnp.int32(start), jnp.int32(stop)
        )
        return np.asarray(correct), np.asarray(finite)

    def _note_diverged(self) -> None:
        slots = np.flatnonzero(self.columns >= 0)
        columns = self.columns[slots]
        at = np.asarray(self.state.members.diverged_at)[slots]
        self.ended["diverged_at"][columns] = at
        self.ended["loss"][columns] = np.asarray(self.state.members.loss)[slots]

    def _stop(
        self,
        step: int,
        losses: dict[int, float],
        on_evaluation: Callable[[Evaluation], Iterable[int] | None] | None,
        ids: Sequence[int],
    ) -> None:
        """Freeze what early stopping or the callback ends here."""
        rule, running, stopped, cut = self.timetable.stop, self.running, [], []
        if rule is not None and len(running):
            stopped = running[rule.stops(self._accuracies(step, running))].tolist()
        if on_evaluation is not None and len(running):
            told = Evaluation(
                [int(ids[k]) for k in running],
                [self.configurations[k].to_dict() for k in running],
                step,
                self.timetable.steps,
                [losses[k] for k in running],
                self.record.val_accuracies(step)[-1, running].tolist(),
            )
            asked = set(on_evaluation(told) or ())
            cut = [k for k in running if ids[k] in asked and k not in stopped]
        # At the last step there is nothing to save by stopping: such a network is complete.
        if step < self.record.end and (stopped or cut):
            self.ended["stopped_at"][[*stopped, *cut]] = step
            self.ended["cut"][cut] = True
            # Copies that fill up slots are frozen with the network that they copy.
            over = np.isin(self._filled(), [*stopped, *cut])
            members = self.state.members
            frozen = members._replace(stopped=members.stopped | jnp.asarray(over))
            self.state = self._placed((self.state.step, frozen))

    def _accuracies(self, step: int, columns: np.ndarray) -> np.ndarray:
        """Return the validation accuracies [evaluations, columns] up to a step, the past included.

        Pasts may differ in length where they were evaluated at other steps: NaN goes before.
        """
        pasts = [self.pasts[k].val_accuracy for k in columns]
        longest = max(map(len, pasts), default=0)
        before = np.full((longest, len(columns)), np.nan)
        for column, past in zip(before.T, pasts, strict=True):
            column[longest - len(past) :] = past
        return np.concatenate([before, self.record.val_accuracies(step)[:, columns]])

    def _compact(self) -> bool:
        """Leave out what has ended, if the rest fits into half the slots and that is worth it.

        What decides is the same in every run: no clock.
        """
        left, size = self.running, len(self.columns)
        smaller = fitting_size(len(left), size, self.flops_per_step * (self.record.end - self.step))
        smaller = fill(smaller, self.data.devices)
        if smaller >= size or not len(left):
            return False
        # What diverged has no weights to keep. What was stopped has: they are taken out, and its
        # training accuracy is measured while it still has a slot.
        leaving = [int(k) for k in self.columns if k >= 0 and self.ended["stopped_at"][k] >= 0]
        if leaving:
            self._measure_train(leaving)
            members = jax.device_get(self.state.members)
            for k in leaving:
                self.departed[k] = take_member(members, self._slot(k))
        # The order of the rest stays: which sums lie side by side is the same in every run.
        slots = [self._slot(int(k)) for k in left]
        filled = jnp.asarray([*slots, *[slots[-1]] * (smaller - len(slots))])
        axes = config_axes(self.state.members)
        members = jax.tree.map(
            lambda leaf, axis: jnp.take(leaf, filled, axis=axis), self.state.members, axes
        )
        self.state = self._placed((self.state.step, members))
        self.columns = np.asarray([*left, *[-1] * (smaller - len(left))])
        self._fill()
        return True

    def _measure_train(self, columns: Iterable[int]) -> None:
        correct, finite = self._evaluate(0, self.data.train)
        for k in columns:
            slot = self._slot(k)
            self.ended["train_accuracy"][k] = correct[slot] / self.data.train
            if not finite[slot] and self.ended["diverged_at"][k] < 0:
                # The last update broke it: no later loss could tell.
                self.ended["diverged_at"][k] = self.step

    def outcomes(self) -> list[Outcome]:
        """Return what became of each column; to ask once `train` is done."""
        found, end = [], self.record.end
        for k in range(len(self.configurations)):
            diverged, stopped = (int(self.ended[n][k]) for n in ("diverged_at", "stopped_at"))
            last = diverged if diverged >= 0 else stopped if stopped >= 0 else end
            history = self.pasts[k].then(self.record.history(k, last))
            loss = float(self.ended["loss"][k])
            if diverged >= 0:
                outcome = Outcome(last, loss, math.nan, math.nan, f"diverged@{last}", history)
            else:
                train_accuracy = float(self.ended["train_accuracy"][k])
                evaluated = history.val_accuracy[~np.isnan(history.val_accuracy)]
                status = "ok"
                if stopped >= 0:
                    status = f"{'cut' if self.ended['cut'][k] else 'stopped'}@{last}"
                elif end < self.timetable.steps:
                    status = f"cut@{last}"
                outcome = Outcome(last, loss, train_accuracy, float(evaluated[-1]), status, history)
            found.append(outcome)
        return found

    def member(self, column: int) -> Member:
        """Return one network as NumPy arrays of its true widths."""
        if column in self.departed:
            return self._cropped(self.departed[column], column)
        member = take_member(self.state.members, self._slot(column))
        return self._cropped(jax.device_get(member), column)

    def _slot(self, column: int) -> int:
        return int(np.flatnonzero(self.columns == column)[0])

    def _cropped(self, member: Member, column: int) -> Member:
        if not self.program.layout.padded:
            return member
        return crop(member, member_shape(self.configurations[column], self.data.shapes))

    def saved(self, column: int) -> Saved:
        """Return one network to go on with; to ask once `train` is done."""
        history = self.pasts[column].then(self.record.history(column, self.step))
        return Saved(self.step, self.member(column), history)


def _ended(networks: int) -> dict[str, np.ndarray]:
    """Return what is known at the end of each network, at the beginning."""
    return {
        "loss": np.full(networks, np.nan),
        "diverged_at": np.full(networks, -1, np.int64),
        "stopped_at": np.full(networks, -1, np.int64),
        "cut": np.zeros(networks, bool),
        "train_accuracy": np.full(networks, np.nan),
    }


def member_shape(configuration: Configuration, shapes: Shapes) -> Member:
    """Return shapes and dtypes of one network in training."""
    program = Program(configuration.structure, shapes)
    with numerics(configuration.structure.precision):
        return jax.eval_shape(
            lambda given: take_member(program.init(given, jnp.uint32(0)).members, 0),
            Hyperparameters.shapes(configuration.structure, networks=(1,)),
        )
