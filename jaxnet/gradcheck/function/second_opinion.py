"""What JAX says of f with the rules and stops of its author left out, and how far to trust it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject, caller
from jaxnet.gradcheck.jaxpr.equations import CALLS, JAX_FILES, evaluate, open_program, source_of
from jaxnet.gradcheck.jaxpr.recompute import recompute
from jaxnet.gradcheck.jaxpr.rounding import rounding, rounding_of
from jaxnet.gradcheck.jaxpr.trace import Traced, trace
from jaxnet.gradcheck.numeric.lines import share_of

_SINGLE = 0.3  # share of an entry that its error may be in float32: a factor of 2 is seen
ROUNDINGS = 32.0  # of the measured rounding, what two right formulas may differ by


@dataclass(frozen=True)
class Opinion:
    """The gradient by a leaf that JAX's own rules give, and the rounding in it, by flat entry."""

    gradient: np.ndarray
    rounding: np.ndarray
    share: float  # of an entry, up to which its error leaves it an opinion

    @property
    def error(self) -> np.ndarray:
        """Return what another right formula may differ by."""
        return ROUNDINGS * self.rounding

    @property
    def trusted(self) -> np.ndarray:
        """Whether rounding leaves an entry its leading digits; a zero that nothing moves has."""
        return self.error <= self.share * abs(self.gradient)


def plain_opinion(subject: Subject, number: int) -> Opinion | None:
    """Return the opinion on one leaf, or None where JAX has none; found once for all leaves."""
    if not subject.plain:
        with subject.scope():
            subject.plain.append(_differentiate(subject))
    found = subject.plain[0]
    if found is None:
        return None
    gradient, rounding = (np.ravel(part[number]) for part in found)
    share = share_of(subject.program) if subject.dtype == np.float64 else _SINGLE
    finite = np.isfinite(gradient).all() and np.isfinite(rounding).all()
    return Opinion(gradient, rounding, share) if finite else None


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


def _gradient(traced: Traced):
    def run(variables, constants, cotangent):
        def plain(variables):
            leaves = jax.tree.leaves((variables, constants))
            return recompute(traced.jaxpr, traced.consts, leaves, _step, _as_is, _is_opened)

        outputs, pull = jax.vjp(plain, variables)
        weights = [jnp.asarray(w).astype(o.dtype) for w, o in zip(cotangent, outputs, strict=True)]
        return pull(weights)[0], None

    return run


def _step(eqn: Any, operands: list[Any]) -> list[Any]:
    return operands if eqn.primitive.name == "stop_gradient" else evaluate(eqn, operands)


def _as_is(value: Any) -> Any:
    return value


def _is_opened(eqn: Any) -> bool:
    """Whether a program within is run without its rule: JAX's own rules are to be trusted."""
    if not eqn.primitive.name.startswith("custom_"):
        return True
    inner, _ = open_program(eqn.params[CALLS[eqn.primitive.name]])
    return not source_of(inner)[0].startswith(JAX_FILES)


def own_rounding(subject: Subject, number: int) -> np.ndarray | None:
    """Return the rounding in the gradient under test by a leaf, by flat entry, where it shows."""
    program = subject.program
    traced = subject.manual_trace if subject.has_manual else subject.autodiff_trace
    if not isinstance(traced, Traced):
        return None
    place = number
    if subject.has_manual:
        given = [entry is True for entry in traced.meta.entries]
        if not given[number]:
            return None
        place = sum(given[:number])
    moves = rounding(subject, traced, program.variables, program.constants, program.cotangent)
    return None if moves is None else np.ravel(moves[place])
