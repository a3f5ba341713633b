"""The check at one point: every leaf, and every test without differences."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.gradients import autodiff, manual_gradient
from jaxnet.gradcheck.function.match_gradient import SKIPPED, MatchedGradient
from jaxnet.gradcheck.function.sensitivity import spread
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.leaf.examine import examine
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.leaf.named_sizes import named_sizes
from jaxnet.gradcheck.leaf.surrogate import compare_with_autodiff
from jaxnet.gradcheck.numeric.judge_lines import probe
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.point import exact_checks, own_dtype
from jaxnet.gradcheck.point.degenerate import degenerate_notes
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, PASS, GradientReport, LeafReport, worst_of
from jaxnet.kernels.form import default_platform


def check_point(subject: Subject, options: CheckOptions) -> GradientReport:
    """Check the gradient at one point."""
    problem, program = subject.problem, subject.program
    evaluations = program.evaluations
    ad, ad_outputs, error = exact_checks.try_autodiff(subject)
    second = None
    if problem.reference is not None:
        second, _ = autodiff(subject, problem.reference)
    notes = [*subject.notes]
    verdict = PASS
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
    cases = _cases(subject, manual, second)
    sizes = named_sizes(subject)
    leaves: list[LeafReport] = []
    noise = None
    recheck = _rechecker(subject, options)
    for case in cases:
        if case.number in complaints:
            reason = complaints[case.number]
            leaves.append(LeafReport(**case.leaf.columns, verdict=FAIL, reason=reason))
            continue
        if options.expected == "surrogate":
            leaves.append(compare_with_autodiff(case, sizes))
            continue
        with subject.scope():
            leaf, more, findings = examine(case, options, recheck, sizes)
        leaves.append(leaf)
        notes += more
        if findings is not None:
            noise = max(noise or 0.0, findings.noise)
    if options.expected != "surrogate":
        leaves, more = own_dtype.compare_in_own_dtype(subject, leaves, manual, ad)
        notes += more
    with subject.scope():
        checks.append(exact_checks.dot_test(subject, ad, noise or 0.0))
    zero = [leaf.path for leaf in leaves if leaf.norm == 0]
    if zero:
        notes.append(f"the gradient is exactly zero in {', '.join(zero)}")
    notes += [] if subject.beside else degenerate_notes(subject, manual, leaves)
    if program.why_loop is not None:
        notes.append("f cannot be evaluated at many points at once: done one by one, slowly")
    verdict = worst_of(
        verdict,
        *(FAIL for c in checks if c.outcome == "failed"),
        *(leaf.verdict for leaf in leaves),
    )
    return GradientReport(
        verdict=verdict,
        leaves=tuple(leaves),
        notes=tuple(dict.fromkeys(notes)),
        exact=tuple(checks),
        evaluations=program.evaluations - evaluations,
        value=value,
        noise=noise,
        **_circumstances(subject, options),
    )


def _cases(subject: Subject, manual: list[Any], second: list[np.ndarray] | None) -> list[LeafCase]:
    """Return the leaves to be compared, each with the change of autodiff beside the point."""
    cases = []
    for number, leaf in enumerate(subject.problem.arguments.leaves):
        entry = manual[number]
        if entry is SKIPPED:
            continue
        case = LeafCase(
            subject=subject,
            number=number,
            manual=np.zeros(leaf.shape) if entry is None else np.asarray(entry),
            autodiff=None if second is None else second[number].reshape(leaf.shape),
            omitted=entry is None,
        )
        cases.append(case)
    # The change costs four gradients, and is needed only to excuse a difference.
    if second is not None and any(case.differences().any() for case in cases):
        changes = spread(subject, second)
        for case in cases:
            case.spread = changes[case.number]
    return cases


def _circumstances(subject: Subject, options: CheckOptions) -> dict[str, Any]:
    """Return the columns of a report that say how it was made."""
    return {
        "seed": options.seed,
        "versions": f"jax {jax.__version__} {default_platform()}",
        "precision": own_dtype.describe(subject),
        "mode": options.mode,
        "tested": subject.tested,
    }


def _call_gradient(subject: Subject, notes: list[str]) -> MatchedGradient:
    """Run the hand-written gradient, under standard promotion if it needs it."""
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

    @functools.cache
    def beside() -> tuple[Subject, list[Any]]:
        """Return the subject at a point nearby and its gradient, computed for the first leaf."""
        nearby = subject.nearby(np.random.default_rng([options.seed, 5]), 1e-3)
        entries = manual_gradient(nearby).entries if subject.has_manual else autodiff(nearby)[0]
        return nearby, entries

    def recheck(number: int) -> str:
        nearby, entries = beside()
        entry = entries[number]
        leaf = subject.problem.arguments.leaves[number]
        array = np.zeros(leaf.shape) if entry is None else np.asarray(entry).reshape(leaf.shape)
        if not np.isfinite(array).all():
            return FAIL
        fewer = replace(options, mode="directional", directions=4)
        evaluations = nearby.program.evaluations
        verdict = probe(nearby, number, array, None, fewer).verdict
        subject.program.evaluations += nearby.program.evaluations - evaluations
        return verdict

    return recheck


def _undetermined(
    subject: Subject, options: CheckOptions, checks: list[Any], notes: list[str]
) -> GradientReport:
    """Report that f is no function of its arguments, so that nothing can be measured."""
    reason = (
        "f gives another value on each call: pass its random key or seed as an argument, and keep "
        "no state outside"
    )
    leaves = tuple(
        LeafReport(**leaf.columns, verdict=INCONCLUSIVE, reason=reason)
        for leaf in subject.problem.arguments.leaves
    )
    return GradientReport(
        verdict=INCONCLUSIVE,
        leaves=leaves,
        notes=tuple(notes),
        exact=tuple(checks),
        **_circumstances(subject, options),
    )
