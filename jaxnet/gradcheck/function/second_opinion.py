"""Autodiff of f without the author's custom rules and stops, and how far to trust it."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject, caller, pull_back
from jaxnet.gradcheck.jaxpr.equations import CALLS, JAX_FILES, evaluate, open_program, source_of
from jaxnet.gradcheck.jaxpr.recompute import recompute
from jaxnet.gradcheck.jaxpr.rounding import rounding, rounding_of
from jaxnet.gradcheck.jaxpr.trace import TracedProgram, trace
from jaxnet.gradcheck.numeric.lines import proof_share

# An entry with a larger relative error is no opinion; in float32 a factor of 2 must still show.
_MAX_FLOAT32_ERROR = 0.3
# Two right formulas may differ by this many times the measured rounding.
ROUNDING_FACTOR = 32.0


@dataclass(frozen=True)
class SecondOpinion:
    """The gradient of one leaf by JAX's own rules, and the rounding in it, by flat entry."""

    gradient: np.ndarray
    rounding: np.ndarray
    share: float  # an entry is trusted up to this relative error

    @property
    def error(self) -> np.ndarray:
        """Return by how much another right formula may differ."""
        return ROUNDING_FACTOR * self.rounding

    @property
    def trusted(self) -> np.ndarray:
        """Whether rounding leaves an entry its leading digits; a zero without rounding counts."""
        return self.error <= self.share * abs(self.gradient)


def second_opinion(subject: Subject, number: int) -> SecondOpinion | None:
    """Return the opinion on one leaf, or None where JAX has none; computed once for all leaves."""
    if not subject.plain:
        with subject.scope():
            subject.plain.append(_differentiate(subject))
    if subject.plain[0] is None:
        return None
    gradient, rounding = (np.ravel(by_leaf[number]) for by_leaf in subject.plain[0])
    share = proof_share(subject.program) if subject.dtype == np.float64 else _MAX_FLOAT32_ERROR
    finite = np.isfinite(gradient).all() and np.isfinite(rounding).all()
    return SecondOpinion(gradient, rounding, share) if finite else None


def _differentiate(subject: Subject) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    program = subject.program
    if isinstance(program, LoopProgram):
        return None
    inputs = program.variables, program.constants
    reference = subject.problem.reference
    try:
        traced = program.traced
        if reference is not None:
            traced = trace(caller(subject.problem, reference), *inputs)
        gradient = trace(_gradient(traced), *inputs, program.cotangent)
        results, moves = rounding_of(gradient, *inputs, program.cotangent)
    except Exception:  # whatever keeps JAX from differentiating the inside of a user's rule
        return None
    return [np.asarray(r, np.float64) for r in results], moves


def _gradient(traced: TracedProgram):
    def run(variables, constants, cotangent):
        def plain(variables):
            leaves = jax.tree.leaves((variables, constants))
            return recompute(traced.jaxpr, traced.consts, leaves, _step, _as_is, _is_opened)

        return pull_back(plain, variables, cotangent)[0], None

    return run


def _step(eqn: Any, operands: list[Any]) -> list[Any]:
    return operands if eqn.primitive.name == "stop_gradient" else evaluate(eqn, operands)


def _as_is(value: Any) -> Any:
    return value


def _is_opened(eqn: Any) -> bool:
    """Whether to run an inner program without its rule: only JAX's own rules are trusted."""
    if not eqn.primitive.name.startswith("custom_"):
        return True
    inner, _ = open_program(eqn.params[CALLS[eqn.primitive.name]])
    return not source_of(inner)[0].startswith(JAX_FILES)


def own_rounding(subject: Subject, number: int) -> np.ndarray | None:
    """Return the rounding in the gradient of one leaf under test, by flat entry, or None."""
    program = subject.program
    traced = subject.manual_trace if subject.has_manual else subject.autodiff_trace
    if not isinstance(traced, TracedProgram):
        return None
    index = number
    if subject.has_manual:
        given = [entry is True for entry in traced.meta.entries]
        if not given[number]:
            return None
        index = sum(given[:number])
    moves = rounding(subject, traced, program.variables, program.constants, program.cotangent)
    return None if moves is None else np.ravel(moves[index])
