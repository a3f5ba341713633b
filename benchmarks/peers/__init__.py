"""What users would otherwise train their networks with, each given the same task."""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.peers.course_loop import CourseLoop
from benchmarks.peers.ours import Ours
from benchmarks.tasks import Task, Weights


class Trainer(Protocol):
    """Networks in training by one of the peers."""

    def run(self) -> object:
        """Make the task's updates of every network, going on from where they stand."""
        ...

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        ...


class Peer(NamedTuple):
    """A way to train the networks of a task.

    `together`: all at once, or one after the other. `operands`: of its products. `needs` is the
    package without which there is none.
    """

    name: str
    make: Callable[[Task], Trainer]
    together: bool
    operands: str = "float32"
    needs: str = "jaxnet"

    @property
    def installed(self) -> bool:
        """Return whether its package is there."""
        return importlib.util.find_spec(self.needs) is not None

    @property
    def tolerance(self) -> float:
        """Return how far the update of a network may lie from float64's, relative to it.

        The smallest rates of the grids change a weight by 1e-5 of it a step, of which float32, that
        rounds a sum to 6e-8, loses up to 6e-3. Bfloat16 rounds each operand to 4e-3, and flips
        those relus that are that near to zero. Other minibatches would give about 1.
        """
        return 0.1 if self.operands == "bfloat16" else 2e-2


REFERENCE = "course's loop, float64"
OURS = "jaxnet, float32"
MIXED = "jaxnet, mixed"


def _pytorch(kind: str, *, bfloat16: bool = False, compiled: bool = False) -> Callable:
    def make(task: Task) -> Trainer:
        from benchmarks.peers import pytorch

        return getattr(pytorch, kind)(task, bfloat16=bfloat16, compiled=compiled)

    return make


def _flax(task: Task) -> Trainer:
    from benchmarks.peers.flax_optax import FlaxOptax

    return FlaxOptax(task)


def _scikit_learn(task: Task) -> Trainer:
    from benchmarks.peers.scikit_learn import ScikitLearn

    return ScikitLearn(task)


PYTORCH = (
    Peer("PyTorch, eager", _pytorch("OneByOne"), False, needs="torch"),
    Peer("PyTorch, compiled", _pytorch("OneByOne", compiled=True), False, needs="torch"),
    Peer(
        "PyTorch, eager, bfloat16 autocast",
        _pytorch("OneByOne", bfloat16=True),
        False,
        "bfloat16",
        needs="torch",
    ),
    Peer(
        "PyTorch, compiled, bfloat16 autocast",
        _pytorch("OneByOne", bfloat16=True, compiled=True),
        False,
        "bfloat16",
        needs="torch",
    ),
)
COURSE = (
    Peer(REFERENCE, lambda task: CourseLoop(task, dtype=np.float64), False, "float64"),
    Peer("course's loop, float32", lambda task: CourseLoop(task, dtype=np.float32), False),
)
PEERS = (
    Peer(OURS, Ours, True),
    Peer(MIXED, lambda task: Ours(task, precision="mixed"), True, "bfloat16"),
    Peer("jaxnet, one by one", lambda task: Ours(task, at_once=1), False),
    *COURSE,
    *PYTORCH,
    Peer("torch.func vmap", _pytorch("Ensemble"), True, needs="torch"),
    Peer("torch.func vmap, compiled", _pytorch("Ensemble", compiled=True), True, needs="torch"),
    Peer(
        "torch.func vmap, bfloat16 autocast",
        _pytorch("Ensemble", bfloat16=True),
        True,
        "bfloat16",
        needs="torch",
    ),
    Peer("flax + optax, vmap", _flax, True, needs="flax"),
    Peer("scikit-learn", _scikit_learn, False, needs="sklearn"),
)
