"""The gradients that are compared: the hand-written one and the gradient by autodiff."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError, JaxnetError
from jaxnet.gradcheck.function.match_gradient import SKIPPED, MatchedGradient, match
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject, caller, in_given_types, pull_back
from jaxnet.gradcheck.function.user_errors import error_text, user_errors
from jaxnet.gradcheck.jaxpr.trace import trace, try_to_trace


def manual_gradient(subject: Subject, *, scoped: bool = True) -> MatchedGradient:
    """Run the hand-written gradient at the subject's point; entries are float64 arrays or None.

    Outside the scope it runs under the user's own precision settings.
    """
    name = "grad=" if subject.problem.grad is not None else "backward="
    beside = "near" if subject.beside else "on"
    dtype = subject.dtype.name if scoped else "their own dtype"
    with user_errors(name, f"{beside} the given arguments in {dtype}"):
        return _manual_gradient(subject, scoped)


def _manual_gradient(subject: Subject, scoped: bool) -> MatchedGradient:
    problem, program = subject.problem, subject.program
    arguments = problem.arguments

    def run(variables, constants, cotangent):
        args = arguments.rebuild(variables, constants)
        if problem.backward is not None:
            with user_errors("f", "before backward= runs"):
                result = problem.f(*args)
            structure, floats, shapes = subject.out
            # Integer outputs have cotangents of dtype float0, as in jax.vjp.
            leaves: list[Any] = [np.zeros(s, jax.dtypes.float0) for s, _ in shapes]
            for i, weight in zip(floats, cotangent, strict=True):
                leaves[i] = jnp.asarray(weight)
            returned = problem.backward(jax.tree.unflatten(structure, leaves), result[1])
        else:
            assert problem.grad is not None
            returned = problem.grad(*args)
        matched = match(arguments, returned, first_few=problem.backward is not None)
        arrays = [e for e in matched.entries if _is_given(e)]
        pattern = [e if not _is_given(e) else True for e in matched.entries]
        return [jnp.asarray(a) for a in arrays], replace(matched, entries=pattern)

    with subject.scope() if scoped else contextlib.nullcontext():
        if isinstance(program, LoopProgram) or subject.manual_trace is EAGER:
            arrays, meta = run(
                in_given_types(arguments, program.variables), None, program.cotangent
            )
        else:
            inputs = program.variables, program.constants, program.cotangent
            try:
                if subject.manual_trace is None:
                    subject.manual_trace = trace(run, *inputs)
                arrays, meta = subject.manual_trace.run(*inputs), subject.manual_trace.meta
            except JaxnetError:
                raise
            except Exception:  # outside of a trace an error of the gradient itself comes again
                subject.manual_trace = EAGER
                arrays, meta = run(
                    in_given_types(arguments, program.variables), None, program.cotangent
                )
    queue = [np.asarray(a, np.float64) for a in arrays]
    return replace(meta, entries=[queue.pop(0) if e is True else e for e in meta.entries])


EAGER: Any = object()
"""The `manual_trace` of a hand-written gradient that cannot be traced."""


def autodiff(subject: Subject, f: Callable | None = None) -> tuple[list[np.ndarray], list[Any]]:
    """Return gradients and outputs by reverse-mode autodiff of f or of a reference."""
    where = "near the given arguments" if subject.beside else "on the given arguments"
    name = "autodiff of f" if f is None else "autodiff of reference="
    with user_errors(name, where):
        return _autodiff(subject, f, name)


def _autodiff(
    subject: Subject, f: Callable | None, name: str
) -> tuple[list[np.ndarray], list[Any]]:
    program = subject.program
    call = caller(subject.problem, f)

    def run(variables, constants, cotangent):
        def outputs_of(variables):
            outputs = call(variables, constants)[0]
            if f is not None:
                _demand_same_outputs(subject, outputs)
            return outputs

        gradients, outputs = pull_back(outputs_of, variables, cotangent)
        return [*gradients, *outputs], None

    inputs = program.variables, program.constants, program.cotangent
    with subject.scope():
        traced = subject.autodiff_trace if f is None else None
        if traced is None:
            traced, why = try_to_trace(run, *inputs)
            if f is None:
                subject.autodiff_trace = traced
            if why is not None:
                subject.notes.append(f"{name} works outside of jit only ({error_text(why, 200)})")
        results = traced.run(*inputs)
    count = len(program.variables)
    values = [np.asarray(value) for value in results[count:]]  # a callback's error is raised here
    return [np.asarray(g, np.float64) for g in results[:count]], values


def _demand_same_outputs(subject: Subject, outputs: list[Any]) -> None:
    expected, got = ([np.shape(x) for x in xs] for xs in (subject.program.values, outputs))
    if expected != got:
        raise ConfigurationError(
            f"reference= expects the outputs of f, of shapes {expected}, got {got}: return the same"
        )


def _is_given(entry: Any) -> bool:
    return entry is not None and entry is not SKIPPED
