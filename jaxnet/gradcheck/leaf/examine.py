"""Examine one leaf: compare three gradients, allow for kinks, name the worst entry and a cause."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.second_opinion import second_opinion
from jaxnet.gradcheck.function.sensitivity import sensitivity
from jaxnet.gradcheck.leaf.kink_slopes import judge_entries, without_differences
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.leaf.likely_cause import likely_cause
from jaxnet.gradcheck.leaf.locate_error import (
    entry_against_opinion,
    kink_lines,
    largest,
    locate,
    worst_entry,
)
from jaxnet.gradcheck.leaf.surrogate import surrogate_question
from jaxnet.gradcheck.leaf.unresolved import (
    Resolution,
    is_mixed,
    is_proven,
    is_rounding,
    judge_zero,
    resolve,
)
from jaxnet.gradcheck.numeric.judge_lines import Findings, probe, probe_coordinates
from jaxnet.gradcheck.numeric.norms import norm, relative
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.report import (
    BOTH_ZERO,
    FAIL,
    INCONCLUSIVE,
    KINK,
    PASS,
    ZERO,
    Entry,
    LeafReport,
    worst_of,
)

# A larger relative difference from autodiff may compare rounding errors of a zero.
_MAX_TRUSTED_RATIO = 1e-3
# A larger relative difference from autodiff needs a verdict.
_MAX_UNJUDGED_DIFFERENCE = 1e-6


Recheck = Callable[[int], str]
"""recheck(number) -> the verdict on a leaf at a point nearby that has no kinks."""


def examine(
    case: LeafCase, options: CheckOptions, recheck: Recheck | None, dimensions: Mapping[str, int]
) -> tuple[LeafReport, list[str], Findings | None]:
    """Judge a leaf; return its report, notes, and the numeric findings if there are any.

    The first lines give a verdict. Then everything is heard that may change it: kinks, autodiff,
    rounding, other lengths and a second opinion. What fails in the end is located and explained.
    """
    leaf, notes = case.leaf, []
    base: dict[str, Any] = {**leaf.columns, "norm": norm(case.manual)}
    if leaf.size == 0:
        return LeafReport(**base, verdict=PASS), notes, None
    finite = np.asarray(np.isfinite(case.manual))
    if not finite.all():
        return _not_finite(case, base, finite, options), notes, None
    if case.autodiff is not None and not np.isfinite(case.autodiff).all():
        notes.append(f"autodiff of f gives NaN or infinity in {leaf.path}: not compared")
        case.autodiff = None
    # First opinion: autodiff, or the reference where one is given.
    ratio = None if case.autodiff is None else relative(case.manual, case.autodiff)
    base["versus_autodiff"] = ratio
    findings, parts = _measure(case, options)
    case.noise = findings.noise
    base |= _zeros(case, findings, ratio)
    verdict = findings.verdict
    kinked = findings.jump != 0
    kinks: tuple[str, ...] = ()
    located, reason = None, None
    # At a kink no derivative exists, and any slope between the one-sided ones is allowed. But an
    # error must not hide behind the kink, so the leaf is judged at a point nearby, too.
    if kinked.any() and verdict in (FAIL, KINK, PASS):
        kinks, unread = kink_lines(case, findings)
        if unread:
            notes.append(
                f"{leaf.path}: the kink is not located, it may hide in {unread}, which cannot "
                f"be read"
            )
        at_kink = judge_entries(case, findings, options)
        verdict, located, reason = at_kink.verdict, at_kink.entries, at_kink.reason
        beside = recheck(case.number) if recheck is not None else PASS
        if beside == FAIL and verdict != FAIL:
            verdict, located = FAIL, None
            reason = "a kink lies at this point, but the gradient is wrong beside it too"
        elif beside == INCONCLUSIVE and verdict == KINK:
            verdict, reason = INCONCLUSIVE, "a kink lies at this point, and noise hides f beside it"
        elif verdict == KINK:
            notes.append(
                f"{leaf.path}: at a kink, where every slope between the one-sided ones is a "
                f"convention{at_kink.extent}; right at a point nearby"
            )
        if case.differences()[at_kink.conventions].any():
            notes.append(f"{leaf.path}: manual and autodiff differ by convention at a kink")
        case = without_differences(case, at_kink.conventions)
    # Lines may miss a small error that autodiff shows: it decides which entries to measure.
    if verdict in (PASS, KINK):
        verdict, located, more = _arbitrate(case, findings, options, verdict)
        notes += more
    # The excuses for a failure come after kinks: one at a kink has an entry located already.
    if verdict == FAIL and located is None and is_rounding(case, findings):
        verdict = PASS
    if verdict == FAIL and (excuse := _excuse(case, findings)):
        verdict, reason = INCONCLUSIVE, excuse
    resolved = Resolution()
    undecided = verdict == INCONCLUSIVE and reason is None
    # Verdicts so far may rest on noise: a zero is proved otherwise, and an unresolved slope is
    # measured at other lengths.
    if undecided and (zero := judge_zero(case, findings)):
        resolved, verdict, reason = zero, zero.verdict, zero.reason
        if zero.zero:
            parts |= {"versus_numeric": 0.0, "numeric_zero": BOTH_ZERO, "bound": None}
            if ratio is not None:
                base |= {"versus_autodiff": 0.0, "autodiff_zero": BOTH_ZERO}
    elif verdict == PASS or (undecided and is_mixed(case)):
        resolved = resolve(case, findings)
        verdict, reason = resolved.verdict, resolved.reason
        if resolved.findings is not None:
            findings = resolved.findings
            parts |= _columns([findings])
            case.length = float(np.max(findings.lines.norms()))
            base |= _zeros(case, findings, ratio)
        elif not is_proven(findings) and not resolved.zero:
            parts |= dict.fromkeys(("versus_numeric", "numeric_zero", "bound"))
            base |= {"versus_autodiff": ratio, "autodiff_zero": None}
    if verdict == FAIL:
        by_opinion = resolved.opinion is not None
        if by_opinion:
            entry, reference = entry_against_opinion(case, resolved)
        else:
            located = located or locate(case, findings, options)
            entry, reference = worst_entry(case, located)
        reason = reason or _reason_of_failure(case, findings)
        if case.omitted:
            reason = "no gradient was returned, which means zero: use argnums= to leave a leaf out"
        return (
            LeafReport(
                **base,
                **parts,
                verdict=FAIL,
                worst=entry,
                hint=likely_cause(case, reference, None if by_opinion else findings, dimensions),
                kinks=kinks,
                reason=reason,
            ),
            notes,
            findings,
        )
    if verdict == INCONCLUSIVE:
        reason = reason or _reason_of_doubt(case, findings)
        entry = worst_entry(case, located)[0] if located else None
        if resolved.entry is not None:
            entry, _ = entry_against_opinion(case, resolved)
        return (
            LeafReport(**base, **parts, verdict=verdict, kinks=kinks, reason=reason, worst=entry),
            notes,
            findings,
        )
    return LeafReport(**base, **parts, verdict=verdict, kinks=kinks), notes, findings


def _measure(case: LeafCase, options: CheckOptions) -> tuple[Findings, dict[str, Any]]:
    """Measure the lines of the mode; return the findings that decide, and the report's columns."""
    subject, number, manual = case.subject, case.number, case.manual
    if options.mode == "full":
        everything = np.arange(manual.size)
        findings = probe_coordinates(
            subject, number, manual, everything, options.seed, quick=manual.size > 64
        )
        all_findings = [findings]
    else:
        findings = probe(subject, number, manual, case.autodiff, options)
        all_findings = [findings]
        if options.mode == "sampled":
            rng = np.random.default_rng([options.seed, number, 2])
            count = min(options.samples, manual.size)
            index = np.sort(rng.choice(manual.size, count, replace=False))
            sampled = probe_coordinates(subject, number, manual, index, options.seed, quick=False)
            all_findings.append(sampled)
            if worst_of(sampled.verdict, findings.verdict) != findings.verdict:
                findings = sampled
    return findings, _columns([findings, *(f for f in all_findings if f is not findings)])


