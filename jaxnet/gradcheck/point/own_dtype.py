"""Gradients in the arguments' own dtype against float64 gradients at the same rounded inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.gradients import manual_gradient
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.second_opinion import second_opinion
from jaxnet.gradcheck.function.subject import Subject, caller, pull_back
from jaxnet.gradcheck.function.user_errors import user_errors
from jaxnet.gradcheck.jaxpr.trace import trace, try_to_trace, walk
from jaxnet.gradcheck.numeric.norms import rms
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, KINK, PASS, Entry, LeafReport
from jaxnet.kernels.form import default_platform

# Unit roundoffs by which a gradient in low precision may differ, by leaf and by entry.
_MAX_ROUNDOFFS = 32

MAX_ZERO_SHARE = 1e-12
"""A float64 gradient below this share of the largest leaf's is zero within rounding."""

_CONFIG: Any = jax.config


def describe(subject: Subject) -> str:
    """Return the dtype of the check and the matrix product precision of the user's settings."""
    matmul = _CONFIG.jax_default_matmul_precision or "default"
    own = "" if matmul == "default" else f", matmul precision {matmul}"
    if matmul == "default" and default_platform() == "gpu":
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
    roundoff = max(float(jnp.finfo(d).eps) / 2 for d in dtypes)
    cotangent, values = subject.program.cotangent, subject.program.values
    true = _dot(cotangent, values)
    weights = _dot([abs(np.asarray(c)) for c in cotangent], [abs(np.asarray(v)) for v in values])
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
    elif not abs(value - true) <= 3e3 * roundoff * max(weights, abs(true)):
        notes.append(f"f in the arguments' own dtype is {value:.6g}, in float64 {true:.6g}")
    names = [leaf.path for leaf in arguments.leaves]
    largest = max((_rms(want) for want in oracle), default=0.0)
    accuse = _has_hand_written_rule(subject)
    result = []
    for leaf in leaves:
        number = names.index(leaf.path)
        got, want, dtype = low[number], oracle[number], arguments.leaves[number].dtype
        arrays = isinstance(got, np.ndarray) and isinstance(want, np.ndarray) and got.size
        if leaf.verdict == PASS and dtype != np.float64 and arrays:
            pair = _Pair(
                got=got,
                want=want.reshape(got.shape),
                dtype=dtype,
                rival=None if other is None or ad is None else (other[number], ad[number]),
                largest=largest,
                cancelled=_cancelled(subject, number, dtype) if leaf.numeric_zero else 0.0,
            )
            leaf, note = _judge(leaf, pair, accuse=accuse)
            notes += note
        result.append(leaf)
    return result, notes


