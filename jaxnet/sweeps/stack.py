"""Networks of one structure in training together, from one step to another.

A stack begins with all networks of a chunk. Those that diverged or were stopped are frozen, and
leave it when the rest fits into half the places: the next smaller program. Each network has a
column, its place in the chunk, under which its record stays.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.sweeps.cost import stack_flops
from jaxnet.sweeps.devices import fill
from jaxnet.sweeps.fusion import fitting_size
from jaxnet.sweeps.pace import Pace
from jaxnet.sweeps.prepared import PreparedData
from jaxnet.sweeps.record import NO_HISTORY, History, Outcome, Record
from jaxnet.sweeps.schedule import Evaluation, Schedule
from jaxnet.sweeps.trees import like_tree, named_leaves
from jaxnet.training.blocks import pieces_of
from jaxnet.training.layout import config_axes, crop, place, take_member, to_stack
from jaxnet.training.learner import width_name
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.program import Member, TrainState, make_train
from jaxnet.training.settings import Configuration, Structure

EARLY_LOOK = 50  # after 1/50 of the steps most of what diverges has done so


SECONDS_PER_CALL = 0.5  # between two looks at the clock, the progress bar and Ctrl-C


@dataclass(frozen=True)
class Saved:
    """One network to go on with: where it stands, arrays of its true widths, and its past."""

    step: int
    member: Member
    history: History


@dataclass
class Stack:
    """K networks in training. `columns` names the one in each place; −1 is a copy that fills up.

    `size` is the number of places that it began with. They are divided among the devices that the
    data are on, and are a multiple of their number.
    """

    structure: Structure
    shared: bool
    configurations: Sequence[Configuration]
    data: PreparedData
    schedule: Schedule
    record: Record
    pasts: list[History]
    size: int
    columns: np.ndarray
    ended: dict[str, np.ndarray]
    departed: dict[int, Member] = field(default_factory=dict)  # stopped, and no longer in a place
    state: TrainState = field(init=False)

    @classmethod
    def start(
        cls,
        structure: Structure,
        configurations: Sequence[Configuration],
        data: PreparedData,
        schedule: Schedule,
        *,
        size: int,
        shared: bool,
        until: int,
        saved: Sequence[Saved] = (),
    ) -> "Stack":
        """Return networks at their beginning, or where `saved` has them, to train to `until`."""
        count = len(configurations)
        begin = saved[0].step if saved else 0
        stack = cls(
            structure,
            shared,
            configurations,
            data,
            schedule,
            Record(count, begin, until, schedule.evaluations, schedule.stride),
            [one.history for one in saved] or [NO_HISTORY] * count,
            size,
            np.where(np.arange(size) < count, np.arange(size), -1),
            _ended(count),
        )
        with numerics(structure.precision):
            stack._fill()
            if saved:
                stack.state = stack._state_of(saved)
            else:
                stack.state = stack.program.init(stack._numbers, stack._seed)
        return stack

    @classmethod
    def restored(
        cls,
        structure: Structure,
        configurations: Sequence[Configuration],
        data: PreparedData,
        schedule: Schedule,
        *,
        shared: bool,
        size: int,
        tensors: Mapping[str, np.ndarray],
    ) -> "Stack":
        """Return the stack whose `tensors` these are; KeyError or ValueError if they are not."""
        count, (begin, until) = len(configurations), tensors["span"].tolist()
        if not 0 <= begin <= until <= schedule.evaluations[-1]:  # arrays are made of this length
            raise ValueError(f"a span of steps {begin} to {until}")
        record = Record(count, begin, until, schedule.evaluations, schedule.stride)
        record.arrays = like_tree(record.arrays, tensors, "record")
        pasts = [
            History.from_arrays({n: tensors[f"past/{k}/{n}"] for n in NO_HISTORY.arrays()})
            for k in range(count if "past/0/loss" in tensors else 0)
        ]
        ended = {name: tensors[f"ended/{name}"].copy() for name in _ended(count)}
        stack = cls(
            structure,
            shared,
            configurations,
            data,
            schedule,
            record,
            pasts or [NO_HISTORY] * count,
            size,
            tensors["columns"].copy(),
            ended,
        )
        with numerics(structure.precision):
            stack._fill()
            shape = jax.eval_shape(stack.program.init, stack._numbers, stack._seed)
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

    @property
    def program(self) -> Any:
        """The compiled functions, see `jaxnet.training.program.make_train`."""
        return make_train(
            self._structure,
            self.data.input_shape,
            self.data.classes,
            shared=self.shared,
            devices=self.data.devices,
        )

    def _placed(self, state: Any) -> TrainState:
        """Return the state on the devices of the data, each with its share of the networks."""
        step, members = state
        devices, axes = self.data.devices, config_axes(members)
        return TrainState(place(step, devices), place(members, devices, axes))

    def _fill(self) -> None:
        """Set what the program is given for each place: its numbers, and the seed or seeds."""
        members = [self.configurations[k] for k in self._filled()]
        dtype = parameter_dtype(self.structure)
        self._numbers = {
            name: jnp.asarray([c.numbers[name] for c in members], dtype)
            for name in members[0].numbers
        }
        if self.structure.padded:
            for i in range(len(self.structure.hidden)):
                widths = [c.structure.hidden[i] for c in members]
                self._numbers[width_name(i)] = jnp.asarray(widths, dtype)
        self._structure = self.structure
        if self.structure.pieces:
            needed = pieces_of([c.structure.hidden[0] for c in members])
            if needed > self.structure.pieces:
                raise ValueError(f"{self.structure.pieces} pieces, and networks of {needed}")
            if 2 * needed <= self.structure.pieces:  # or the program with room to spare serves
                self._structure = dataclasses.replace(self.structure, pieces=needed)
        seeds = [c.seed for c in members]
        self._seed = jnp.uint32(seeds[0]) if self.shared else jnp.asarray(seeds, jnp.uint32)

    @property
    def step(self) -> int:
        """How many updates were made."""
        return int(self.state.step)

    @property
    def flops_per_step(self) -> float:
        """The products of one network's step."""
        numbers, data, size = tuple(self.configurations[0].numbers), self.data, self.size
        return stack_flops(self.structure, numbers, data.input_shape, data.classes, size) / size

    @property
    def running(self) -> np.ndarray:
        """Columns of the networks that still train."""
        over = (self.ended["diverged_at"] >= 0) | (self.ended["stopped_at"] >= 0)
        return np.flatnonzero(~over)

    def _filled(self) -> np.ndarray:
        """Return the column of each place; the last one in those that only fill up."""
        return np.where(self.columns >= 0, self.columns, self.columns.max())

    def _state_of(self, saved: Sequence[Saved]) -> TrainState:
        shape = jax.eval_shape(self.program.init, self._numbers, self._seed).members
        axes = config_axes(shape)

        def place(axis: int, like: jax.ShapeDtypeStruct, *leaves: Any) -> np.ndarray:
            whole = [n for i, n in enumerate(like.shape) if i != axis]
            filled = np.zeros((len(leaves), *whole), like.dtype)
            for k, leaf in enumerate(leaves):
                filled[(k, *map(slice, np.shape(leaf)))] = leaf
            return filled

        members = [saved[k].member for k in self._filled()]
        leading = jax.tree.map(place, axes, shape, *members)
        stacked = to_stack(jax.tree.map(jnp.asarray, leading))
        return self._placed((jnp.int32(saved[0].step), stacked))

    def train(
        self,
        on_steps: Callable[[int, int], None] = lambda steps, networks: None,
        on_evaluation: Callable[[Evaluation], Iterable[int] | None] | None = None,
        save: Callable[["Stack", bool], None] = lambda stack, now: None,
        ids: Sequence[int] = (),
    ) -> None:
        """Train to the end of the record.

        `on_steps(n, networks)` is told of every n updates of so many networks, and may raise
        KeyboardInterrupt; `save(stack, now)` is called between two calls of the program, `now`
        before such an interrupt leaves. `on_evaluation` is told of each evaluation under the
        `ids` of the columns, and returns those to cut, if any.
        """
        pace, (train, validation) = Pace(SECONDS_PER_CALL), (self.data.train, self.data.validation)
        rows = (0, train, train + validation)
        with numerics(self.structure.precision):
            on_steps(self.step - self.record.begin, len(self.columns))
            done = self.step
            for look in self._looks():
                while done < look:
                    ahead = min(pace.steps, look - done)
                    metrics = self._advance(ahead, pace)
                    places = np.flatnonzero(self.columns >= 0)
                    columns, loss = self.columns[places], metrics.loss[:ahead, places]
                    self.record.add(done, columns, loss, metrics.accuracy[:ahead, places])
                    done += ahead
                    networks = len(self.columns)
                    if done == look:
                        if look in self.record.evaluations:
                            correct, _ = self._evaluate(rows[1], rows[2])
                            accuracy = correct[places] / validation
                            self.record.evaluate(look, columns, accuracy)
                        self._note_diverged()
                        if look in self.record.evaluations:
                            losses = dict(zip(columns.tolist(), loss[-1].tolist(), strict=True))
                            self._stop(look, losses, on_evaluation, ids)
                        if self._compact(rows):
                            pace.begin()
                    interrupted = _interrupts(on_steps, ahead, networks)
                    if done < self.record.end or interrupted:
                        save(self, interrupted)
                    if interrupted:
                        raise KeyboardInterrupt
                if not len(self.running):
                    break  # nothing is left to train
            self._settle(rows)

    def _looks(self) -> list[int]:
        early = self.schedule.steps // EARLY_LOOK
        looks = {*self.record.evaluations, self.record.end}
        if self.record.begin < early < self.record.end:
            looks.add(early)
        return sorted(look for look in looks if look > self.step)

    def _advance(self, ahead: int, pace: "Pace") -> Any:
        start = time.perf_counter()
        self.state, metrics = self.program.advance(
            self.state,
            self._numbers,
            self._seed,
            self.data.device,
            jnp.int32(self.data.train),
            jnp.int32(ahead),
            jnp.int32(self.schedule.steps),
        )
        metrics = jax.device_get(metrics)
        pace.took(ahead, time.perf_counter() - start)
        return metrics

    def _evaluate(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        correct, finite = self.program.evaluate(
            self.state, self._numbers, self.data.device, jnp.int32(start), jnp.int32(stop)
        )
        return np.asarray(correct), np.asarray(finite)

    def _note_diverged(self) -> None:
        places = np.flatnonzero(self.columns >= 0)
        columns = self.columns[places]
        at = np.asarray(self.state.members.diverged_at)[places]
        self.ended["diverged_at"][columns] = at
        self.ended["loss"][columns] = np.asarray(self.state.members.loss)[places]

    def _stop(
        self,
        step: int,
        losses: dict[int, float],
        on_evaluation: Callable[[Evaluation], Iterable[int] | None] | None,
        ids: Sequence[int],
    ) -> None:
        """Freeze what early stopping or the callback ends here."""
        patience = self.schedule.patience
        running, stopped, cut = self.running, [], []
        accuracies = self.record.val_accuracies(step)
        if patience is not None:
            for k in running:
                series = np.concatenate([self.pasts[k].val_accuracy, accuracies[:, k]])
                if len(series) > patience + int(np.argmax(series)):
                    stopped.append(k)
        if on_evaluation is not None and len(running):
            told = Evaluation(
                [int(ids[k]) for k in running],
                [self.configurations[k].to_dict() for k in running],
                step,
                self.schedule.steps,
                [losses[k] for k in running],
                accuracies[-1, running].tolist(),
            )
            asked = set(on_evaluation(told) or ())
            cut = [k for k in running if ids[k] in asked and k not in stopped]
        if step < self.record.end and (stopped or cut):
            self.ended["stopped_at"][[*stopped, *cut]] = step
            self.ended["cut"][cut] = True
            over = np.isin(self._filled(), [*stopped, *cut])
            members = self.state.members
            frozen = members._replace(stopped=members.stopped | jnp.asarray(over))
            self.state = self._placed((self.state.step, frozen))

    def _compact(self, rows: tuple[int, int, int]) -> bool:
        """Leave out what has ended, if the rest fits into half the places and that is worth it.

        What decides is the same in every run: no clock.
        """
        left, size = self.running, len(self.columns)
        smaller = fitting_size(len(left), size, self.flops_per_step * (self.record.end - self.step))
        smaller = fill(smaller, max(1, len(self.data.devices)))
        if smaller >= size or not len(left):
            return False
        leaving = [int(k) for k in self.columns if k >= 0 and self.ended["stopped_at"][k] >= 0]
        if leaving:
            self._measure_train(rows, leaving)
            members = jax.device_get(self.state.members)
            for k in leaving:
                self.departed[int(k)] = take_member(
                    members, int(np.flatnonzero(self.columns == k)[0])
                )
        places = [int(np.flatnonzero(self.columns == k)[0]) for k in left]
        filled = jnp.asarray([*places, *[places[-1]] * (smaller - len(places))])
        axes = config_axes(self.state.members)
        members = jax.tree.map(
            lambda leaf, axis: jnp.take(leaf, filled, axis=axis), self.state.members, axes
        )
        self.state = self._placed((self.state.step, members))
        self.columns = np.asarray([*left, *[-1] * (smaller - len(left))])
        self._fill()
        return True

    def _measure_train(self, rows: tuple[int, int, int], columns: Iterable[int]) -> None:
        correct, finite = self._evaluate(rows[0], rows[1])
        for k in columns:
            place = self._place(k)
            self.ended["train_accuracy"][k] = correct[place] / self.data.train
            if not finite[place] and self.ended["diverged_at"][k] < 0:
                # The last update broke it: no later loss could tell.
                self.ended["diverged_at"][k] = self.step

    def _settle(self, rows: tuple[int, int, int]) -> None:
        self._note_diverged()
        here = [int(k) for k in self.columns if k >= 0 and self.ended["diverged_at"][k] < 0]
        if here:
            self._measure_train(rows, here)

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
                elif end < self.schedule.steps:
                    status = f"cut@{last}"
                outcome = Outcome(last, loss, train_accuracy, float(evaluated[-1]), status, history)
            found.append(outcome)
        return found

    def member(self, column: int) -> Member:
        """Return one network as NumPy arrays of its true widths."""
        if column in self.departed:
            return self._cropped(self.departed[column], column)
        member = take_member(self.state.members, self._place(column))
        return self._cropped(jax.device_get(member), column)

    def _place(self, column: int) -> int:
        return int(np.flatnonzero(self.columns == column)[0])

    def _cropped(self, member: Member, column: int) -> Member:
        if not self.structure.padded:
            return member
        return crop(member, member_shape(self.configurations[column], self.data))

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


def member_shape(configuration: Configuration, data: PreparedData) -> Member:
    """Return shapes and dtypes of one network in training."""
    structure = configuration.structure
    program = make_train(structure, data.input_shape, data.classes)
    with numerics(structure.precision):
        one = jnp.zeros(1, parameter_dtype(structure))
        return jax.eval_shape(
            lambda numbers: take_member(program.init(numbers, jnp.uint32(0)).members, 0),
            dict.fromkeys(configuration.numbers, one),
        )


def _interrupts(on_steps: Callable[[int, int], None], count: int, networks: int) -> bool:
    try:
        on_steps(count, networks)
    except KeyboardInterrupt:
        return True
    return False
