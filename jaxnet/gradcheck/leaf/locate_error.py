"""Where a gradient is wrong: the entry and the kink, by name."""

from typing import Any

import numpy as np

from jaxnet.gradcheck.function.user_errors import told
from jaxnet.gradcheck.kinks.signature import SignatureFunction, signature_function, sites_near
from jaxnet.gradcheck.leaf.leaf_case import Case
from jaxnet.gradcheck.leaf.unresolved import Resolved
from jaxnet.gradcheck.numeric.judge_lines import Findings, probe_coordinates
from jaxnet.gradcheck.numeric.lines import Directions, measure
from jaxnet.gradcheck.numeric.romberg import LADDER, SINGLE
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.report import FAIL, Entry


def locate(case: Case, findings: Findings, options: CheckOptions) -> Findings | None:
    """Measure entries one by one until the wrong ones are among them."""
    if not isinstance(findings.lines, Directions):
        return findings
    differences, size = case.differences(), case.manual.size
    if differences.any():
        index = largest(differences)
    elif size <= _EVERY:
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


def _bisect(case: Case, findings: Findings) -> np.ndarray:
    """Halve the leaf along the line that fails worst, towards the larger error."""
    assert isinstance(findings.lines, Directions)
    excess = np.where(
        findings.state == FAIL, abs(findings.manual - findings.numeric) / findings.bound, 0
    )
    row = findings.lines.rows[int(np.argmax(excess))]
    program, start, stop = case.subject.program, 0, case.manual.size
    ladder = LADDER if case.unit < 1e-12 else SINGLE
    centre = program.centre()
    while stop - start > 8:
        middle = (start + stop) // 2
        halves = np.zeros((2, row.size))
        halves[0, start:middle], halves[1, middle:stop] = row[start:middle], row[middle:stop]
        lines = Directions(program, case.number, halves).on_grid(ladder)
        found = measure(lines, centre, findings.noise, ladder)
        error = abs(lines.project(case.manual) - found.value)
        start, stop = (start, middle) if error[0] >= error[1] else (middle, stop)
    return np.arange(start, stop)


def largest(values: np.ndarray) -> np.ndarray:
    """Return where the largest values stand, the zeros left out."""
    count = min(_SUSPECTS, np.count_nonzero(values))
    return np.argpartition(-values, count - 1)[:count]


def worst_entry(case: Case, located: Findings | None) -> tuple[Entry | None, np.ndarray | None]:
    """Return the entry furthest from its numeric value, and a whole trusted gradient if any."""
    if located is None:
        return None, case.autodiff
    lines: Any = located.lines
    lengths = abs(lines.lengths)
    error = abs(located.manual - located.numeric) / lengths
    rank = np.where(located.state == FAIL, error, 1e-9 * error)
    at = int(np.nanargmax(np.where(np.isfinite(rank), rank, -1)))
    flat = int(lines.index[at])
    ad = None if case.autodiff is None else float(case.autodiff.ravel()[flat])
    entry = Entry(
        tuple(int(i) for i in np.unravel_index(flat, case.manual.shape)),
        float(case.manual.ravel()[flat]),
        ad,
        float(located.numeric[at] / lines.lengths[at]),
        float(located.bound[at] / lengths[at]),
    )
    numeric = None
    if len(lines) == case.manual.size:
        numeric = np.empty(case.manual.size)
        numeric[lines.index] = located.numeric / lines.lengths
        numeric = numeric.reshape(case.manual.shape)
    trusted = case.autodiff
    if trusted is None or (entry.numeric is not None and ad is not None):
        off = ad is not None and abs(ad - (entry.numeric or 0)) > (entry.bound or 0)
        trusted = numeric if trusted is None or (off and numeric is not None) else trusted
    return entry, trusted


def opposed(case: Case, resolved: Resolved) -> tuple[Entry | None, np.ndarray | None]:
    """Return the entry at which an opinion without rules differs most, and that opinion."""
    assert resolved.opinion is not None
    flat = resolved.entry or 0
    other = float(resolved.opinion.gradient[flat])
    index = tuple(int(i) for i in np.unravel_index(flat, case.manual.shape))
    entry = Entry(index, float(case.manual.ravel()[flat]), other, None, None)
    return entry, resolved.opinion.gradient.reshape(case.manual.shape)


def sites(case: Case, findings: Findings) -> tuple[tuple[str, ...], str]:
    """Return the primitives and source lines of the kinks along the lines that meet one.

    Where there are none, the second result says what could not be read, if anything.
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
            step = sign * 2.0**-20
            if isinstance(lines, Directions):
                flat += (step * lines.rows[row]).astype(flat.dtype)
            else:
                flat[lines.index[row]] += step * lines.lengths[row]
            points.append(problem.arguments.rebuild([np.asarray(x) for x in leaves]))
        here = problem.arguments.rebuild(program.variables)
        with case.subject.scope():
            try:
                found = sites_near(function, here, *points)
            except Exception as error:  # read, but it cannot be run
                return (), f"the program, which raised {told(error, 200)}"
        names |= dict.fromkeys(str(site) for site in found)
        if len(names) >= 3:
            break
    hidden = [str(site) if site.line else site.primitive for site in function.unread]
    return tuple(names)[:3], "" if names else ", ".join(dict.fromkeys(hidden))


def signature_of(subject: Any) -> SignatureFunction:
    """Return what reads the branches of f, made once a check."""
    if not subject.signature:
        here = subject.problem.arguments.rebuild(subject.program.variables)
        with subject.scope():
            subject.signature.append(signature_function(subject.problem.f, *here))
    return subject.signature[0]


_SUSPECTS = 8  # entries where manual and autodiff differ most, measured one by one


_EVERY = 2048  # leaf size up to which all entries are measured to locate an error
