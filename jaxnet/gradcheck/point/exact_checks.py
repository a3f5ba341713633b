"""Tests without finite differences: cheap, sharp, and valid at kinks, too."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.gradcheck.function.gradients import autodiff, manual_gradient
from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.second_opinion import own_rounding
from jaxnet.gradcheck.function.subject import Subject, caller
from jaxnet.gradcheck.function.user_errors import error_text
from jaxnet.gradcheck.jaxpr.rounding import rounding
from jaxnet.gradcheck.jaxpr.trace import TracedProgram, trace
from jaxnet.gradcheck.numeric.norms import scale
from jaxnet.gradcheck.report import ExactCheck

# Two sums of the same terms may differ by this many times the measured rounding.
_ROUNDING_FACTOR = 256.0
SCALES = (2.0**10, 2.0**-10)  # factors of the cotangent: powers of two round nothing


def try_autodiff(
    subject: Subject,
) -> tuple[list[np.ndarray] | None, list[Any] | None, str | None]:
    """Return gradients and outputs by autodiff of f, or why there are none."""
    if isinstance(subject.program, LoopProgram):
        return None, None, "f cannot be traced"
    try:
        gradients, outputs = autodiff(subject)
    except Exception as error:
        return None, None, error_text(error.__cause__ or error)
    return gradients, outputs, None


def run_checks(
    subject: Subject,
    manual: list[Any],
    ad: list[np.ndarray] | None,
    ad_outputs: list[Any] | None,
) -> list[ExactCheck]:
    """Run every exact test that applies."""
    checks = [_deterministic(subject, manual)]
    if checks[0].outcome == "failed":
        return checks
    if subject.has_manual:
        checks.append(_stateless(subject, manual))
    checks.append(_primal(subject, ad_outputs))
    checks += _linear(subject, manual, ad)
    if subject.problem.reference is not None:
        checks.append(_reference(subject))
    return checks


def _deterministic(subject: Subject, manual: list[Any]) -> ExactCheck:
    """Check that f traces to the same program twice, and gives the same bits twice.

    Tracing freezes a random number that f draws with NumPy, so that two traces differ in it.
    """
    name, program = "deterministic", subject.program
    if not isinstance(program, LoopProgram):
        again = trace(caller(subject.problem), program.variables, program.constants)
        if not _same_program(program.traced, again):
            return ExactCheck(name, "failed", "f is another program at each call")
    for first, second in zip(program.values, program.outputs(), strict=True):
        if not np.array_equal(first, np.asarray(second), equal_nan=True):
            return ExactCheck(name, "failed", "f gives another value at each call")
    return ExactCheck(name, "ok")


def _stateless(subject: Subject, manual: list[Any]) -> ExactCheck:
    """Check that the hand-written gradient is the same at each call, and accumulates nothing."""
    name, program = "gradient deterministic", subject.program
    again = manual_gradient(replace(subject, manual_trace=None))
    for first, second in zip(manual, again.entries, strict=True):
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            finite = np.isfinite(first) & np.isfinite(second)
            size = np.max(abs(first[finite]), initial=0.0)
            change = np.max(abs(first[finite] - second[finite]), initial=0.0)
            if change > 256 * program.coarsest_roundoff * size:
                return ExactCheck(name, "failed", "it differs from call to call")
    return ExactCheck(name, "ok")


def _same_program(a: TracedProgram, b: TracedProgram) -> bool:
    if a.fingerprint != b.fingerprint or len(a.consts) != len(b.consts):
        return False
    return all(_same_const(x, y) for x, y in zip(a.consts, b.consts, strict=True))


def _same_const(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if jnp.issubdtype(getattr(x, "dtype", np.float32), jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    try:
        return np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True)
    except TypeError:
        return np.array_equal(np.asarray(x), np.asarray(y))


def _primal(subject: Subject, ad_outputs: list[Any] | None) -> ExactCheck:
    """Check that the rule's forward pass gives the values of f."""
    if ad_outputs is None:
        return ExactCheck("primal equal", "n/a")
    pairs = zip(subject.program.values, ad_outputs, strict=True)
    for number, (plain, ruled) in enumerate(pairs):
        error = _distance(ruled, plain)
        if error > 1e5 * subject.program.coarsest_roundoff and not _rounds(subject, number, ruled):
            return ExactCheck(
                "primal equal", "failed", f"the rule's forward pass differs from f by {error:.0e}"
            )
    return ExactCheck("primal equal", "ok")


def _reference(subject: Subject) -> ExactCheck:
    """Check that the reference gives the values of f."""
    program = subject.program
    if isinstance(program, LoopProgram):
        return ExactCheck("reference equal", "n/a")
    call = caller(subject.problem, subject.problem.reference)
    traced = trace(call, program.variables, program.constants)
    values = traced.run(program.variables, program.constants)
    for number, (mine, other) in enumerate(zip(program.values, values, strict=True)):
        error = _distance(other, mine)
        if error > 1e5 * program.coarsest_roundoff and not _rounds(subject, number, other):
            return ExactCheck("reference equal", "failed", f"values differ by {error:.0e}")
    return ExactCheck("reference equal", "ok")


def _rounds(subject: Subject, number: int, other: Any) -> bool:
    """Whether an output differs by rounding only: where terms cancel, no digits are left."""
    program = subject.program
    moves = rounding(subject, program.traced, program.variables, program.constants)
    gap = abs(np.asarray(other, np.float64) - np.asarray(program.values[number], np.float64))
    return moves is not None and bool(
        np.all(gap <= _ROUNDING_FACTOR * np.max(moves[number], initial=0))
    )