def _columns(all_findings: list[Findings]) -> dict[str, Any]:
    """Return the report's columns: the numbers of the first findings, and counts over all."""
    difference, bound, zero = all_findings[0].relative()
    return {
        "versus_numeric": difference,
        "numeric_zero": zero,
        "bound": bound,
        "unresolved": int(sum(f.unresolved.sum() for f in all_findings)),
        "lines": sum(len(f.lines) for f in all_findings),
    }


def _zeros(case: LeafCase, findings: Findings, ratio: float | None) -> dict[str, Any]:
    """Say where autodiff is zero within rounding: a ratio to it would compare errors."""
    if case.autodiff is None or ratio is None or ratio <= _MAX_TRUSTED_RATIO:
        both = ratio == 0 and not np.any(case.manual)
        return {"versus_autodiff": ratio, "autodiff_zero": BOTH_ZERO if both else None}
    exactly = not np.any(case.autodiff)
    if not exactly and not findings.vanishes(findings.lines.project(case.autodiff)):
        return {"versus_autodiff": ratio, "autodiff_zero": None}
    if findings.vanishes(findings.manual) and not case.differences().any():
        return {"versus_autodiff": 0.0, "autodiff_zero": BOTH_ZERO}
    return {"versus_autodiff": 1.0, "autodiff_zero": ZERO}


