"""Where a gradient is wrong: the worst entry, and the source lines of kinks."""

from typing import Any

import numpy as np

from jaxnet.gradcheck.function.user_errors import error_text
from jaxnet.gradcheck.kinks.signature import SignatureFunction, signature_function, sites_near
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.leaf.unresolved import Resolution
from jaxnet.gradcheck.numeric.judge_lines import Findings, probe_coordinates
from jaxnet.gradcheck.numeric.lines import Directions, measure
from jaxnet.gradcheck.numeric.romberg import LADDER, SINGLE
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.report import FAIL, Entry

_SUSPECTS = 8  # the entries that differ most, which are measured one by one
_MAX_MEASURED_ENTRIES = 2048  # in leaves up to this size all entries are measured


def locate(case: LeafCase, findings: Findings, options: CheckOptions) -> Findings | None:
    """Measure entries one by one, chosen so that wrong ones are among them."""
    if not isinstance(findings.lines, Directions):
        return findings
    differences, size = case.differences(), case.manual.size
    if differences.any():
        index = largest(differences)
    elif size <= _MAX_MEASURED_ENTRIES:
        index = np.arange(size)
    else:
        index = _bisect(case, findings)
    return probe_coordinates(
        case.subject,
        case.number,
        case.manual,
        index,
        options.seed,
        quick=len(index) > 64,
        least=case.length,
    )


def _bisect(case: LeafCase, findings: Findings) -> np.ndarray:
    """Halve the leaf along the line that fails worst, towards the larger error."""
    assert isinstance(findings.lines, Directions)
    excess = np.where(
        findings.state == FAIL, abs(findings.manual - findings.numeric) / findings.bound, 0
    )
    row = findings.lines.rows[int(np.argmax(excess))]
    program, start, stop = case.subject.program, 0, case.manual.size
    ladder = LADDER if case.roundoff < 1e-12 else SINGLE
    centre = program.centre()
    while stop - start > 8:
        middle = (start + stop) // 2
        halves = np.zeros((2, row.size))
        halves[0, start:middle], halves[1, middle:stop] = row[start:middle], row[middle:stop]
        lines = Directions(program, case.number, halves).on_grid(ladder)
        measured = measure(lines, centre, findings.noise, ladder)
        error = abs(lines.project(case.manual) - measured.value)
        start, stop = (start, middle) if error[0] >= error[1] else (middle, stop)
    return np.arange(start, stop)


def largest(values: np.ndarray) -> np.ndarray:
    """Return the indices of the largest values, without zeros."""
    count = min(_SUSPECTS, np.count_nonzero(values))
    return np.argpartition(-values, count - 1)[:count]


def worst_entry(case: LeafCase, located: Findings | None) -> tuple[Entry | None, np.ndarray | None]:
    """Return the entry farthest from its numeric value, and a whole gradient to trust, if any."""
    if located is None:
        return None, case.autodiff
    lines: Any = located.lines
    lengths = abs(lines.lengths)
    error = abs(located.manual - located.numeric) / lengths
    # Entries that fail come first, however small their error.
    rank = np.where(located.state == FAIL, error, 1e-9 * error)
    at = int(np.nanargmax(np.where(np.isfinite(rank), rank, -1)))
    flat = int(lines.index[at])
    measured = float(located.numeric[at] / lines.lengths[at])
    bound = float(located.bound[at] / lengths[at])
    entry = Entry.at(flat, case.manual, case.autodiff, numeric=measured, bound=bound)
    numeric = None
    if len(lines) == case.manual.size:
        numeric = np.empty(case.manual.size)
        numeric[lines.index] = located.numeric / lines.lengths
        numeric = numeric.reshape(case.manual.shape)
    if entry.autodiff is None:
        return entry, numeric
    refuted = abs(entry.autodiff - measured) > bound
    return entry, numeric if refuted and numeric is not None else case.autodiff


def entry_against_opinion(
    case: LeafCase, resolved: Resolution
) -> tuple[Entry | None, np.ndarray | None]:
    """Return the entry that differs most from the second opinion, and the opinion's gradient."""
    assert resolved.opinion is not None
    gradient = resolved.opinion.gradient.reshape(case.manual.shape)
    return Entry.at(resolved.entry or 0, case.manual, gradient), gradient


def kink_lines(case: LeafCase, findings: Findings) -> tuple[tuple[str, ...], str]:
    """Return the primitives and source lines of the kinks that the lines meet.

    If none is located, the second result names what could not be read.
    """
    problem, program = case.subject.problem, case.subject.program
    lines: Any = findings.lines
    function = signature_of(case.subject)
    names: dict[str, None] = {}
    worst = np.argsort(-abs(findings.jump))[:4]
    for row in worst[findings.jump[worst] != 0]:
        points = []
        for sign in (1, -1):
            leaves = [np.array(v) for v in program.variables]
            flat = leaves[case.number].reshape(-1)
            step = sign * 2.0**-20  # small: no other kink may lie between the two points
            if isinstance(lines, Directions):
                flat += (step * lines.rows[row]).astype(flat.dtype)
            else:
                flat[lines.index[row]] += step * lines.lengths[row]
            points.append(problem.arguments.rebuild([np.asarray(x) for x in leaves]))
        here = problem.arguments.rebuild(program.variables)
        with case.subject.scope():
            try:
                near = sites_near(function, here, *points)
            except Exception as error:  # a program that can be read, but not run
                return (), f"the program, which raised {error_text(error, 200)}"
        names |= dict.fromkeys(str(site) for site in near)
        if len(names) >= 3:
            break
    hidden = [str(site) if site.line else site.primitive for site in function.unread]
    return tuple(names)[:3], "" if names else ", ".join(dict.fromkeys(hidden))


def signature_of(subject: Any) -> SignatureFunction:
    """Return the signature function of f, made once in each check."""
    if not subject.signature:
        here = subject.problem.arguments.rebuild(subject.program.variables)
        with subject.scope():
            subject.signature.append(signature_function(subject.problem.f, *here))
    return subject.signature[0]
