"""Train one chunk: networks of one structure and one seed, together, from start to outcome."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.configuration import Configuration, Structure
from jaxnet.data import Preprocessing, Splits, fit
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Tree
from jaxnet.stacking import take_member
from jaxnet.sweeps.checkpoint import Checkpoint
from jaxnet.training import (
    MOST_STEPS,
    DeviceData,
    Member,
    make_train,
    numerics,
    parameter_dtype,
)

EVALUATIONS = 10  # of the validation accuracy, evenly over a run
HISTORY_POINTS = 500  # most losses kept of a run
SECONDS_PER_CALL = 0.5  # between two looks at the clock, the progress bar and Ctrl-C


@dataclass(frozen=True)
class History:
    """How a run went: the loss at some steps, the accuracies at others; NaN once it diverged.

    `train_accuracy` is that of the minibatches since the evaluation before, `val_accuracy` that
    of all validation examples.
    """

    steps: list[int]
    loss: list[float]
    evaluated: list[int]
    train_accuracy: list[float]
    val_accuracy: list[float]


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration. `status` is "ok" or "diverged@step".

    `steps` counts the updates made; a diverged run keeps its last finite loss (NaN if it had
    none) and has NaN for accuracies.
    """

    steps: int
    final_loss: float
    train_accuracy: float
    val_accuracy: float
    status: str
    history: History


@dataclass(frozen=True)
class ChunkResult:
    """The outcomes in the order of the configurations, and the networks themselves."""

    outcomes: list[Outcome]
    members: Member

    def network(self, index: int) -> tuple[Tree, Tree]:
        """Return parameters and state of one network, as NumPy arrays."""
        params = take_member(self.members.params, index)
        state = take_member(self.members.state, index)
        return jax.device_get((params, state))


@dataclass(frozen=True)
class PreparedData:
    """Training rows, then validation rows, on the device, and the preprocessing they go through."""

    device: DeviceData
    train: int
    validation: int
    preprocessing: Preprocessing


def prepare(splits: Splits, structure: Structure) -> PreparedData:
    """Fit the structure's preprocessing on the training rows and put both splits on the device.

    Raw pixels go there where it is elementwise, and are transformed when they are gathered; else
    its output.
    """
    preprocessing = fit(
        splits.train.images,
        structure.preprocessing,
        components=structure.components,
        variance=structure.variance,
    )
    images = np.concatenate([splits.train.images, splits.validation.images])
    labels = np.concatenate([splits.train.labels, splits.validation.labels])
    with numerics(structure.precision):
        dtype = parameter_dtype(structure)
        mean = scale = None
        if preprocessing.is_elementwise:
            images = images.reshape(len(images), -1)
            mean = jnp.asarray(preprocessing.mean, dtype)
            if preprocessing.scale is not None:
                scale = jnp.asarray(preprocessing.scale, dtype)
        else:
            images = preprocessing.apply(images)
        device = DeviceData(jnp.asarray(images), jnp.asarray(labels), mean, scale)
    return PreparedData(device, len(splits.train), len(splits.validation), preprocessing)


def train_chunk(
    configurations: Sequence[Configuration],
    data: PreparedData,
    classes: int,
    *,
    steps: int,
    on_steps: Callable[[int], None] = lambda steps: None,
    checkpoint: Checkpoint | None = None,
) -> ChunkResult:
    """Train configurations of equal structure and seed for `steps` updates each.

    `on_steps(n)` is told of every n updates made (of all networks at once). With a `checkpoint`
    the run goes on from what is stored there and stores itself from time to time, and before a
    KeyboardInterrupt of `on_steps` leaves; where a run is cut changes no bit of its result.
    """
    structure, seed = configurations[0].structure, configurations[0].seed
    if any(c.structure != structure or c.seed != seed for c in configurations):
        raise ConfigurationError("a chunk takes configurations of one structure and one seed")
    with numerics(structure.precision):
        dtype, seed = parameter_dtype(structure), jnp.uint32(seed)
        program = make_train(structure, data.device.images.shape[1], classes)
        numbers = {
            name: jnp.asarray([c.numbers[name] for c in configurations], dtype)
            for name in configurations[0].numbers
        }
        rows, total = jnp.int32([0, data.train, data.train + data.validation]), jnp.int32(steps)
        state = program.init(numbers, seed)
        record = _Record(steps, len(configurations))
        if checkpoint is not None:
            state, record.arrays = checkpoint.load((state, record.arrays))
        done = int(state.step)
        on_steps(done)

        pace = _Pace()
        for evaluation in record.evaluations:
            while done < evaluation:
                ahead = min(pace.steps, evaluation - done)
                start = time.perf_counter()
                state, metrics = program.advance(
                    state, numbers, seed, data.device, rows[1], jnp.int32(ahead), total
                )
                metrics = jax.device_get(metrics)
                pace.took(ahead, time.perf_counter() - start)
                record.add(done, metrics.loss[:ahead], metrics.accuracy[:ahead])
                done += ahead
                if done == evaluation:
                    correct, _ = program.evaluate(state, numbers, data.device, rows[1], rows[2])
                    record.evaluate(evaluation, np.asarray(correct) / data.validation)
                interrupted = _interrupts(on_steps, ahead)
                if checkpoint is not None and (done < steps or interrupted):
                    checkpoint.save((state, record.arrays), now=interrupted)
                if interrupted:
                    raise KeyboardInterrupt
        correct, finite = program.evaluate(state, numbers, data.device, rows[0], rows[1])
        train_accuracy, finite = np.asarray(correct) / data.train, np.asarray(finite)
        members = jax.device_get(state.members)
    outcomes = [
        record.outcome(
            k,
            diverged_at=int(members.diverged_at[k]),
            loss=float(members.loss[k]),
            train_accuracy=float(train_accuracy[k]),
            finite=bool(finite[k]),
        )
        for k in range(len(configurations))
    ]
    return ChunkResult(outcomes, members)


