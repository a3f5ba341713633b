"""Judge what the first lines of a leaf leave unproven, by other lengths and a second opinion.

A gradient is proven where the bound of the numeric derivative is small against it. A leaf stays
unproven where f changes on another scale than the leaf's own, and where the rounding of f hides the
derivative; parts of a leaf do, where its larger entries hide the smaller ones.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.function.second_opinion import (
    ROUNDING_FACTOR,
    SecondOpinion,
    own_rounding,
    second_opinion,
)
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.numeric.judge_lines import Findings, select_lines, settle
from jaxnet.gradcheck.numeric.lines import Directions, proof_share
from jaxnet.gradcheck.numeric.norms import rms, scale
from jaxnet.gradcheck.numeric.romberg import LADDER, NOISE_POINTS, noise_level, noise_spacing
from jaxnet.gradcheck.report import FAIL, INCONCLUSIVE, PASS

_MIN_MIXED_RATIO = 1e10  # a leaf whose entries differ by more has several scales
_MAX_FAINT_SHARE = 1e-8  # an entry below this share of the leaf's gradient has its own scale
_MAX_OPINION_GAP = 1e-6  # a larger relative difference is more than another order of summation
_OCTAVES = 16  # each length is 2^16 times the last: the ladder spans 2^20, so they overlap
_MAX_ROUNDING_PER_NOISE = 1e4  # rounding of a gradient of zero along a line, by the noise of f
_MAX_STRETCH = 1e25  # the scale of f is searched up to this multiple of the leaf, or of 1
_CONSTANT_REACH = 2.0**10  # f is constant if it stays the same up to this multiple of them


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """A verdict on what the first lines left open, with the findings or the opinion behind it."""

    verdict: str = PASS
    reason: str | None = None
    zero: bool = False  # the derivative is proved to be zero, not only too small to be seen
    findings: Findings | None = None
    opinion: SecondOpinion | None = None
    entry: int | None = None  # flat index of the worst entry, where the opinion decides


def is_proven(findings: Findings) -> bool:
    """Whether every line's bound is small against the leaf's derivative."""
    good = np.isfinite(findings.numeric)
    largest = float(np.max(abs(findings.numeric[good]), initial=0.0))
    bound = float(np.max(findings.bound[good], initial=0.0))
    settled = not np.any(findings.state == INCONCLUSIVE)
    return bool(good.any() and settled) and bound <= proof_share(findings.lines.program) * largest


def resolve(case: LeafCase, findings: Findings) -> Resolution:
    """Judge what the lines leave unproven: the whole leaf, or entries that larger ones hide."""
    x, a = _point(case), abs(case.manual.ravel())
    mixed = is_mixed(case)
    if not is_proven(findings):
        return _look_closer(case, findings, np.arange(a.size), mixed)
    hidden = _hidden(findings, x, a, mixed)
    return _look_closer(case, findings, hidden, mixed, part=True) if hidden.size else Resolution()


def is_mixed(case: LeafCase) -> bool:
    """Whether the entries of a leaf are so far apart that no length suits them all."""
    return _ratio(_point(case)) > _MIN_MIXED_RATIO


def judge_zero(case: LeafCase, findings: Findings) -> Resolution | None:
    """Judge a leaf along which f is constant within its noise; None if it is not."""
    opinion, everything = second_opinion(case.subject, case.number), np.arange(case.manual.size)
    if opinion is None:
        return None
    lines = _lines(case, everything, False)
    # A gradient that rounds by far more than f does is ill-conditioned, and need not be zero.
    like_f = np.max(lines.weigh(opinion.rounding)) <= _MAX_ROUNDING_PER_NOISE * findings.noise
    if not (like_f and _is_zero(opinion, everything, lines, findings.noise)):
        return None
    off, lost = _compare(case, opinion, everything, True)
    if off.size:
        return _against(FAIL, _OUTVOTED, case, opinion, off)
    return None if lost.size else Resolution(zero=True)


def _is_zero(opinion: SecondOpinion, entries: np.ndarray, lines: Directions, noise: float) -> bool:
    near = abs(opinion.gradient[entries]) <= opinion.error[entries]
    return bool(near.all()) and _constant(lines, noise)


def is_rounding(case: LeafCase, findings: Findings) -> bool:
    """Whether a numeric derivative differs by no more than the rounding in a trusted gradient.

    A steep function such as e^(−x²) far out amplifies the rounding of its argument.
    """
    opinion = second_opinion(case.subject, case.number)
    if opinion is None or not opinion.trusted.all():
        return False
    gap = abs(findings.manual - findings.numeric)
    allowed = findings.bound + findings.lines.weigh(opinion.error)
    bad = findings.state == FAIL
    agree = abs(case.manual.ravel() - opinion.gradient) <= 2 * opinion.error
    return bool(np.all(gap[bad] <= allowed[bad]) and agree.all())


def _hidden(findings: Findings, x: np.ndarray, a: np.ndarray, mixed: bool) -> np.ndarray:
    """Return the entries whose share in every line is below the bounds, by their scale."""
    lines: Any = findings.lines
    reach, bound = np.full(a.size, scale(x)), np.full(a.size, np.max(findings.bound))
    if isinstance(lines, Directions):
        reach = np.max(abs(lines.rows), axis=0)
    else:
        reach[lines.index] = abs(lines.lengths)
        bound[lines.index] = findings.bound / proof_share(lines.program)
    faint = (a > 0) & (a <= _MAX_FAINT_SHARE * rms(a))
    with np.errstate(over="ignore"):
        return np.flatnonzero((reach * a <= bound) & (faint | mixed))


def _look_closer(
    case: LeafCase, findings: Findings, entries: np.ndarray, mixed: bool, part: bool = False
) -> Resolution:
    """Judge some entries along lines of their own length, and by the second opinion.

    Both may be missing, and both may err: a slope further out is not the slope at the point, and
    rounding may leave the opinion no digits. A verdict needs what is left of them to agree.
    """
    apart = mixed or part
    lines = _lines(case, entries, apart)
    measured = _at_own_length(lines, case.manual, findings.noise)
    wrong = measured is not None and bool(np.any(measured.state == FAIL))
    if wrong and _constant(lines, findings.noise):
        # Far out rounding leaves nothing of the point, and the slope is an artefact of that.
        measured, wrong = None, False
    right = measured is not None and not wrong
    if right and not apart:
        return Resolution(findings=measured)
    opinion = second_opinion(case.subject, case.number)
    if opinion is None:
        if wrong or (right and not mixed):
            return Resolution(verdict=FAIL if wrong else PASS, findings=measured)
        return _without_opinion(case, findings, lines)
    off, lost = _compare(case, opinion, entries, apart)
    if wrong:
        if off.size + lost.size == 0:
            return Resolution(verdict=INCONCLUSIVE, reason=_CONTRADICTED, findings=measured)
        return Resolution(verdict=FAIL, findings=measured)
    if off.size:
        return _against(FAIL, _OUTVOTED, case, opinion, off)
    if lost.size:
        return _against(INCONCLUSIVE, _LOST, case, opinion, lost)
    unknown = entries[~opinion.trusted[entries]]
    if not unknown.size or (right and not mixed):
        return Resolution(zero=not np.any(case.manual.ravel()[entries]))
    size = rms(opinion.gradient[entries])
    if not apart and np.max(opinion.error[unknown]) <= opinion.share * size:
        return Resolution()
    if _is_zero(opinion, unknown, _lines(case, unknown, apart), findings.noise):
        return Resolution(zero=True)
    return Resolution(verdict=INCONCLUSIVE, reason=case.coarse or _TAIL)


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
    case: LeafCase, opinion: SecondOpinion, entries: np.ndarray, apart: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries that differ beyond rounding, and the entries without right digits.

    Entries of one scale are sums over the same terms: a difference that is small in the leaf is
    rounding there. Entries with scales of their own are compared each by itself.
    """
    none = np.empty(0, np.int64)
    a, b = case.manual.ravel()[entries], opinion.gradient[entries]
    size = abs(b) if apart else np.fmax(abs(b), rms(b))
    gap = abs(a - b)
    allowed = 64 * case.roundoff * abs(b) + opinion.error[entries]
    differ = gap > np.fmax(allowed, _MAX_OPINION_GAP * size)
    if not differ.any():
        return none, none
    own = own_rounding(case.subject, case.number)
    excused = (
        np.zeros(len(a), bool) if own is None else gap <= allowed + ROUNDING_FACTOR * own[entries]
    )
    # Among entries of one scale, only a loss that shows beside the largest is worth a word.
    large = gap > _MAX_OPINION_GAP * rms(opinion.gradient)
    large &= opinion.trusted[entries]
    return entries[differ & ~excused], entries[differ & excused & (large | apart)]


