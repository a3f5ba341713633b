"""What is known of a run: its history on the way, its outcome at the end."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

EVALUATIONS = 10  # of the validation accuracy, evenly over a run, unless the job says otherwise
HISTORY_POINTS = 500  # most losses kept of a run, unless the job says otherwise


@dataclass(frozen=True, eq=False)
class History:
    """How a run went: the loss at some steps, the accuracies at others; NaN once it ended.

    `train_accuracy` is measured on the minibatches since the evaluation before, `val_accuracy` on
    all validation examples. Takes 12 bytes a loss and 24 an evaluation.
    """

    steps: Int64[np.ndarray, "points"]
    loss: Float32[np.ndarray, "points"]
    evaluated: Int64[np.ndarray, "evaluations"]
    train_accuracy: Float64[np.ndarray, "evaluations"]
    val_accuracy: Float64[np.ndarray, "evaluations"]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the series by name."""
        return dict(vars(self))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "History":
        """Undo `arrays`; KeyError or ValueError for what are no such series."""
        found = {name: np.asarray(arrays[name]) for name in NO_HISTORY.arrays()}
        for name, empty in NO_HISTORY.arrays().items():
            if found[name].ndim != 1 or found[name].dtype != empty.dtype:
                raise ValueError(f"{name}: expected a series of {empty.dtype}")
        for names in (("steps", "loss"), ("evaluated", "train_accuracy", "val_accuracy")):
            if len({len(found[name]) for name in names}) > 1:
                raise ValueError(f"{' and '.join(names)}: series of several lengths")
        return cls(**found)

    def until(self, step: int) -> "History":
        """Return the part up to a step."""
        losses, evaluations = self.steps < step, self.evaluated <= step
        kept = {"steps": losses, "loss": losses}
        return History(
            **{name: a[kept.get(name, evaluations)] for name, a in self.arrays().items()}
        )

    def then(self, later: "History") -> "History":
        """Return this history and the one that follows it."""
        ours, theirs = self.arrays(), later.arrays()
        return History(**{name: np.concatenate([ours[name], theirs[name]]) for name in ours})


NO_HISTORY = History(
    steps=np.zeros(0, np.int64),
    loss=np.zeros(0, np.float32),
    evaluated=np.zeros(0, np.int64),
    train_accuracy=np.zeros(0),
    val_accuracy=np.zeros(0),
)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one configuration.

    `status` is "ok" (trained to its last step), "diverged@step", "stopped@step" (by early
    stopping: the result stands) or "cut@step" (by halving or a callback: it trained for less than
    others). `steps` counts the updates made; a diverged run keeps its last finite loss (NaN if it
    had none) and has NaN for accuracies.
    """

    steps: int
    final_loss: float
    train_accuracy: float
    val_accuracy: float
    status: str
    history: History

    @property
    def kind(self) -> str:
        """Return the status without its step: ok, diverged, stopped or cut."""
        return self.status.partition("@")[0]


class Record:
    """What is noted of K runs from one step to another: arrays only, so that a file can hold it."""

    def __init__(
        self,
        networks: int,
        begin: int,
        end: int,
        evaluations: Sequence[int],
        stride: int,
    ) -> None:
        self.begin, self.end = begin, end
        self.evaluations = [step for step in evaluations if begin < step <= end]
        self.at = np.arange(-(-begin // stride) * stride, end, stride)
        points, count = len(self.at), len(self.evaluations)
        self.stride = stride
        self.arrays = {
            "loss": np.full((points, networks), np.nan, np.float32),
            "val_accuracy": np.full((count, networks), np.nan, np.float64),
            "train_hits": np.zeros((count, networks), np.float64),
        }

    def add(self, step: int, columns: np.ndarray, loss: np.ndarray, accuracy: np.ndarray) -> None:
        """Note losses and minibatch accuracies [n, columns] of steps step, step + 1, ..."""
        at = np.arange(step, step + len(loss))
        kept = at % self.stride == 0
        rows = np.searchsorted(self.at, at[kept])
        loss, most = loss[kept], np.finfo(np.float32).max
        # A finite loss of float64 may be beyond float32: it stands as the largest there is.
        loss = np.where(np.isfinite(loss), loss.clip(-most, most), loss)
        self.arrays["loss"][rows[:, None], columns[None, :]] = loss
        window = np.searchsorted(self.evaluations, step, side="right")
        if window < len(self.evaluations):
            self.arrays["train_hits"][window, columns] += accuracy.sum(axis=0, dtype=np.float64)

    def evaluate(self, step: int, columns: np.ndarray, val_accuracy: np.ndarray) -> None:
        """Note the validation accuracies after `step` updates."""
        self.arrays["val_accuracy"][self.evaluations.index(step), columns] = val_accuracy

    def val_accuracies(self, step: int) -> np.ndarray:
        """Return the validation accuracies [evaluations, K] up to a step."""
        return self.arrays["val_accuracy"][: np.searchsorted(self.evaluations, step, side="right")]

    def history(self, k: int, ended_at: int) -> History:
        """Return the history of run k, whose last update was number `ended_at`."""
        evaluated = np.asarray(self.evaluations, np.int64)
        windows, alive = np.diff([self.begin, *self.evaluations]), evaluated <= ended_at
        hits = self.arrays["train_hits"][:, k] / windows
        return History(
            steps=self.at.astype(np.int64),
            loss=np.where(self.at < ended_at, self.arrays["loss"][:, k], np.float32(np.nan)),
            evaluated=evaluated,
            train_accuracy=np.where(alive, hits, np.nan),
            val_accuracy=np.where(alive, self.arrays["val_accuracy"][:, k], np.nan),
        )


def evaluation_steps(steps: int, count: int) -> list[int]:
    """Return the steps after which to evaluate: `count` of them, evenly, the last one included."""
    count = min(count, steps)
    return sorted({math.ceil(steps * (i + 1) / count) for i in range(count)})
