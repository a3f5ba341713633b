"""Gradients in the arguments' own dtype against those in float64 at the same rounded inputs."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.gradients import manual_gradient
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.second_opinion import plain_opinion
from jaxnet.gradcheck.function.subject import Subject, caller
from jaxnet.gradcheck.function.user_errors import blamed
from jaxnet.gradcheck.jaxpr.trace import trace, try_to_trace, walk
from jaxnet.gradcheck.numeric.norms import rms
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, KINK, PASS, Entry, LeafReport

_UNITS = 32  # rounding units by which a gradient in low precision may differ, by leaf and by entry

VANISHING = 1e-12
"""Share of the largest leaf's gradient below which a float64 gradient is zero but for rounding."""

_CONFIG: Any = jax.config


def describe(subject: Subject) -> str:
    """Return the dtype of the check and the matrix product precision of the user's settings."""
    matmul = _CONFIG.jax_default_matmul_precision or "default"
    own = "" if matmul == "default" else f", matmul precision {matmul}"
    if matmul == "default" and jax.default_backend() == "gpu":
        own = ", matmul precision default (TF32 for float32 products)"
    return f"{np.dtype(subject.dtype).name}{own}"


def compare_in_own_dtype(
    subject: Subject,
    leaves: list[LeafReport],
    manual: list[Any],
    ad: list[np.ndarray] | None,
) -> tuple[list[LeafReport], list[str]]:
    """Run the gradient under test on the arguments as they are, and compare with float64."""
    arguments = subject.problem.arguments
    dtypes = {leaf.dtype for leaf in arguments.leaves}
    if subject.beside or subject.dtype != np.float64 or dtypes == {np.dtype(np.float64)}:
        return leaves, []
    if isinstance(subject.program, LoopProgram):
        return leaves, ["f cannot be traced: its gradient in the arguments' own dtype not checked"]
    try:
        low, value, other = _own_gradients(subject)
    except ConfigurationError as error:
        return _unjudged(leaves, f"right in float64, but {error}: {_REMEDY}"), []
    unit = max(float(jnp.finfo(d).eps) / 2 for d in dtypes)
    true = sum(
        float(np.sum(np.asarray(c, np.float64) * np.asarray(v, np.float64)))
        for c, v in zip(subject.program.cotangent, subject.program.values, strict=True)
    )
    weights = sum(
        float(np.sum(abs(np.asarray(c, np.float64) * np.asarray(v, np.float64))))
        for c, v in zip(subject.program.cotangent, subject.program.values, strict=True)
    )
    notes = []
    oracle: list[Any] = manual
    if _draws_differ(subject):
        words = (
            "random draws differ between dtypes (a dropout mask is another in float64): own dtype"
        )
        if other is None:
            return leaves, [f"{words} not compared"]
        oracle = other
        notes.append(f"{words} compared with autodiff")
    elif not abs(value - true) <= 3e3 * unit * max(weights, abs(true)):
        notes.append(f"f in the arguments' own dtype is {value:.6g}, in float64 {true:.6g}")
    # Without any rule by hand there is nothing to accuse: JAX rounds as f does.
    by_hand = subject.has_manual or "custom_" in str(subject.program.traced.jaxpr)
    names = [leaf.path for leaf in arguments.leaves]
    largest = max((_rms(want) for want in oracle), default=0.0)
    result = []
    for leaf in leaves:
        number = names.index(leaf.path)
        got, want = low[number], oracle[number]
        rival = None if other is None or ad is None else (other[number], ad[number])
        dtype = arguments.leaves[number].dtype
        slack = _cancelled(subject, number, dtype) if leaf.numeric_zero else 0.0
        result.append(_judge(leaf, got, want, rival, dtype, largest, slack, notes, by_hand))
    return result, notes


_DRAWS = {"random_bits", "rng_bit_generator", "rng_uniform"}


def _draws_differ(subject: Subject) -> bool:
    """Whether f draws more or fewer random bits in float64: its draws are then other ones."""
    drawn = _draws(subject.program.traced.jaxpr)
    if not drawn:
        return False
    with jax.enable_x64(bool(_CONFIG.jax_enable_x64)):
        arguments = subject.problem.arguments
        variables = [jnp.asarray(leaf.value) for leaf in arguments.leaves]
        own = trace(caller(subject.problem), variables, arguments.held())
    return _draws(own.jaxpr) != drawn


def _draws(program: Any) -> list[str]:
    equations = [eqn for eqn in walk(program) if eqn.primitive.name in _DRAWS]
    return [str(v.aval) for eqn in equations for v in eqn.outvars]


_REMEDY = (
    "make it run there, say by casting its constants with astype(x.dtype), or give float64 "
    "arguments to have it checked in float64 only"
)


def _unjudged(leaves: list[LeafReport], reason: str) -> list[LeafReport]:
    """Return the leaves without a verdict where they had a good one."""
    return [
        replace(leaf, verdict=INCONCLUSIVE, reason=reason) if leaf.verdict in (PASS, KINK) else leaf
        for leaf in leaves
    ]


def _rms(gradient: Any) -> float:
    whole = isinstance(gradient, np.ndarray) and gradient.size and np.isfinite(gradient).all()
    return rms(gradient) if whole else 0.0