def _distance(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return np.inf
    size = float(np.max(abs(b), initial=0.0))
    return float(np.max(abs(a - b), initial=0.0)) / size if size else float(np.any(a != b))


def _linear(subject: Subject, manual: list[Any], ad: list[np.ndarray] | None) -> list[ExactCheck]:
    """Check that the gradient is linear in the cotangent, large or small, and zero for zero."""
    names = ["linear in cotangent", "zero cotangent"]
    problem, program = subject.problem, subject.program
    if problem.grad is not None or (ad is None and problem.backward is None):
        return [ExactCheck(name, "n/a") for name in names]
    own = program.cotangent
    rng = np.random.default_rng([problem.seed, 11])
    # L(2c − 3d) = 2·L(c) − 3·L(d) for a second random cotangent d.
    other = [rng.normal(size=np.shape(c)).astype(c.dtype) for c in own]
    mixed = [(2 * np.asarray(c) - 3 * o).astype(c.dtype) for c, o in zip(own, other, strict=True)]
    try:
        results = []
        zeros = [np.zeros_like(c) for c in own]
        # A clipped cotangent shows at a large one, a threshold at a small one.
        scaled = [[(np.asarray(c) * s).astype(c.dtype) for c in own] for s in SCALES]
        for cotangent in (other, mixed, zeros, *scaled):
            program.cotangent = cotangent
            results.append(_gradient(subject))
    finally:
        program.cotangent = own
    paths = [leaf.path for leaf in problem.arguments.leaves]
    wrong = []
    roundoff = program.coarsest_roundoff
    arrays = [x for entries in (manual, *results[:2]) for x in entries if isinstance(x, np.ndarray)]
    finite = [x for x in arrays if np.isfinite(x).all()]
    largest = max((float(np.max(abs(x), initial=0.0)) for x in finite), default=0.0)
    entries = zip(paths, manual, *results[:2], *results[3:], strict=True)
    for number, (path, first, second, both, *multiples) in enumerate(entries):
        if not all(isinstance(x, np.ndarray) for x in (first, second, both, *multiples)):
            continue
        size = max(float(np.max(abs(x), initial=0.0)) for x in (first, second, both))
        if not np.isfinite(size):
            continue  # each leaf reports it
        allowed = 1e5 * roundoff * size
        if size <= 1e4 * roundoff * largest:  # terms cancel to zero, with rounding of their size
            allowed = 64 * roundoff * largest
        misses = [2 * first - 3 * second - both]
        misses += [first - x / s for x, s in zip(multiples, SCALES, strict=True)]
        miss = max(np.max(abs(miss), initial=0.0) for miss in misses)
        if miss > allowed:
            rounding_error = own_rounding(subject, number)
            if rounding_error is None or miss > _ROUNDING_FACTOR * np.max(rounding_error):
                wrong.append(path)
    nonzero = [
        path
        for path, x in zip(paths, results[2], strict=True)
        if isinstance(x, np.ndarray) and np.any(x)
    ]
    return [_check(names[0], wrong), _check(names[1], nonzero)]


def _check(name: str, wrong: list[str]) -> ExactCheck:
    return ExactCheck(name, "failed" if wrong else "ok", ", ".join(wrong[:4]))


def _gradient(subject: Subject) -> list[Any]:
    return manual_gradient(subject).entries if subject.has_manual else autodiff(subject)[0]


def gap_of_sums(left: list[Any], right: list[Any]) -> tuple[float, float]:
    """Return the difference of two sums over arrays, and the size of their terms."""
    size = sum(float(np.sum(abs(x))) for x in [*left, *right])
    return abs(sum(float(np.sum(x)) for x in left) - sum(float(np.sum(x)) for x in right)), size


def dot_test(subject: Subject, ad: list[np.ndarray] | None, noise: float) -> ExactCheck:
    """Check <J v, w> = <v, Jᵀ w>, where JAX has both modes."""
    name, program = "dot test", subject.program
    if ad is None:
        return ExactCheck(name, "n/a")
    call = caller(subject.problem)
    rng = np.random.default_rng([subject.problem.seed, 13])
    tangents = [
        (scale(np.asarray(v, np.float64)) * rng.normal(size=np.shape(v))).astype(v.dtype)
        for v in program.variables
    ]

    def forward(variables, constants, tangents):
        _, out = jax.jvp(lambda v: call(v, constants)[0], (variables,), (tangents,))
        return out, None

    try:
        traced = trace(forward, program.variables, program.constants, tangents)
        out = traced.run(program.variables, program.constants, tangents)
    except Exception as error:
        why = "custom_vjp" if "custom_vjp" in str(error) else "no forward mode"
        return ExactCheck(name, "n/a", why)
    pairs = list(zip(program.cotangent, out, strict=True))
    left = [np.asarray(c, np.float64) * np.asarray(o, np.float64) for c, o in pairs]
    right = [t * g.reshape(t.shape) for t, g in zip(tangents, ad, strict=True)]
    gap, size = gap_of_sums(left, right)
    if not np.isfinite(size):
        return ExactCheck(name, "n/a", "not finite")
    bad = gap > 1e5 * program.coarsest_roundoff * size + 1e3 * noise
    return ExactCheck(name, "failed" if bad else "ok", f"off by {gap / size:.0e}" if bad else "")