def _arbitrate(
    case: LeafCase, findings: Findings, options: CheckOptions, verdict: str
) -> tuple[str, Findings | None, list[str]]:
    """Measure the entries where manual and autodiff differ most, if no line decides."""
    differences = case.differences()
    if case.autodiff is None or not differences.any():
        return verdict, None, []
    index = largest(differences)
    measured = probe_coordinates(
        case.subject, case.number, case.manual, index, options.seed, quick=False
    )
    if measured.verdict == FAIL:
        return FAIL, measured, []
    # The numeric derivative sides with the gradient under test, against autodiff.
    refuted = abs(measured.lines.project(case.autodiff) - measured.numeric) > measured.bound
    refuted &= (measured.state == PASS) & (measured.jump == 0)
    path = case.leaf.path
    if refuted.any():
        return verdict, None, [f"autodiff differs in {path}, and the numeric derivative refutes it"]
    if np.any(measured.jump) or verdict == KINK:
        return KINK, None, [f"{path}: manual and autodiff differ by convention at a kink"]
    difference = relative(case.manual, case.autodiff)
    if difference > _MAX_UNJUDGED_DIFFERENCE:
        return INCONCLUSIVE, measured, []
    return (
        verdict,
        None,
        [
            f"{path}: manual and autodiff differ by {difference:.0e}, more than rounding and less "
            f"than the numeric derivative can tell"
        ],
    )


def _excuse(case: LeafCase, findings: Findings) -> str | None:
    """Say why the numeric derivative cannot refute this gradient; None if it does."""
    program, tested = case.subject.program, case.subject.tested
    if case.omitted:
        return None
    if case.coarse is not None:
        second, name = case.autodiff, "autodiff"
        if second is None and (opinion := second_opinion(case.subject, case.number)):
            second, name = opinion.gradient.reshape(case.manual.shape), "autodiff without its rules"
        if second is not None and relative(case.manual, second) <= 8 * program.coarsest_roundoff:
            return f"{case.coarse}; {tested} agrees with {name} to that"
    # Rounding of the point itself moves an ill-conditioned gradient by more than any bound.
    changes = sensitivity(case.subject, case.number, case.manual)
    gap = abs(findings.manual - findings.numeric)[findings.state == FAIL]
    allowed = (findings.bound + 8 * findings.lines.weigh(changes))[findings.state == FAIL]
    if gap.size and np.all(gap <= allowed):
        return (
            f"{tested} changes by {norm(changes) / norm(case.manual):.0e} when the last bits of "
            f"the point do: ill-conditioned, so that rounding hides whether it is right"
        )
    return None


def _reason_of_failure(case: LeafCase, findings: Findings) -> str:
    """Say which of the three gradients stands alone."""
    tested, purpose = case.subject.tested, surrogate_question(case, findings)
    if case.autodiff is None:
        return f"the numeric derivative differs from {tested} of {case.leaf.path}{purpose}"
    projected = findings.lines.project(case.autodiff)
    agrees = abs(projected - findings.numeric) <= findings.bound
    if agrees.all():
        return f"autodiff and numeric agree, {tested} of {case.leaf.path} differs{purpose}"
    if not case.differences().any():
        return f"manual and autodiff agree, the numeric derivative differs{purpose}"
    return "all three differ"


def _reason_of_doubt(case: LeafCase, findings: Findings) -> str:
    """Say what hides the numeric derivative."""
    if case.differences().any() and not np.any(findings.state == INCONCLUSIVE):
        return "manual and autodiff differ, and the noise of f hides which is right"
    if not np.isfinite(findings.numeric).any():
        return "f is not finite around this point: move it into the domain"
    return (
        "the numeric derivative depends on the step at every scale: f oscillates, is noisy or "
        "jumps here; move the point, or smooth f"
    )


def _not_finite(
    case: LeafCase, base: dict[str, Any], finite: np.ndarray, options: CheckOptions
) -> LeafReport:
    """Report a gradient with NaN or infinity, with the numeric derivative at its first entry."""
    first = int(np.argmin(finite.ravel()))
    replaced = np.where(finite, case.manual, 0.0)
    measured = probe_coordinates(
        case.subject, case.number, replaced, np.array([first]), options.seed, quick=False
    )
    length = float(measured.lines.norms()[0])
    entry = Entry.at(
        first,
        case.manual,
        case.autodiff,
        numeric=float(measured.numeric[0] / length),
        bound=float(measured.bound[0] / length),
    )
    count = int(np.sum(~finite))
    return LeafReport(
        **base,
        verdict=FAIL,
        worst=entry,
        hint=f"NaN or infinity in {count} of {case.manual.size} entries",
        reason="the gradient is not finite",
    )