def _cancelled(subject: Subject, number: int, dtype: Any) -> np.ndarray | float:
    """Return what a gradient of zero is off by in a dtype: its terms cancel but for rounding."""
    opinion = plain_opinion(subject, number)
    coarser = float(jnp.finfo(dtype).eps) / float(np.finfo(subject.dtype).eps)
    return 0.0 if opinion is None else coarser * opinion.error


def _judge(leaf, got, want, rival, dtype, largest, slack, notes, by_hand) -> LeafReport:
    if leaf.verdict != PASS or dtype == np.float64:
        return leaf
    if not isinstance(got, np.ndarray) or not isinstance(want, np.ndarray) or not got.size:
        return leaf
    want = want.reshape(got.shape)
    unit = float(jnp.finfo(dtype).eps) / 2
    size = rms(want)
    tiny = float(jnp.finfo(dtype).tiny)
    limit = _UNITS * unit * (abs(want) + size) + 4 * tiny + np.resize(slack, got.shape)
    if size <= VANISHING * largest:
        # A true gradient of zero, such as a bias's before batchnorm, is a sum of terms that cancel:
        # its rounding is of their size, which is that of the other leaves, not of the sum.
        limit = limit + _UNITS * unit * largest
    error = abs(got - want)
    if rival is not None:  # what autodiff loses in the same dtype is lost by the function itself
        lost = abs(rival[0].reshape(got.shape) - rival[1].reshape(got.shape))
        lost = np.where(np.isfinite(lost), lost, 0.0)
        # a rival that is off everywhere (other draws, other branch) is no measure
        limit = limit + np.fmin(4 * (rms(lost) + lost), 0.1 * (abs(want) + size))
    over = ~(error <= limit)
    if not over.any():
        return leaf
    if (
        not np.isfinite(got).all()
        and np.isfinite(want).all()
        and np.max(abs(want)) > float(jnp.finfo(dtype).max)
    ):
        notes.append(f"{leaf.path}: overflow of {dtype}")
        return leaf
    at = int(np.argmax(np.where(np.isfinite(error), error / limit, np.inf)))
    index = tuple(int(i) for i in np.unravel_index(at, got.shape))
    worst = Entry(
        index, float(got.ravel()[at]), float(want.ravel()[at]), None, float(limit.ravel()[at])
    )
    relative = float(np.max(error[np.isfinite(error)], initial=0.0)) / (size or 1.0)
    if not by_hand:
        notes.append(
            f"{leaf.path}: off by {relative:.0e} in {dtype}, right in float64: f loses digits, say "
            f"in a difference of large numbers; no rule by hand has a part in it"
        )
        return leaf
    return replace(
        leaf,
        verdict=FAIL,
        worst=worst,
        hint=f"reduced precision: off by {relative:.0e} in {dtype}, right in float64",
        reason=(
            f"the gradient in {dtype} differs from the float64 one (shown as autodiff) at the same "
            f"inputs by more than {_UNITS} rounding units: a cast, or an unstable formula"
        ),
    )


def _own_gradients(subject: Subject) -> tuple[list[Any], float, list[np.ndarray] | None]:
    """Return the gradient under test, the value and autodiff's gradient in the own dtypes."""
    problem, arguments = subject.problem, subject.problem.arguments
    call = caller(problem)
    where = (
        f"on the given arguments in {', '.join(sorted({x.dtype.name for x in arguments.leaves}))}"
    )
    with jax.enable_x64(bool(_CONFIG.jax_enable_x64)):
        variables = [jnp.asarray(leaf.value) for leaf in arguments.leaves]
        constants = arguments.held()
        weights = [np.asarray(c, np.float32) for c in subject.program.cotangent]

        def differentiate(variables, constants, weights):
            outputs, pull = jax.vjp(lambda v: call(v, constants)[0], variables)
            cotangent = [
                jnp.asarray(w).astype(o.dtype) for w, o in zip(weights, outputs, strict=True)
            ]
            return [*pull(cotangent)[0], *outputs], None

        def evaluate(variables, constants, weights):
            return call(variables, constants)

        def run(function):
            inputs = variables, constants, weights
            results = try_to_trace(function, *inputs)[0].run(*inputs)
            return [np.asarray(x) for x in results]  # an error of a callback shows here

        count = len(variables)
        try:
            with blamed("autodiff of f", where):
                results = run(differentiate)
            other, values = [np.asarray(g, np.float64) for g in results[:count]], results[count:]
        except ConfigurationError:
            if not subject.has_manual:
                raise
            with blamed("f", where):
                other, values = None, run(evaluate)
        value = sum(
            float(np.sum(np.asarray(w, np.float64) * np.asarray(v, np.float64)))
            for w, v in zip(weights, values, strict=True)
        )
        if not subject.has_manual:
            return list(other or []), value, None
        manual = replace(subject, manual_trace=None)
        manual.program = subject.program.at_point(variables)
        manual.program.constants = constants
        manual.program.cotangent = [w.astype(v.dtype) for w, v in zip(weights, values, strict=True)]
        return manual_gradient(manual, scoped=False).entries, value, other
