"""What a gradient may be at a kink: every entry between the one-sided slopes of its coordinate.

Entries decide, not directions: conventions need not add up. At a tie of max(x, y) both entries may
be 0, though f has slope 1 along (1, 1). So the entries that kink are looked at one by one, and the
others along directions in which those stand still.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.scalar_program import ROWS
from jaxnet.gradcheck.leaf.leaf_case import Case
from jaxnet.gradcheck.leaf.locate_error import largest, locate
from jaxnet.gradcheck.numeric.judge_lines import Findings, probe_coordinates, settle
from jaxnet.gradcheck.numeric.lines import (
    Directions,
    informed_directions,
    join,
    measure,
    measure_noise,
    random_directions,
)
from jaxnet.gradcheck.numeric.romberg import QUICK, SINGLE
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, KINK, worst_of

_EVERY = 64  # leaf size up to which all entries are looked at
_MOST = 256  # entries at a kink up to which all of them are looked at
_SAMPLE = 64  # how many are, where there are more
_ROUNDS = 4  # searches for entries that kink, each along another direction


@dataclass(frozen=True)
class Kinked:
    """A verdict on the entries of a leaf that has a kink.

    `entries` are those looked at last, `conventions` marks those that kink and are allowed, by flat
    index: another gradient may differ there.
    """

    verdict: str
    conventions: np.ndarray
    entries: Findings | None = None
    reason: str | None = None
    extent: str = ""  # how many of the entries were looked at, where not all were


def judge_entries(case: Case, findings: Findings, options: CheckOptions) -> Kinked:
    """Judge a leaf that kinks along some of the lines of `findings`."""
    size = case.manual.size
    kinked = np.zeros(size, bool)  # and between their slopes
    rest = findings
    if not isinstance(findings.lines, Directions):
        if len(findings.lines) == size or findings.verdict == FAIL:
            return _of_entries(case, findings, kinked)
        rest = _without(case, kinked, options)
    for _ in range(_ROUNDS):
        index = np.arange(size) if size <= _EVERY else _suspects(case, rest)
        if not index.size:
            break
        extent = ""
        if len(index) > _MOST:
            index = _sample(case, rest, index, options.seed)
            extent = f" (compared at {len(index)} of the more than {_MOST} entries that kink)"
        found = _look(case, index, options)
        before = kinked.sum()
        result = _of_entries(case, found, kinked)
        if result.verdict != KINK or extent or kinked.all():
            return replace(result, extent=extent)
        if kinked.sum() == before:
            break  # f kinks where several entries move, and along none of them alone
        case = without_differences(case, kinked)
        rest = _without(case, kinked, options)
        if not np.any(rest.jump) and rest.verdict != FAIL:
            if rest.verdict == INCONCLUSIVE:
                reason = "the noise of f hides its derivative beside the entries that kink"
                return replace(result, verdict=INCONCLUSIVE, reason=reason)
            return result
    if np.any((rest.state == FAIL) & (rest.jump == 0)):
        return Kinked(FAIL, kinked, locate(case, rest, options))
    if size <= _EVERY:
        return Kinked(KINK, kinked)
    reason = "f kinks here, and the entries that do so were not found"
    return Kinked(INCONCLUSIVE, kinked, reason=reason)


def without_differences(case: Case, kinked: np.ndarray) -> Case:
    """Return the case without the differences from autodiff at the entries that kink."""
    if case.autodiff is None:
        return case
    mask = kinked.reshape(case.manual.shape)
    return replace(case, autodiff=np.where(mask, case.manual, case.autodiff))


def _of_entries(case: Case, found: Findings, kinked: np.ndarray) -> Kinked:
    """Return the verdict of entries measured one by one, and mark in `kinked` those at a kink."""
    lines: Any = found.lines
    kinked[lines.index[found.state == KINK]] = True
    if found.verdict == INCONCLUSIVE:
        return Kinked(INCONCLUSIVE, kinked, found, "the noise of f hides its slopes at a kink")
    wrong = np.flatnonzero((found.state == FAIL) & (found.jump != 0))
    reason = None
    if wrong.size:
        excess = (abs(found.manual - found.numeric) - abs(found.jump) / 2) / lines.norms()
        at = wrong[np.argmax(excess[wrong])]
        got, middle, jump = (
            x[at] / lines.lengths[at] for x in (found.manual, found.numeric, found.jump)
        )
        low, high = middle - abs(jump) / 2, middle + abs(jump) / 2
        reason = f"at a kink with one-sided slopes {low:.6g} and {high:.6g}, {got:.6g} lies outside"
    return Kinked(worst_of(KINK, found.verdict), kinked, found, reason)


def _look(case: Case, index: np.ndarray, options: CheckOptions) -> Findings:
    return probe_coordinates(
        case.subject, case.number, case.manual, index, options.seed, quick=len(index) > _EVERY
    )


def _without(case: Case, kinked: np.ndarray, options: CheckOptions) -> Findings:
    """Judge along directions in which the entries that kink stand still."""
    program, leaf = case.subject.program, case.number
    rng = np.random.default_rng([options.seed, leaf, 3])
    still = np.where(kinked, 0.0, case.manual.ravel()).reshape(case.manual.shape)
    difference = case.differences().reshape(case.manual.shape)
    lines = join(
        random_directions(program, leaf, rng, max(options.directions, 2)),
        informed_directions(program, leaf, still, difference),
    )
    lines = replace(lines, rows=np.where(kinked, 0.0, lines.rows))
    noise = measure_noise(lines.take(np.arange(2)), program.centre())
    return settle(lines, case.manual, noise)


def _suspects(case: Case, findings: Findings) -> np.ndarray:
    """Return the entries that kink along the line with the largest jump, or that fail most."""
    assert isinstance(findings.lines, Directions)
    if not np.any(findings.jump):
        located: Any = locate(case, findings, CheckOptions())
        return located.lines.index[(located.state == FAIL) | (located.jump != 0)]
    row = findings.lines.rows[int(np.argmax(abs(findings.jump)))]
    parts = np.array([[0, row.size]])
    while len(parts) <= _MOST and np.any(parts[:, 1] - parts[:, 0] > 1):
        middle = parts.sum(axis=1) // 2
        halves = np.concatenate(
            [np.stack([parts[:, 0], middle], 1), np.stack([middle, parts[:, 1]], 1)]
        )
        halves = halves[halves[:, 1] > halves[:, 0]]
        parts = halves[_kinks(case, row, halves, findings.noise)]
    return np.concatenate([np.arange(start, stop) for start, stop in parts] or [np.empty(0, int)])


def _kinks(case: Case, row: np.ndarray, parts: np.ndarray, noise: float) -> np.ndarray:
    """Return which parts of a direction make f kink, taken alone."""
    program = case.subject.program
    ladder = QUICK if case.unit < 1e-12 else SINGLE
    jumps = []
    for start in range(0, len(parts), ROWS):
        some = parts[start : start + ROWS]
        rows = np.zeros((len(some), row.size))
        for one, (first, stop) in zip(rows, some, strict=True):
            one[first:stop] = row[first:stop]
        lines = Directions(program, case.number, rows).on_grid(ladder)
        jumps.append(measure(lines, program.centre(), noise, ladder).jump)
    return np.concatenate(jumps) != 0


def _sample(case: Case, findings: Findings, index: np.ndarray, seed: int) -> np.ndarray:
    """Return some of many entries: any of them, the largest, and where another gradient differs."""
    rng = np.random.default_rng([seed, case.number, 4])
    chosen = [rng.choice(index, _SAMPLE, replace=False), largest(case.differences())]
    chosen.append(largest(abs(case.manual.ravel())))
    if findings.verdict == FAIL:
        located: Any = locate(case, findings, CheckOptions())
        chosen.append(located.lines.index)
    return np.unique(np.concatenate(chosen))
