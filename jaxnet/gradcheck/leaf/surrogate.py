"""Gradients that are no derivatives on purpose (straight-through): compared with autodiff only."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.hints import hint
from jaxnet.gradcheck.jaxpr.trace import walk
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.numeric.judge_lines import Findings
from jaxnet.gradcheck.numeric.norms import norm, relative
from jaxnet.gradcheck.report import FAIL, PASS, Entry, LeafReport

_STEP_PRIMITIVES = {"round", "floor", "ceil", "sign", "argmax", "argmin", "stop_gradient"}


def surrogate_question(case: LeafCase, findings: Findings) -> str:
    """Return a question to append where a failed gradient may be no derivative on purpose."""
    program = case.subject.program
    question = "stop_gradient or a straight-through estimator on purpose? then "
    flat = findings.vanishes(findings.numeric)
    steps = not isinstance(program, LoopProgram) and any(map(_is_step, walk(program.traced.jaxpr)))
    if case.autodiff is not None and not case.differences().any():
        return f': {question}expected="surrogate"'
    if case.autodiff is None and (flat or steps):
        return f': {question}expected="surrogate"'
    if flat and steps and case.subject.has_manual:
        return (
            f': {question}expected="surrogate", and reference= a function that JAX differentiates '
            f"so, such as x + stop_gradient(f(x) - x)"
        )
    return ""


def _is_step(eqn: Any) -> bool:
    """Whether an equation is a step function, whose derivative is zero almost everywhere."""
    if eqn.primitive.name == "convert_element_type":
        kinds = [np.dtype(v.aval.dtype).kind for v in (*eqn.invars, *eqn.outvars)]
        return kinds in (["f", "i"], ["f", "u"], ["b", "f"])
    return eqn.primitive.name in _STEP_PRIMITIVES


def compare_with_autodiff(case: LeafCase, dimensions: Mapping[str, int]) -> LeafReport:
    """Judge a leaf by autodiff only: the gradient is not meant to be the derivative."""
    leaf = case.leaf
    base: dict[str, Any] = {**leaf.columns, "norm": norm(case.manual)}
    if not np.isfinite(case.manual).all():
        return LeafReport(**base, verdict=FAIL, reason="the gradient is not finite")
    if case.autodiff is None:
        return LeafReport(**base, verdict=PASS, reason="surrogate: exact checks only")
    base["versus_autodiff"] = relative(case.manual, case.autodiff)
    if base["versus_autodiff"] <= 1e6 * case.roundoff or not case.differences().any():
        return LeafReport(**base, verdict=PASS, reason="surrogate: compared with autodiff only")
    flat = int(np.argmax(case.differences()))
    entry = Entry.at(flat, case.manual, case.autodiff)
    bound = 64 * case.roundoff * float(np.max(abs(case.autodiff)))
    text = hint(case.manual, case.autodiff, dimensions=dict(dimensions), bound=bound)
    reason = "manual and autodiff of the surrogate differ"
    return LeafReport(**base, verdict=FAIL, worst=entry, hint=text, reason=reason)
