"""jaxnet: a sweep's compiled training, all networks of a task at once or some at a time."""

import dataclasses

import jax.numpy as jnp

from benchmarks.tasks import Task, Weights, stacked_numbers, weights_of
from jaxnet.training.numerics import numerics
from jaxnet.training.program import MOST_STEPS, make_train


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
            features = task.images.raw.shape[1:]
            self.program = make_train(structure, features, task.images.classes)
            self.numbers = [
                stacked_numbers(task.configurations[begin : begin + size])
                for begin in range(0, len(task.configurations), size)
            ]
            self.states = [self.program.init(numbers, self.seed) for numbers in self.numbers]

    def run(self) -> object:
        """Make the task's updates of every network."""
        examples = jnp.int32(len(self.task.images.raw))
        metrics = None
        with numerics(self.precision):
            for i, numbers in enumerate(self.numbers):
                for begin in range(0, self.task.steps, MOST_STEPS):
                    steps = jnp.int32(min(MOST_STEPS, self.task.steps - begin))
                    self.states[i], metrics = self.program.advance(
                        self.states[i],
                        numbers,
                        self.seed,
                        self.task.images.on_device,
                        examples,
                        steps,
                        jnp.int32(self.task.steps),
                    )
        return self.states, metrics

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        return [
            weights_of(state.members, i)
            for state, numbers in zip(self.states, self.numbers, strict=True)
            for i in range(len(numbers["learning_rate"]))
        ]
