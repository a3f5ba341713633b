"""What the lines of a leaf left unproven: other lengths, a second opinion, what proves a zero.

A gradient is proven where the numeric derivative has a bound that is small against it. A leaf is
not where f changes on another scale than the leaf's own, where f's rounding hides the derivative,
and in part where entries of one leaf differ so much that the larger hide the smaller.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.second_opinion import ROUNDINGS, Opinion, own_rounding, plain_opinion
from jaxnet.gradcheck.leaf.leaf_case import Case
from jaxnet.gradcheck.numeric.judge_lines import Findings, settle, some_lines
from jaxnet.gradcheck.numeric.lines import Directions, share_of
from jaxnet.gradcheck.numeric.norms import rms, scale
from jaxnet.gradcheck.numeric.romberg import LADDER, NOISE_POINTS, noise_level, noise_spacing
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, PASS

_MIXED = 1e10  # ratio of entries from which on one leaf has several scales
_FAINT = 1e-8  # share of the leaf's gradient below which an entry has a scale of its own
_OFF = 1e-6  # relative difference between opinions that is more than another convention of a sum
_OCTAVES = 16  # factor 2^16 from one length to the next: the ladder spans 2^20
_LIKE = 1e4  # times the noise of f, what rounding moves a gradient of zero by along a line
_FARTHEST = 1e25  # how far beyond the leaf, or 1, a function's scale is looked for
_ABROAD = 2.0**10  # how far beyond that f must stay the same to be constant


@dataclass(frozen=True)
class Resolved:
    """A verdict on what the first lines left open, with the findings or the opinion behind it."""

    verdict: str = PASS
    reason: str | None = None
    zero: bool = False  # the derivative was found to be zero, not only too small to be seen
    findings: Findings | None = None
    opinion: Opinion | None = None
    entry: int | None = None  # the worst, by flat index, where the opinion decides


def proven(findings: Findings) -> bool:
    """Whether every line's bound is small against the leaf's derivative."""
    good = np.isfinite(findings.numeric)
    largest = float(np.max(abs(findings.numeric[good]), initial=0.0))
    bound = float(np.max(findings.bound[good], initial=0.0))
    settled = not np.any(findings.state == INCONCLUSIVE)
    return bool(good.any() and settled) and bound <= share_of(findings.lines.program) * largest


def resolve(case: Case, findings: Findings) -> Resolved:
    """Judge what the lines did not prove: the whole leaf, or the entries that larger ones hide."""
    x, a = _point(case), abs(case.manual.ravel())
    mixed = is_mixed(case)
    if not proven(findings):
        return _look_closer(case, findings, np.arange(a.size), mixed)
    hidden = _hidden(findings, x, a, mixed)
    return _look_closer(case, findings, hidden, mixed, part=True) if hidden.size else Resolved()


def is_mixed(case: Case) -> bool:
    """Whether the entries of a leaf are so far apart that no length suits them all."""
    return _ratio(_point(case)) > _MIXED


def judge_zero(case: Case, findings: Findings) -> Resolved | None:
    """Judge a leaf along which f is constant but for noise, where that hides all else; or None."""
    opinion, everything = plain_opinion(case.subject, case.number), np.arange(case.manual.size)
    if opinion is None:
        return None
    lines = _lines(case, everything, False)
    # A gradient that rounds by far more than f does is ill-conditioned, and need not be zero.
    like_f = np.max(lines.weigh(opinion.rounding)) <= _LIKE * findings.noise
    if not (like_f and _is_zero(opinion, everything, lines, findings.noise)):
        return None
    off, lost = _compare(case, opinion, everything, True)
    if off.size:
        return Resolved(FAIL, _OUTVOTED, opinion=opinion, entry=_worst(case, opinion, off))
    return None if lost.size else Resolved(zero=True)


def _is_zero(opinion: Opinion, entries: np.ndarray, lines: Directions, noise: float) -> bool:
    near = abs(opinion.gradient[entries]) <= opinion.error[entries]
    return bool(near.all()) and _constant(lines, noise)


def is_rounding(case: Case, findings: Findings) -> bool:
    """Whether a numeric derivative differs by no more than the rounding in a trusted gradient.

    Rounding of a gradient of steep functions, e^(−x²) far out, is that of their arguments.
    """
    opinion = plain_opinion(case.subject, case.number)
    if opinion is None or not opinion.trusted.all():
        return False
    gap = abs(findings.manual - findings.numeric)
    allowed = findings.bound + findings.lines.weigh(opinion.error)
    bad = findings.state == FAIL
    agree = abs(case.manual.ravel() - opinion.gradient) <= 2 * opinion.error
    return bool(np.all(gap[bad] <= allowed[bad]) and agree.all())


def _hidden(findings: Findings, x: np.ndarray, a: np.ndarray, mixed: bool) -> np.ndarray:
    """Return the entries whose share in every line is below the bounds, and not by chance."""
    lines: Any = findings.lines
    reach, bound = np.full(a.size, scale(x)), np.full(a.size, np.max(findings.bound))
    if isinstance(lines, Directions):
        reach = np.max(abs(lines.rows), axis=0)
    else:
        reach[lines.index] = abs(lines.lengths)
        bound[lines.index] = findings.bound / share_of(lines.program)
    faint = (a > 0) & (a <= _FAINT * rms(a))
    with np.errstate(over="ignore"):
        return np.flatnonzero((reach * a <= bound) & (faint | mixed))


def _look_closer(
    case: Case, findings: Findings, entries: np.ndarray, mixed: bool, part: bool = False
) -> Resolved:
    apart = mixed or part
    lines = _lines(case, entries, apart)
    found = _at_own_length(lines, case.manual, findings.noise)
    wrong = found is not None and bool(np.any(found.state == FAIL))
    if wrong and _constant(lines, findings.noise):
        found, wrong = None, False  # a slope of what rounding leaves of the point, far out
    right = found is not None and not wrong
    if right and not apart:
        return Resolved(findings=found)
    opinion = plain_opinion(case.subject, case.number)
    if opinion is None:
        if wrong or (right and not mixed):
            return Resolved(FAIL if wrong else PASS, findings=found)
        return _without_opinion(case, findings, lines)
    off, lost = _compare(case, opinion, entries, apart)
    if wrong:
        agreed = off.size + lost.size == 0
        return Resolved(
            INCONCLUSIVE if agreed else FAIL, _CONTRADICTED if agreed else None, findings=found
        )
    if off.size:
        return Resolved(FAIL, _OUTVOTED, opinion=opinion, entry=_worst(case, opinion, off))
    if lost.size:
        return Resolved(INCONCLUSIVE, _LOST, opinion=opinion, entry=_worst(case, opinion, lost))
    unknown = entries[~opinion.trusted[entries]]
    if not unknown.size or (right and not mixed):
        return Resolved(zero=not np.any(case.manual.ravel()[entries]))
    size = rms(opinion.gradient[entries])
    if not apart and np.max(opinion.error[unknown]) <= opinion.share * size:
        return Resolved()
    if _is_zero(opinion, unknown, _lines(case, unknown, apart), findings.noise):
        return Resolved(zero=True)
    return Resolved(INCONCLUSIVE, _TAIL if case.coarse is None else case.coarse)


_MOVE = "move the point to where f changes, or write f and its gradient without cancellation"
_TAIL = (
    f"rounding hides the derivative here, in differences of f and in autodiff alike, and f is not "
    f"constant further out: a small slope and zero look the same; {_MOVE}"
)
_OUTVOTED = (
    "autodiff of f without rules of its own has another derivative, far beyond its rounding; "
    "differences of f cannot see one so small"
)
_LOST = f"the gradient under test loses its digits to rounding here: {_MOVE}"
_CONTRADICTED = (
    "autodiff agrees, but f changes otherwise at the larger steps that its rounding demands: move "
    "the point to where f changes more"
)
_HIDDEN = (
    "the rounding of f hides its derivative here, and there is no second opinion on it: give one "
    "with reference=, move the point to where f changes more, or scale the leaf"
)


def _compare(
    case: Case, opinion: Opinion, entries: np.ndarray, apart: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries that differ beyond rounding, and those that lost their own digits.

    Entries of one scale are sums over the same terms: a difference that is small in the leaf is
    rounding there. Entries of their own scale are compared each by itself.
    """
    none = np.empty(0, np.int64)
    a, b = case.manual.ravel()[entries], opinion.gradient[entries]
    size = abs(b) if apart else np.fmax(abs(b), rms(b))
    gap = abs(a - b)
    allowed = 64 * case.unit * abs(b) + opinion.error[entries]
    differ = gap > np.fmax(allowed, _OFF * size)
    if not differ.any():
        return none, none
    own = own_rounding(case.subject, case.number)
    excused = np.zeros(len(a), bool) if own is None else gap <= allowed + ROUNDINGS * own[entries]
    # Among entries of one scale, only what is rounded away of the largest is worth a word.
    large = gap > _OFF * rms(opinion.gradient)
    large &= opinion.trusted[entries]
    return entries[differ & ~excused], entries[differ & excused & (large | apart)]