def _dot(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Return the sum of products of two lists of arrays, in float64."""
    pairs = zip(a, b, strict=True)
    return sum(
        float(np.sum(np.asarray(x, np.float64) * np.asarray(y, np.float64))) for x, y in pairs
    )


def _has_hand_written_rule(subject: Subject) -> bool:
    """Whether a rule by hand has a part in the gradient: otherwise JAX rounds as f does."""
    return subject.has_manual or "custom_" in str(subject.program.traced.jaxpr)


_RANDOM_PRIMITIVES = {"random_bits", "rng_bit_generator", "rng_uniform"}


def _draws_differ(subject: Subject) -> bool:
    """Whether f draws more or fewer random bits in float64, so that its draws are other ones."""
    drawn = _draws(subject.program.traced.jaxpr)
    if not drawn:
        return False
    with jax.enable_x64(bool(_CONFIG.jax_enable_x64)):
        arguments = subject.problem.arguments
        variables = [jnp.asarray(leaf.value) for leaf in arguments.leaves]
        own = trace(caller(subject.problem), variables, arguments.constant_arrays())
    return _draws(own.jaxpr) != drawn


def _draws(program: Any) -> list[str]:
    equations = [eqn for eqn in walk(program) if eqn.primitive.name in _RANDOM_PRIMITIVES]
    return [str(v.aval) for eqn in equations for v in eqn.outvars]


_REMEDY = (
    "make it run there, say by casting its constants with astype(x.dtype), or give float64 "
    "arguments to have it checked in float64 only"
)


def _unjudged(leaves: list[LeafReport], reason: str) -> list[LeafReport]:
    """Return the leaves with INCONCLUSIVE in place of PASS and KINK."""
    return [
        replace(leaf, verdict=INCONCLUSIVE, reason=reason) if leaf.verdict in (PASS, KINK) else leaf
        for leaf in leaves
    ]


def _rms(gradient: Any) -> float:
    whole = isinstance(gradient, np.ndarray) and gradient.size and np.isfinite(gradient).all()
    return rms(gradient) if whole else 0.0


def _cancelled(subject: Subject, number: int, dtype: Any) -> np.ndarray | float:
    """Return the error of a gradient of zero in a dtype, where terms cancel within rounding."""
    opinion = second_opinion(subject, number)
    coarser = float(jnp.finfo(dtype).eps) / float(np.finfo(subject.dtype).eps)
    return 0.0 if opinion is None else coarser * opinion.error


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The gradient of a leaf in its own dtype and in float64, and what excuses a difference."""

    got: np.ndarray
    want: np.ndarray
    dtype: np.dtype
    rival: tuple[np.ndarray, np.ndarray] | None  # autodiff in the own dtype and in float64
    largest: float  # root mean square of the largest leaf's gradient
    cancelled: np.ndarray | float  # rounding error of terms that cancel to zero

    def allowed(self) -> np.ndarray:
        """Return the difference that rounding explains, by entry."""
        got, want, size = self.got, abs(self.want), rms(self.want)
        roundoff, tiny = float(jnp.finfo(self.dtype).eps) / 2, float(jnp.finfo(self.dtype).tiny)
        allowed = _MAX_ROUNDOFFS * roundoff * (want + size) + 4 * tiny
        allowed = allowed + np.resize(self.cancelled, got.shape)
        if size <= MAX_ZERO_SHARE * self.largest:
            # A true gradient of zero, such as a bias's before batchnorm, is a sum of terms that
            # cancel. Its rounding error has the size of the terms, which other leaves show.
            allowed = allowed + _MAX_ROUNDOFFS * roundoff * self.largest
        if self.rival is not None:
            # What autodiff loses in the same dtype is lost by the function itself. But a rival that
            # is off everywhere (other draws, another branch) is no measure.
            lost = abs(self.rival[0].reshape(got.shape) - self.rival[1].reshape(got.shape))
            lost = np.where(np.isfinite(lost), lost, 0.0)
            allowed = allowed + np.fmin(4 * (rms(lost) + lost), 0.1 * (want + size))
        return np.asarray(allowed)


def _judge(leaf: LeafReport, pair: _Pair, accuse: bool) -> tuple[LeafReport, list[str]]:
    """Fail a leaf whose gradient is off in its own dtype, or return a note in its favour."""
    got, want, dtype, allowed = pair.got, pair.want, pair.dtype, pair.allowed()
    error = abs(got - want)
    if np.all(error <= allowed):
        return leaf, []
    too_large = np.isfinite(want).all() and np.max(abs(want)) > float(jnp.finfo(dtype).max)
    if too_large and not np.isfinite(got).all():
        return leaf, [f"{leaf.path}: overflow of {dtype}"]
    at = int(np.argmax(np.where(np.isfinite(error), error / allowed, np.inf)))
    relative = float(np.max(error[np.isfinite(error)], initial=0.0)) / (rms(want) or 1.0)
    if not accuse:
        text = (
            f"{leaf.path}: off by {relative:.0e} in {dtype}, right in float64: f loses digits, say "
            f"in a difference of large numbers; no rule by hand has a part in it"
        )
        return leaf, [text]
    failed = replace(
        leaf,
        verdict=FAIL,
        worst=Entry.at(at, got, want, bound=float(allowed.ravel()[at])),
        hint=f"reduced precision: off by {relative:.0e} in {dtype}, right in float64",
        reason=(
            f"the gradient in {dtype} differs from the float64 one (shown as autodiff) at the same "
            f"inputs by more than {_MAX_ROUNDOFFS} unit roundoffs: a cast, or an unstable formula"
        ),
    )
    return failed, []


def _own_gradients(subject: Subject) -> tuple[list[Any], float, list[np.ndarray] | None]:
    """Return the gradient under test, the value and the gradient by autodiff in the own dtypes."""
    problem, arguments = subject.problem, subject.problem.arguments
    call = caller(problem)
    where = (
        f"on the given arguments in {', '.join(sorted({x.dtype.name for x in arguments.leaves}))}"
    )
    with jax.enable_x64(bool(_CONFIG.jax_enable_x64)):
        variables = [jnp.asarray(leaf.value) for leaf in arguments.leaves]
        constants = arguments.constant_arrays()
        weights = [np.asarray(c, np.float32) for c in subject.program.cotangent]

        def differentiate(variables, constants, weights):
            gradients, outputs = pull_back(lambda v: call(v, constants)[0], variables, weights)
            return [*gradients, *outputs], None

        def evaluate(variables, constants, weights):
            return call(variables, constants)

        def run(function):
            inputs = variables, constants, weights
            results = try_to_trace(function, *inputs)[0].run(*inputs)
            return [np.asarray(x) for x in results]  # a callback's error is raised here

        count = len(variables)
        try:
            with user_errors("autodiff of f", where):
                results = run(differentiate)
            other, values = [np.asarray(g, np.float64) for g in results[:count]], results[count:]
        except ConfigurationError:
            if not subject.has_manual:
                raise
            with user_errors("f", where):
                other, values = None, run(evaluate)
        value = _dot(weights, values)
        if not subject.has_manual:
            return list(other or []), value, None
        manual = replace(subject, manual_trace=None)
        manual.program = subject.program.at_point(variables)
        manual.program.constants = constants
        manual.program.cotangent = [w.astype(v.dtype) for w, v in zip(weights, values, strict=True)]
        return manual_gradient(manual, scoped=False).entries, value, other