def _against(
    verdict: str, reason: str, case: LeafCase, opinion: SecondOpinion, entries: np.ndarray
) -> Resolution:
    """Return a verdict by the opinion, with the entry that differs most from it."""
    a, b = case.manual.ravel()[entries], opinion.gradient[entries]
    size = np.fmax(abs(a), abs(b))
    worst = int(entries[np.argmax(abs(a / size - b / size))])
    return Resolution(verdict=verdict, reason=reason, opinion=opinion, entry=worst)


def _without_opinion(case: LeafCase, findings: Findings, lines: Directions) -> Resolution:
    if np.any(findings.lines.project(case.manual)):
        return Resolution(verdict=INCONCLUSIVE, reason=_HIDDEN)
    if _stationary(findings) or _constant(lines, findings.noise):
        return Resolution(zero=True)
    return Resolution(verdict=INCONCLUSIVE, reason=_HIDDEN)


def _at_own_length(lines: Directions, gradient: np.ndarray, noise: float) -> Findings | None:
    """Measure along lines of growing length; return the findings with the most resolved slopes.

    A zero slope further out proves nothing about the point, nor does a kink there.
    """
    program, finer, best = lines.program, [], None
    start = float(np.max(abs(lines.rows), initial=0.0))
    share = proof_share(program)
    # The ladder starts at 1/8 of the length, and the largest step must not overflow.
    farthest = min(_MAX_STRETCH * max(1.0, start), 0.01 * float(np.finfo(program.dtype).max))
    factor = 1.0
    while factor * start <= farthest:
        longer = replace(lines, rows=lines.rows * factor)
        measured = settle(longer, gradient, noise, retry=False)
        good = (measured.state == PASS) | (measured.state == FAIL)
        good &= (measured.jump == 0) & (measured.bound <= share * abs(measured.numeric))
        # A slope counts only if it agrees with every shorter length that shows one.
        for before, other in finer:
            gap = abs(measured.numeric / factor - other.numeric / before)
            near = gap <= measured.bound / factor + other.bound / before
            good &= near | (other.state == INCONCLUSIVE) | (other.jump != 0)
        finer.append((factor, measured))
        if good.any():
            # The length that resolves the most lines wins, then the sharpest.
            sharp = float(np.min(measured.bound[good] / abs(measured.numeric[good])))
            if best is None or (int(good.sum()), -sharp) > best[0]:
                best = (int(good.sum()), -sharp), select_lines(measured, np.flatnonzero(good))
        factor *= 2.0**_OCTAVES
    return None if best is None else best[1]


