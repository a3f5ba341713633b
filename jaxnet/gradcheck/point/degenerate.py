"""Notes on points where errors hide: zeros, ones, equal rows, a batch of one, gates all open."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.scalar_program import LoopProgram
from jaxnet.gradcheck.function.subject import Subject
from jaxnet.gradcheck.numeric.norms import norm
from jaxnet.gradcheck.point.means_of_one import means_of_one
from jaxnet.gradcheck.point.relu_gates import gates
from jaxnet.gradcheck.report import LeafReport


def degenerate_notes(
    subject: Subject, gradient: list[Any], reports: Sequence[LeafReport] = ()
) -> list[str]:
    """Return notes on what could hide an error at this point, and what to change."""
    notes = []
    arguments = subject.problem.arguments
    for leaf in arguments.leaves:
        text = _special(np.asarray(leaf.value, np.float64))
        if text:
            notes.append(
                f"{leaf.path} is {text}: a point where errors can hide (degenerate); jitter=True "
                f"checks beside it too"
            )
    for position in arguments.constants:
        value = arguments.everything[position]
        kind = value.dtype.kind if isinstance(value.dtype, np.dtype) else ""
        if np.size(value) < 2 or kind not in tuple("biu"):
            continue
        if np.all(np.asarray(value) == np.ravel(value)[0]):
            notes.append(f"{arguments.paths[position]} has equal entries only ({value.ravel()[0]})")
    tiny = [
        leaf.path
        for leaf, g in zip(arguments.leaves, gradient, strict=True)
        if isinstance(g, np.ndarray) and g.size and 0 < np.max(abs(g)) < 1e-30
    ]
    if tiny:
        notes.append(f"the gradient is below 1e-30 in {', '.join(tiny)}")
    return [
        *notes,
        *_one_sided(subject),
        *_single(subject),
        *_constant_cotangent(subject),
        *_dominated(subject, gradient, reports),
    ]


def _special(value: np.ndarray) -> str | None:
    if value.size < 2:
        return None
    if not value.any():
        return "all zeros"
    if np.all(value == 1):
        return "all ones"
    if np.all(value == value.ravel()[0]):
        return f"{value.ravel()[0]:.4g} everywhere"
    if value.ndim > 1 and len(value) > 1 and np.all(value == value[:1]):
        return "made of equal rows"
    if value.ndim == 2 and np.array_equal(value, value.T):
        return "its own transpose, so that a transpose too many or too few may not be seen"
    return None


def _one_sided(subject: Subject) -> list[str]:
    """Note gates with all units alive, which look like no relu, or dead, which hide gradients."""
    try:
        all_gates = gates(subject)
    except Exception:  # a program that cannot be interpreted shows no gates
        return []
    notes = []
    for site, size, above in all_gates:
        if above == 0:
            notes.append(
                f"every unit of a relu is dead ({site}): what it does above 0 is not checked; give "
                f"arguments at which some are alive"
            )
        elif above == size:
            notes.append(
                f"every unit of a relu is alive ({site}): what it does below 0 is not checked, nor "
                f"a missing mask seen; give arguments at which some are dead"
            )
    return notes


def _single(subject: Subject) -> list[str]:
    """Note means over one element, where a sum in place of a mean shows nothing."""
    if isinstance(subject.program, LoopProgram):
        return []
    sites = means_of_one(subject.program.traced.jaxpr)
    lines = dict.fromkeys(str(site).lstrip(", ") for site in sites)
    text = (
        f"a mean over one element ({', '.join(list(lines)[:3])}), which a sum would equal: give a "
        f"batch, or a width, of two or more"
    )
    return [text] if lines else []


def _constant_cotangent(subject: Subject) -> list[str]:
    """Note a constant cotangent, which softmax and normalizations send to zero."""
    given = subject.problem.cotangent is not None
    same = [np.size(c) > 1 and np.ptp(np.asarray(c)) == 0 for c in subject.program.cotangent]
    text = (
        "cotangent= has equal entries only: an error that a constant hides is not seen; leave it "
        "out for a random one"
    )
    return [text] if given and any(same) else []


def _dominated(subject: Subject, gradient: list[Any], reports: Sequence[LeafReport]) -> list[str]:
    """Note gradients λ·θ + rest, where the rest is below the bound of the numeric derivative."""
    by_path = {report.path: report for report in reports}
    notes = []
    for leaf, g in zip(subject.problem.arguments.leaves, gradient, strict=True):
        report, theta = by_path.get(leaf.path), np.asarray(leaf.value, np.float64)
        if report is None or report.bound is None or not isinstance(g, np.ndarray):
            continue
        if leaf.size < 3 or np.ptp(theta) == 0 or not np.isfinite(g).all() or not g.any():
            continue
        size, g = norm(g), g.reshape(theta.shape)
        slope = float(np.sum(theta / norm(theta) * (g / size))) * size / norm(theta)
        share = norm(np.asarray(g - slope * theta)) / size
        if 32 * subject.program.coarsest_roundoff < share <= report.bound:
            notes.append(
                f"{leaf.path}: all of the gradient but a share of {share:.0e} is {slope:.3g} times "
                f"the parameter, an L2 term that hides the rest below the bound "
                f"{report.bound:.0e}: check without it, or with a smaller one"
            )
    return notes