def _interrupts(on_steps: Callable[[int], None], count: int) -> bool:
    try:
        on_steps(count)
    except KeyboardInterrupt:
        return True
    return False


class _Pace:
    """How many steps to take in one call, so that the host looks up every SECONDS_PER_CALL."""

    def __init__(self) -> None:
        self.steps = 1  # of the first call, which compiles, and tells nothing of a step's time
        self._compiled = False

    def took(self, steps: int, seconds: float) -> None:
        wanted = steps * SECONDS_PER_CALL / max(seconds, 1e-6) if self._compiled else 4
        self.steps = min(MOST_STEPS, max(1, int(wanted)))
        self._compiled = True


class _Record:
    """What is remembered of K runs on their way; only arrays, so that a checkpoint can hold it."""

    def __init__(self, steps: int, networks: int) -> None:
        self.steps = steps
        count = min(EVALUATIONS, steps)
        self.evaluations = sorted({math.ceil(steps * (i + 1) / count) for i in range(count)})
        self.stride = math.ceil(steps / HISTORY_POINTS)
        points = math.ceil(steps / self.stride)
        evaluations = len(self.evaluations)
        self.arrays = {
            "loss": np.full((points, networks), np.nan, np.float32),
            "val_accuracy": np.full((evaluations, networks), np.nan, np.float64),
            "train_hits": np.zeros((evaluations, networks), np.float64),
        }

    def add(self, step: int, loss: np.ndarray, accuracy: np.ndarray) -> None:
        """Note losses and minibatch accuracies [n, K] of steps step, step + 1, ..."""
        at = np.arange(step, step + len(loss))
        kept = at % self.stride == 0
        self.arrays["loss"][at[kept] // self.stride] = loss[kept]
        window = np.searchsorted(self.evaluations, step, side="right")
        self.arrays["train_hits"][window] += accuracy.sum(axis=0, dtype=np.float64)

    def evaluate(self, step: int, val_accuracy: np.ndarray) -> None:
        """Note the validation accuracy [K] after `step` updates."""
        self.arrays["val_accuracy"][self.evaluations.index(step)] = val_accuracy

    def outcome(
        self, k: int, *, diverged_at: int, loss: float, train_accuracy: float, finite: bool
    ) -> Outcome:
        if diverged_at < 0 and not finite:
            diverged_at = self.steps  # the last update broke it: no later loss could tell
        end = self.steps if diverged_at < 0 else diverged_at
        windows = np.diff([0, *self.evaluations])
        at, evaluated = np.arange(0, self.steps, self.stride), np.asarray(self.evaluations)
        alive = evaluated <= end
        history = History(
            steps=at.tolist(),
            loss=np.where(at < end, self.arrays["loss"][:, k], np.nan).tolist(),
            evaluated=evaluated.tolist(),
            train_accuracy=np.where(
                alive, self.arrays["train_hits"][:, k] / windows, np.nan
            ).tolist(),
            val_accuracy=np.where(alive, self.arrays["val_accuracy"][:, k], np.nan).tolist(),
        )
        if diverged_at >= 0:
            return Outcome(end, loss, math.nan, math.nan, f"diverged@{end}", history)
        val_accuracy = float(self.arrays["val_accuracy"][-1, k])
        return Outcome(end, loss, train_accuracy, val_accuracy, "ok", history)