def _constant(lines: Directions, noise: float) -> bool:
    """Whether f stays the same within rounding, as far out as its arguments may lie."""
    program = lines.program
    start = float(np.max(abs(lines.rows), initial=0.0))
    if start == 0:
        return True
    length, centre = 2.0**-4, program.centre()
    spacing = noise_spacing(program.roundoff, lines.rows.shape[1])
    while length * start <= _CONSTANT_REACH * max(1.0, start):
        around = length * (1 + NOISE_POINTS * spacing)
        steps = np.broadcast_to(np.concatenate([around, -around]), (len(lines), 18)).copy()
        values = lines.values(steps)
        if not np.isfinite(values).all():
            return False
        there = max(float(noise_level(values[:, s]).max()) for s in (slice(9), slice(9, 18)))
        level = max(noise, there, program.roundoff * abs(centre))
        if np.max(abs(values - centre)) > 64 * level:
            return False
        length *= 16
    return True


def _stationary(findings: Findings) -> bool:
    """Whether the derivative is zero against the change of f on both sides, as at a minimum."""
    step = LADDER.first / LADDER.ratio
    steps = np.broadcast_to([step, -step], (len(findings.lines), 2)).copy()
    values, centre = findings.lines.values(steps), findings.lines.program.centre()
    bend = abs(values.sum(axis=1) - 2 * centre) / (2 * step)
    return bool(np.all(findings.bound <= _MAX_OPINION_GAP * np.max(bend)))


def _lines(case: LeafCase, entries: np.ndarray, apart: bool) -> Directions:
    """Return lines along some entries, each moved by its own size if their scales are far apart."""
    x, a = _point(case), case.manual.ravel()
    lengths = np.zeros(x.size)
    lengths[entries] = scale(x[entries])
    if apart:
        lengths[entries] = np.where(x[entries] == 0, lengths[entries], abs(x[entries]))
    rng = np.random.default_rng([case.number, 31])
    # Two random lines, and two along the gradient: one by signs, one by shares.
    rows = [rng.choice([-1.0, 1.0], x.size) * rng.uniform(0.5, 1.5, x.size) for _ in range(2)]
    rows.append(np.where(a < 0, -1.0, 1.0))
    share = abs(a) / np.max(abs(a), initial=1e-300) * lengths / np.max(lengths)
    if np.any(share):
        rows.append(np.where(a < 0, -1.0, 1.0) * share / np.max(share))
    rows = np.array(rows) * lengths / np.sqrt(max(len(entries), 1))
    return Directions(case.subject.program, case.number, rows)


def _point(case: LeafCase) -> np.ndarray:
    return np.asarray(case.subject.program.variables[case.number], np.float64).ravel()


def _ratio(x: np.ndarray) -> float:
    sizes = abs(x[x != 0])
    with np.errstate(over="ignore"):
        return float(np.max(sizes) / np.min(sizes)) if sizes.size else 1.0