def _worst(case: Case, opinion: Opinion, entries: np.ndarray) -> int:
    a, b = case.manual.ravel()[entries], opinion.gradient[entries]
    size = np.fmax(abs(a), abs(b))
    return int(entries[np.argmax(abs(a / size - b / size))])


def _without_opinion(case: Case, findings: Findings, lines: Directions) -> Resolved:
    if np.any(findings.lines.project(case.manual)):
        return Resolved(INCONCLUSIVE, _HIDDEN)
    if _stationary(findings) or _constant(lines, findings.noise):
        return Resolved(zero=True)
    return Resolved(INCONCLUSIVE, _HIDDEN)


def _at_own_length(lines: Directions, gradient: np.ndarray, noise: float) -> Findings | None:
    """Measure along lines of growing length; return those on which f has a slope that is resolved.

    A zero further out proves nothing of the point, and a kink there is none here.
    """
    program, finer, best = lines.program, [], None
    start = float(np.max(abs(lines.rows), initial=0.0))
    share = share_of(program)
    # The ladder starts from 1/8 of the length. Rounding of what the point adds to grows with it.
    farthest = min(_FARTHEST * max(1.0, start), 0.01 * float(np.finfo(program.dtype).max))
    factor = 1.0
    while factor * start <= farthest:
        longer = replace(lines, rows=lines.rows * factor)
        found = settle(longer, gradient, noise, retry=False)
        good = (found.state == PASS) | (found.state == FAIL)
        good &= (found.jump == 0) & (found.bound <= share * abs(found.numeric))
        for before, other in finer:
            gap = abs(found.numeric / factor - other.numeric / before)
            near = gap <= found.bound / factor + other.bound / before
            good &= near | (other.state == INCONCLUSIVE) | (other.jump != 0)
        finer.append((factor, found))
        if good.any():
            sharp = float(np.min(found.bound[good] / abs(found.numeric[good])))
            if best is None or (int(good.sum()), -sharp) > best[0]:
                best = (int(good.sum()), -sharp), some_lines(found, np.flatnonzero(good))
        factor *= 2.0**_OCTAVES
    return None if best is None else best[1]


