"""The check at one point: every leaf, every test."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.gradients import autodiff, manual_gradient
from jaxnet.gradcheck.function.match_gradient import SKIPPED, Matched
from jaxnet.gradcheck.function.sensitivity import spread
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.leaf.examine import examine
from jaxnet.gradcheck.leaf.leaf_case import Case
from jaxnet.gradcheck.leaf.named_sizes import dimensions
from jaxnet.gradcheck.leaf.surrogate import compare_with_autodiff
from jaxnet.gradcheck.numeric.judge_lines import probe
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.point import exact_checks, own_dtype
from jaxnet.gradcheck.point.degenerate import degenerate
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, PASS, GradientReport, LeafReport, worst_of
from jaxnet.kernels.form import default_platform


def run(subject: Subject, options: CheckOptions) -> GradientReport:
    """Check one point."""
    problem, arguments = subject.problem, subject.problem.arguments
    program = subject.program
    before = program.evaluations
    checks, verdict = [], PASS
    ad, ad_outputs, error = exact_checks.try_autodiff(subject)
    second = None
    if problem.reference is not None:
        second, _ = autodiff(subject, problem.reference)
    notes = [*subject.notes, *arguments.notes]
    complaints: dict[int, str] = {}
    if subject.has_manual:
        matched = _call_gradient(subject, notes)
        notes += matched.notes
        complaints = dict(matched.complaints)
        if matched.extra:
            verdict = FAIL
            notes.append(f"the gradient has entries that no argument has: {matched.extra[:5]}")
        manual, second = matched.entries, ad if second is None else second
        if error is not None:
            notes.append(f"no second opinion from autodiff of f: {error}")
    elif ad is None:
        raise ConfigurationError(
            f"JAX cannot differentiate f ({error}): correct its rule if it has one of its own, or "
            f"give its gradient with grad= or backward=, or a custom_vjp"
        )
    else:
        manual = list(ad)
    subject.tested = (
        "the hand-written gradient" if subject.has_manual else "the autodiff gradient of f"
    )
    with subject.scope():
        value = program.centre()
        checks = exact_checks.run_checks(subject, manual, ad, ad_outputs)
    if any(c.name == "deterministic" and c.outcome == "failed" for c in checks):
        return _undetermined(subject, options, checks, notes)
    verdict = worst_of(verdict, *(FAIL for c in checks if c.outcome == "failed"))
    cases = []
    for number, leaf in enumerate(arguments.leaves):
        entry = manual[number]
        omitted = entry is None
        array = np.zeros(leaf.shape) if entry is None or entry is SKIPPED else np.asarray(entry)
        other = None if second is None or entry is SKIPPED else second[number].reshape(leaf.shape)
        cases.append(Case(subject, number, array, other, omitted=omitted))
    if second is not None and any(case.differences().any() for case in cases):
        for case, change in zip(cases, spread(subject, second), strict=True):
            case.spread = change
    named = dimensions(subject)
    leaves: list[LeafReport] = []
    noise = None
    recheck = _rechecker(subject, options)
    for case in cases:
        leaf = case.leaf
        base: dict[str, Any] = dict(path=leaf.path, shape=leaf.shape, dtype=str(leaf.dtype))
        if manual[case.number] is SKIPPED:
            continue
        if case.number in complaints:
            text = complaints[case.number]
            leaves.append(LeafReport(**base, verdict=FAIL, reason=text))
            continue
        if options.expected == "surrogate":
            leaves.append(compare_with_autodiff(case, named))
            continue
        with subject.scope():
            found, more, findings = examine(case, options, recheck, named)
        leaves.append(found)
        notes += more
        if findings is not None:
            noise = max(noise or 0.0, findings.noise)
    if options.expected != "surrogate":
        leaves, more = own_dtype.compare_in_own_dtype(subject, leaves, manual, ad)
        notes += more
    with subject.scope():
        checks.append(exact_checks.dot_test(subject, ad, noise or 0.0))
    verdict = worst_of(verdict, *(FAIL for c in checks if c.outcome == "failed"))
    zero = [leaf.path for leaf in leaves if leaf.norm == 0]
    if zero:
        notes.append(f"the gradient is exactly zero in {', '.join(zero)}")
    notes += [] if subject.beside else degenerate(subject, manual, leaves)
    verdict = worst_of(verdict, *(leaf.verdict for leaf in leaves))
    if program.why_loop is not None:
        notes.append("f cannot be evaluated at many points at once: done one by one, slowly")
    return GradientReport(
        verdict,
        tuple(leaves),
        tuple(dict.fromkeys(notes)),
        tuple(checks),
        options.seed,
        program.evaluations - before,
        0.0,
        f"jax {jax.__version__} {default_platform()}",
        own_dtype.describe(subject),
        value,
        noise,
        options.mode,
        subject.tested,
    )


def _call_gradient(subject: Subject, notes: list[str]) -> Matched:
    """Run the hand-written gradient, under standard promotion if it needs that."""
    try:
        return manual_gradient(subject)
    except ConfigurationError as error:
        if type(error.__cause__).__name__ == "TypePromotionError" and not subject.standard:
            subject.standard = True
            notes.append("float64 meets narrower constants of the gradient: standard promotion")
            return _call_gradient(subject, notes)
        raise


def _rechecker(subject: Subject, options: CheckOptions) -> Callable[[int], str]:
    """Return a function that judges a leaf at a point nearby, where no kink is hit exactly."""
    box: list[Any] = []

    def recheck(number: int) -> str:
        if not box:
            moved = subject.moved(np.random.default_rng([options.seed, 5]), 1e-3)
            gradient = manual_gradient(moved).entries if subject.has_manual else autodiff(moved)[0]
            box.extend([moved, gradient])
        moved, gradient = box
        entry = gradient[number]
        leaf = subject.problem.arguments.leaves[number]
        array = np.zeros(leaf.shape) if entry is None else np.asarray(entry).reshape(leaf.shape)
        if not np.isfinite(array).all():
            return FAIL
        case = Case(moved, number, array, None)
        quiet = replace(options, mode="directional", directions=4)
        before = moved.program.evaluations
        verdict = probe(moved, number, case.manual, None, quiet).verdict
        subject.program.evaluations += moved.program.evaluations - before
        return verdict

    return recheck


def _undetermined(
    subject: Subject, options: CheckOptions, checks: list[Any], notes: list[str]
) -> GradientReport:
    reason = (
        "f gives another value on each call: pass its random key or seed as an argument, and keep "
        "no state outside"
    )
    leaves = tuple(
        LeafReport(leaf.path, leaf.shape, str(leaf.dtype), INCONCLUSIVE, reason=reason)
        for leaf in subject.problem.arguments.leaves
    )
    return GradientReport(
        INCONCLUSIVE,
        leaves,
        tuple(notes),
        tuple(checks),
        options.seed,
        versions=f"jax {jax.__version__} {default_platform()}",
        precision=own_dtype.describe(subject),
        mode=options.mode,
        tested=subject.tested,
    )
