"""The sizes that may explain a wrong factor: the batch and the axes of arguments by name."""

from collections import Counter
from typing import Any

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.jaxpr.trace import walk


def named_sizes(subject: Subject) -> dict[str, int]:
    """Return the sizes of axes by name, the batch first.

    The batch is the first axis of the first constant array, else of the output, else of the labels
    that f closes over, else of several arrays that it closes over.
    """
    arguments = subject.problem.arguments
    named: dict[str, int] = {}
    for position in arguments.constants:
        shape = np.shape(arguments.everything[position])
        if shape and "batch" not in named:
            named["batch"] = shape[0]
    _, floats, shapes = subject.out
    out = shapes[floats[0]][0]
    if out:
        named.setdefault("batch", out[0])
    if batch := _closed_over_batch(subject):
        named.setdefault("batch", batch)
    given = {*arguments.constants, *(leaf.position for leaf in arguments.leaves)}
    for position, path in enumerate(arguments.paths):
        shape = np.shape(arguments.everything[position]) if position in given else ()
        for axis, size in enumerate(shape):
            if size > 1 and size not in named.values():
                named[f"{path}.shape[{axis}]"] = size
    return named


def axis_sizes(subject: Subject) -> set[int]:
    """Return the size of every axis in the program: arguments, constants, intermediate results.

    A mean over closed-over data divides by a number that no argument shows.
    """
    if isinstance(subject.program, LoopProgram):
        return set()
    traced = subject.program.traced
    shapes = [np.shape(const) for const in traced.consts]
    for equation in walk(traced.jaxpr):
        shapes += [getattr(v.aval, "shape", ()) for v in (*equation.invars, *equation.outvars)]
    return {int(n) for shape in shapes for n in shape if isinstance(n, (int, np.integer))}


def _closed_over_batch(subject: Subject) -> int | None:
    """Return the length of closed-over labels, or the most common length of closed-over arrays."""
    arrays = [x for x in _closed_over(subject) if np.ndim(x) and len(x) > 1]
    labels = [x for x in arrays if jnp.issubdtype(x.dtype, jnp.integer)]
    if labels:
        return len(labels[0])
    ((size, count),) = Counter(map(len, arrays)).most_common(1) or [(0, 0)]
    return size if count > 1 else None


def _closed_over(subject: Subject) -> list[Any]:
    """Return the arrays that f closes over: constants of its program, literals since jax 0.11."""
    if isinstance(subject.program, LoopProgram):
        return []
    traced = subject.program.traced
    literals = [
        v.val
        for equation in walk(traced.jaxpr)
        for v in equation.invars
        if isinstance(v, jex.Literal) and np.ndim(v.val)
    ]
    return [x for x in [*traced.consts, *literals] if hasattr(x, "dtype")]