def _constant(lines: Directions, noise: float) -> bool:
    """Whether f stays the same, but for rounding, as far out as its arguments may lie."""
    program = lines.program
    start = float(np.max(abs(lines.rows), initial=0.0))
    if start == 0:
        return True
    length, centre = 2.0**-4, program.centre()
    spacing = noise_spacing(program.unit, lines.rows.shape[1])
    while length * start <= _ABROAD * max(1.0, start):
        around = length * (1 + NOISE_POINTS * spacing)
        steps = np.broadcast_to(np.concatenate([around, -around]), (len(lines), 18)).copy()
        values = lines.values(steps)
        if not np.isfinite(values).all():
            return False
        there = max(float(noise_level(values[:, s]).max()) for s in (slice(9), slice(9, 18)))
        level = max(noise, there, program.unit * abs(centre))
        if np.max(abs(values - centre)) > 64 * level:
            return False
        length *= 16
    return True


def _stationary(findings: Findings) -> bool:
    """Whether the derivative is zero beside the change of f on both sides, as at a minimum."""
    step = LADDER.first / LADDER.ratio
    steps = np.broadcast_to([step, -step], (len(findings.lines), 2)).copy()
    values, centre = findings.lines.values(steps), findings.lines.program.centre()
    bend = abs(values.sum(axis=1) - 2 * centre) / (2 * step)
    return bool(np.all(findings.bound <= _OFF * np.max(bend)))


def _lines(case: Case, entries: np.ndarray, apart: bool) -> Directions:
    """Return lines along some entries of a leaf, each as long as itself if they are far apart."""
    x, a = _point(case), case.manual.ravel()
    lengths = np.zeros(x.size)
    lengths[entries] = scale(x[entries])
    if apart:
        lengths[entries] = np.where(x[entries] == 0, lengths[entries], abs(x[entries]))
    rng = np.random.default_rng([case.number, 31])
    rows = [rng.choice([-1.0, 1.0], x.size) * rng.uniform(0.5, 1.5, x.size) for _ in range(2)]
    rows.append(np.where(a < 0, -1.0, 1.0))
    share = abs(a) / np.max(abs(a), initial=1e-300) * lengths / np.max(lengths)
    if np.any(share):
        rows.append(np.where(a < 0, -1.0, 1.0) * share / np.max(share))
    rows = np.array(rows) * lengths / np.sqrt(max(len(entries), 1))
    return Directions(case.subject.program, case.number, rows)


def _point(case: Case) -> np.ndarray:
    return np.asarray(case.subject.program.variables[case.number], np.float64).ravel()


def _ratio(x: np.ndarray) -> float:
    sizes = abs(x[x != 0])
    with np.errstate(over="ignore"):
        return float(np.max(sizes) / np.min(sizes)) if sizes.size else 1.0
