"""The course's loop in NumPy, one network after the other."""

from typing import Any

import numpy as np

from benchmarks.course_numpy import NumpyNet, NumpySolver
from benchmarks.tasks import Task, Weights


class CourseLoop:
    """Images, weights and all else in one dtype: float64, as the course has it, or float32."""

    def __init__(self, task: Task, *, dtype: Any):
        self.task = task
        self.inputs = task.images.inputs64 if dtype == np.float64 else task.images.inputs
        params = {}
        for i, (w, b) in enumerate(task.start, 1):
            params |= {f"W{i}": w.astype(dtype), f"b{i}": b.astype(dtype)}
        self.solvers = [
            NumpySolver(
                NumpyNet(params, batchnorm=False, keep=1, reg=float(l2)), task.rule, float(rate)
            )
            for rate, l2 in zip(task.rates, task.l2, strict=True)
        ]

    def run(self) -> object:
        """Make the task's updates of every network."""
        return [
            solver.step(self.inputs, self.task.images.labels, rows)
            for solver in self.solvers
            for rows in self.task.rows
        ]

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        layers = range(1, len(self.task.start) + 1)
        return [
            [(solver.net.params[f"W{i}"], solver.net.params[f"b{i}"]) for i in layers]
            for solver in self.solvers
        ]
