"""What a gradient may be at a kink: every entry between the one-sided slopes of its coordinate.

Entries decide, not directions, since conventions need not add up: at a tie of max(x, y) both
entries may be 0, though f has slope 1 along (1, 1). So the entries that kink are measured one by
one, and the others along directions that leave those fixed.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.scalar_program import MAX_DIRECTIONS
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
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

_MAX_SMALL_LEAF = 64  # in leaves up to this size all entries are measured
_MAX_KINKED_ENTRIES = 256  # up to so many entries at a kink, all of them are measured
_SAMPLED_ENTRIES = 64  # how many are measured where there are more
_MAX_SEARCHES = 4  # searches for entries that kink, each along another direction


@dataclass(frozen=True, kw_only=True)
class KinkVerdict:
    """A verdict on the entries of a leaf that has a kink.

    `entries` has the findings of the last entries measured. `conventions` marks the entries that
    kink and lie between their slopes, by flat index: another gradient may differ there.
    """

    verdict: str
    conventions: np.ndarray
    entries: Findings | None = None
    reason: str | None = None
    extent: str = ""  # how many entries were measured, if not all


def judge_entries(case: LeafCase, findings: Findings, options: CheckOptions) -> KinkVerdict:
    """Judge a leaf that kinks along some of the lines of `findings`."""
    size = case.manual.size
    kinked = np.zeros(size, bool)  # entries that kink and lie between their slopes
    rest = findings
    if not isinstance(findings.lines, Directions):
        if len(findings.lines) == size or findings.verdict == FAIL:
            return _of_entries(case, findings, kinked)
        rest = _judge_others(case, kinked, options)
    for _ in range(_MAX_SEARCHES):
        index = np.arange(size) if size <= _MAX_SMALL_LEAF else _suspects(case, rest)
        if not index.size:
            break
        extent = ""
        if len(index) > (many := _MAX_KINKED_ENTRIES):
            index = _sample(case, rest, index, options.seed)
            extent = f" (compared at {len(index)} of the more than {many} entries that kink)"
        before = kinked.sum()
        result = _of_entries(case, _measure_entries(case, index, options), kinked)
        if result.verdict != KINK or extent or kinked.all():
            return replace(result, extent=extent)
        if kinked.sum() == before:
            break  # f kinks where several entries move, and along none of them alone
        case = without_differences(case, kinked)
        rest = _judge_others(case, kinked, options)
        if not np.any(rest.jump) and rest.verdict != FAIL:
            if rest.verdict == INCONCLUSIVE:
                reason = "the noise of f hides its derivative beside the entries that kink"
                return replace(result, verdict=INCONCLUSIVE, reason=reason)
            return result
    if np.any((rest.state == FAIL) & (rest.jump == 0)):
        located = locate(case, rest, options)
        return KinkVerdict(verdict=FAIL, conventions=kinked, entries=located)
    if size <= _MAX_SMALL_LEAF:
        return KinkVerdict(verdict=KINK, conventions=kinked)
    reason = "f kinks here, and no entry that does so is located"
    return KinkVerdict(verdict=INCONCLUSIVE, conventions=kinked, reason=reason)


def without_differences(case: LeafCase, kinked: np.ndarray) -> LeafCase:
    """Return the case without differences from autodiff at the entries that kink."""
    if case.autodiff is None:
        return case
    mask = kinked.reshape(case.manual.shape)
    return replace(case, autodiff=np.where(mask, case.manual, case.autodiff))


def _of_entries(case: LeafCase, measured: Findings, kinked: np.ndarray) -> KinkVerdict:
    """Return the verdict of entries measured one by one, and mark in `kinked` those at a kink."""
    lines: Any = measured.lines
    kinked[lines.index[measured.state == KINK]] = True
    if measured.verdict == INCONCLUSIVE:
        reason = "the noise of f hides its slopes at a kink"
        return KinkVerdict(
            verdict=INCONCLUSIVE, conventions=kinked, entries=measured, reason=reason
        )
    wrong = np.flatnonzero((measured.state == FAIL) & (measured.jump != 0))
    reason = None
    if wrong.size:
        # The entry farthest beyond its slopes is the one to show.
        excess = (abs(measured.manual - measured.numeric) - abs(measured.jump) / 2) / lines.norms()
        at = wrong[np.argmax(excess[wrong])]
        got, middle, jump = (
            x[at] / lines.lengths[at] for x in (measured.manual, measured.numeric, measured.jump)
        )
        low, high = middle - abs(jump) / 2, middle + abs(jump) / 2
        reason = f"at a kink with one-sided slopes {low:.6g} and {high:.6g}, {got:.6g} lies outside"
    verdict = worst_of(KINK, measured.verdict)
    return KinkVerdict(verdict=verdict, conventions=kinked, entries=measured, reason=reason)


def _measure_entries(case: LeafCase, index: np.ndarray, options: CheckOptions) -> Findings:
    return probe_coordinates(
        case.subject,
        case.number,
        case.manual,
        index,
        options.seed,
        quick=len(index) > _MAX_SMALL_LEAF,
    )


def _judge_others(case: LeafCase, kinked: np.ndarray, options: CheckOptions) -> Findings:
    """Judge along directions that leave the entries that kink fixed."""
    program, leaf = case.subject.program, case.number
    rng = np.random.default_rng([options.seed, leaf, 3])
    still = np.where(kinked, 0.0, case.manual.ravel()).reshape(case.manual.shape)
    # Along the gradient and its difference from autodiff, without the entries at a kink.
    difference = case.differences().reshape(case.manual.shape)
    lines = join(
        random_directions(program, leaf, rng, max(options.directions, 2)),
        informed_directions(program, leaf, still, difference),
    )
    lines = replace(lines, rows=np.where(kinked, 0.0, lines.rows))
    noise = measure_noise(lines.take(np.arange(2)), program.centre())
    return settle(lines, case.manual, noise)


def _suspects(case: LeafCase, findings: Findings) -> np.ndarray:
    """Return the entries that kink along the line with the largest jump, or that fail most.

    The line is halved again and again, without the parts along which f does not kink: a kink of one
    entry shows in each part that holds the entry.
    """
    assert isinstance(findings.lines, Directions)
    if not np.any(findings.jump):
        located: Any = locate(case, findings, CheckOptions())
        return located.lines.index[(located.state == FAIL) | (located.jump != 0)]
    row = findings.lines.rows[int(np.argmax(abs(findings.jump)))]
    parts = np.array([[0, row.size]])
    while len(parts) <= _MAX_KINKED_ENTRIES and np.any(parts[:, 1] - parts[:, 0] > 1):
        middle = parts.sum(axis=1) // 2
        halves = np.concatenate(
            [np.stack([parts[:, 0], middle], 1), np.stack([middle, parts[:, 1]], 1)]
        )
        halves = halves[halves[:, 1] > halves[:, 0]]
        parts = halves[_kinks(case, row, halves, findings.noise)]
    return np.concatenate([np.arange(start, stop) for start, stop in parts] or [np.empty(0, int)])


def _kinks(case: LeafCase, row: np.ndarray, parts: np.ndarray, noise: float) -> np.ndarray:
    """Return which parts of a direction make f kink when nothing else moves."""
    program = case.subject.program
    ladder = QUICK if case.roundoff < 1e-12 else SINGLE
    jumps = []
    for start in range(0, len(parts), MAX_DIRECTIONS):
        some = parts[start : start + MAX_DIRECTIONS]
        rows = np.zeros((len(some), row.size))
        for one, (first, stop) in zip(rows, some, strict=True):
            one[first:stop] = row[first:stop]
        lines = Directions(program, case.number, rows).on_grid(ladder)
        jumps.append(measure(lines, program.centre(), noise, ladder).jump)
    return np.concatenate(jumps) != 0


def _sample(case: LeafCase, findings: Findings, index: np.ndarray, seed: int) -> np.ndarray:
    """Return some of many entries: random ones, the largest, and those where gradients differ."""
    rng = np.random.default_rng([seed, case.number, 4])
    chosen = [rng.choice(index, _SAMPLED_ENTRIES, replace=False), largest(case.differences())]
    chosen.append(largest(abs(case.manual.ravel())))
    if findings.verdict == FAIL:
        located: Any = locate(case, findings, CheckOptions())
        chosen.append(located.lines.index)
    return np.unique(np.concatenate(chosen))
