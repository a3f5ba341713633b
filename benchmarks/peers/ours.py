"""jaxnet: a sweep's compiled training, all networks of a task at once or some at a time."""

import dataclasses

import jax.numpy as jnp

from benchmarks.tasks import Task, Weights, weights_of
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.numerics import numerics
from jaxnet.training.program import MOST_STEPS, Counts, Program


class Ours:
    """`at_once` networks in a program (default: all), one call of it after the other."""

    def __init__(
        self,
        task: Task,
        *,
        precision: str = "float32",
        backward: str = "manual",
        at_once: int | None = None,
    ):
        self.task, self.precision = task, precision
        size = at_once or len(task.configurations)
        structure = dataclasses.replace(
            task.configurations[0].structure, precision=precision, backward=backward
        )
        self.seed = jnp.uint32(task.configurations[0].seed)
        with numerics(precision):
            self.program = Program(structure, task.images.shapes)
            self.given = [
                Hyperparameters.of(task.configurations[begin : begin + size])
                for begin in range(0, len(task.configurations), size)
            ]
            self.states = [self.program.init(given, self.seed) for given in self.given]

    def run(self) -> object:
        """Make the task's updates of every network."""
        examples, total, metrics = len(self.task.images.raw), self.task.steps, None
        with numerics(self.precision):
            for i, given in enumerate(self.given):
                for begin in range(0, total, MOST_STEPS):
                    self.states[i], metrics = self.program.advance(
                        self.states[i],
                        given,
                        self.seed,
                        self.task.images.on_device,
                        Counts.of(examples, min(MOST_STEPS, total - begin), total),
                    )
        return self.states, metrics

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        return [
            weights_of(state.members, i)
            for state, given in zip(self.states, self.given, strict=True)
            for i in range(given.networks)
        ]
