"""The function under test as a scalar of its leaves, evaluated at many points at once."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.gradcheck.function.user_errors import user_errors
from jaxnet.gradcheck.jaxpr.trace import TracedProgram, bytes_per_evaluation, compiled, roundoffs_in

MAX_POINTS = 4096  # points of a call: a compiled loop evaluates as many of them as are needed
MAX_DIRECTIONS = 16  # directions of a call
_CACHE_BYTES = 4_000_000  # points side by side pay only while their results stay in the cache
_MAX_JOINT_ENTRIES = 150_000  # up to this size one compiled evaluator serves every leaf


class Program:
    """The function phi(leaves) = <cotangent, outputs(leaves)>, compiled for many points at once.

    Points lie along directions or along coordinates of one leaf. The compiled function has fixed
    shapes and a number of chunks as an argument, so that one compilation serves every call.
    """

    def __init__(
        self,
        traced: TracedProgram,
        variables: Sequence[Any],
        constants: Sequence[Any],
        dtype: Any,
        memory: int,
    ):
        self.traced = traced
        self.variables = list(variables)
        self.constants = list(constants)
        self.dtype = np.dtype(dtype)
        self.roundoff = float(np.finfo(self.dtype).eps) / 2
        self.sizes = [int(np.size(v)) for v in variables]
        self.evaluations = 0
        self.chunked = "vmap"
        self.why_loop: Exception | None = None
        self.cotangent: list[Any] = []
        self._centre: float | None = None
        self.values: list[np.ndarray] = []
        self.coarsest_roundoff = max(self.roundoff, *roundoffs_in(traced))
        self._joint = sum(self.sizes) <= _MAX_JOINT_ENTRIES
        # Chunks are powers of two, so that few sizes are compiled.
        each = bytes_per_evaluation(traced) + 8 * max(sum(self.sizes), 1)
        self.chunk = 1 << int(np.clip(min(_CACHE_BYTES, memory) // each, 1, 256)).bit_length() - 1

    def at_point(self, variables: Sequence[Any]) -> "Program":
        """Return the same program at another point."""
        other = copy.copy(self)
        other.variables = list(variables)
        other._centre = None
        return other

    def centre(self) -> float:
        """Return phi at the point itself, by the evaluator of all other points.

        Another compilation would round otherwise, which shows in differences of small steps.
        """
        if self._centre is None:
            nowhere = np.zeros((1, self.sizes[0]))
            self._centre = float(self.along(0, nowhere, np.zeros((1, 1)))[0, 0])
        return self._centre

    def outputs(self) -> list[Any]:
        """Return the floating-point outputs at the given point."""
        self.evaluations += 1
        return self.traced.run(self.variables, self.constants)

    def along(self, leaf: int, rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return phi(x + t·v) [directions, steps]; rows are directions [directions, leaf size]."""
        out = np.empty(steps.shape)
        most = max(1, min(MAX_DIRECTIONS, MAX_POINTS // steps.shape[1]))
        for start in range(0, len(rows), most):
            part = slice(start, start + most)
            count = len(rows[part])
            directions = np.zeros((MAX_DIRECTIONS, self._width(leaf)), self.dtype)
            directions[:count, self._span(leaf)] = rows[part]
            index = np.repeat(np.arange(count), steps.shape[1])
            values = self._values("along", leaf, directions, index, steps[part].ravel())
            out[part] = values.reshape(count, -1)
        return out

    def at(self, leaf: int, index: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        """Return phi(x + delta·e_i) [coordinates, deltas] for flat indices of one leaf."""
        flat_index = np.repeat(index + self._span(leaf).start, deltas.shape[1])
        flat_delta = deltas.ravel()
        parts = []
        for start in range(0, len(flat_delta), MAX_POINTS):
            part = slice(start, start + MAX_POINTS)
            parts.append(self._values("at", leaf, None, flat_index[part], flat_delta[part]))
        return np.concatenate([*parts, np.empty(0)]).reshape(deltas.shape)

    def _perturbed(self, leaf: int) -> list[int]:
        """Return the leaves that the evaluator of a leaf can perturb: all, if they are small."""
        return list(range(len(self.sizes))) if self._joint else [leaf]

    def _width(self, leaf: int) -> int:
        return sum(self.sizes[i] for i in self._perturbed(leaf))

    def _span(self, leaf: int) -> slice:
        start = sum(self.sizes[:leaf]) if self._joint else 0
        return slice(start, start + self.sizes[leaf])

    def _values(self, *points) -> np.ndarray:
        with user_errors("f", "at points near the given arguments"):
            return self._evaluate(*points)

    def _evaluate(self, kind, leaf, directions, index, steps) -> np.ndarray:
        count = len(steps)
        self.evaluations += count
        # Fixed shapes: the number of points must not compile anew.
        padded_index = np.zeros(MAX_POINTS, np.int32)
        padded_steps = np.zeros(MAX_POINTS, self.dtype)
        padded_index[:count], padded_steps[:count] = index, steps
        moved = self._perturbed(leaf)
        while True:
            chunk = self.chunk if self.chunked == "vmap" else 1
            key = (kind, tuple(moved), chunk, self.chunked, self.traced.code)
            function = compiled(key, functools.partial(self._compile, kind, moved, chunk))
            try:
                inputs = self.traced.consts, self.variables, self.constants, self.cotangent
                points = directions, padded_index, padded_steps, np.int32(-(-count // chunk))
                values = function(inputs, points)
                return np.asarray(values, np.float64)[:count]
            except Exception as error:
                if self.chunked == "loop":
                    raise
                # A callback or an effect has no batching rule: evaluate the points one by one.
                self.chunked, self.why_loop = "loop", error

    def _compile(self, kind: str, moved: list[int], chunk: int) -> Callable:
        traced, vmapped = self.traced, self.chunked == "vmap"
        shapes = [np.shape(self.variables[i]) for i in moved]
        ends = np.cumsum([int(np.prod(s)) for s in shapes])
        dtype = self.dtype

        def evaluate(inputs, points):
            consts, variables, constants, cotangent = inputs
            directions, index, steps, chunks = points
            base = jnp.concatenate([variables[i].ravel() for i in moved])

            def phi(index, step):
                if kind == "along":
                    flat = base + step * directions[index]
                else:
                    flat = base.at[index].add(step)
                leaves = list(variables)
                for i, shape, end in zip(moved, shapes, ends, strict=True):
                    leaves[i] = flat[end - int(np.prod(shape)) : end].reshape(shape)
                return contract(cotangent, traced(consts, (leaves, constants)), dtype)

            def body(i, out):
                where = jax.lax.dynamic_slice(index, (i * chunk,), (chunk,))
                step = jax.lax.dynamic_slice(steps, (i * chunk,), (chunk,))
                values = jax.vmap(phi)(where, step) if vmapped else phi(where[0], step[0])[None]
                return jax.lax.dynamic_update_slice(out, values, (i * chunk,))

            return jax.lax.fori_loop(0, chunks, body, jnp.zeros(MAX_POINTS, dtype))

        return jax.jit(evaluate)


def contract(cotangent: Sequence[Any], outputs: Sequence[Any], dtype: Any) -> Any:
    """Return <cotangent, outputs> in one dtype."""
    total = jnp.zeros((), dtype)
    for weight, output in zip(cotangent, outputs, strict=True):
        total = total + jnp.sum(jnp.asarray(weight).astype(dtype) * output.astype(dtype))
    return total


class LoopProgram(Program):
    """A scalar program of a function that cannot be traced: a Python loop over the points."""

    def __init__(
        self,
        call: Callable[[Sequence[Any]], list[Any]],
        variables: Sequence[Any],
        dtype: Any,
    ):
        self.call = call
        self.variables = [np.asarray(v) for v in variables]
        self.constants = []
        self.dtype = np.dtype(dtype)
        self.roundoff = self.coarsest_roundoff = float(np.finfo(self.dtype).eps) / 2
        self.sizes = [int(np.size(v)) for v in variables]
        self.evaluations, self.chunk, self.chunked = 0, 1, "python"
        self.cotangent = []
        self.values, self.why_loop = [], None
        self._joint, self._centre = False, None

    def outputs(self) -> list[Any]:
        """Return the floating-point outputs at the given point."""
        self.evaluations += 1
        return self.call(self.variables)

    def _evaluate(self, kind, leaf, directions, index, steps) -> np.ndarray:
        values = []
        for i, step in zip(index, steps, strict=True):
            flat = self.variables[leaf].ravel().copy()
            if kind == "along":
                flat = flat + step * directions[i]
            else:
                flat[i] += step
            leaves = list(self.variables)
            leaves[leaf] = flat.reshape(self.variables[leaf].shape)
            self.evaluations += 1
            values.append(
                sum(
                    float(np.sum(np.asarray(c, np.float64) * np.asarray(o, np.float64)))
                    for c, o in zip(self.cotangent, self.call(leaves), strict=True)
                )
            )
        return np.asarray(values)
