"""The verdict on each line: the gradient under test against numeric derivatives and bounds."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.gradcheck.numeric.lines import (
    Lines,
    coordinates,
    informed_directions,
    join,
    measure,
    measure_noise,
    random_directions,
)
from jaxnet.gradcheck.numeric.norms import rms
from jaxnet.gradcheck.numeric.romberg import COARSER, FINER, LADDER, QUICK, SHIFTED, SINGLE, Ladder
from jaxnet.gradcheck.options import CheckOptions
from jaxnet.gradcheck.report import BOTH_ZERO, FAIL, INCONCLUSIVE, KINK, PASS, ZERO, worst_of

_MAX_ROUNDOFFS = 32  # unit roundoffs that the gradient under test itself may be off
_MAX_NOISE_ROUNDOFFS = 1e8  # with more noise of f, numeric derivatives prove nothing
_ZERO_SLOPE = 1e-10  # a derivative below this fraction of the value counts as zero
_MAX_RESOLVED_BOUND = 1e-3  # a bound below this fraction of the derivative resolves it


@dataclass(kw_only=True)
class Findings:
    """Derivatives along lines, numeric and by the gradient under test, and a state for each."""

    lines: Lines
    manual: np.ndarray
    numeric: np.ndarray
    bound: np.ndarray
    jump: np.ndarray
    state: np.ndarray  # PASS, FAIL, KINK or INCONCLUSIVE for each line
    noise: float
    magnitude: float

    @property
    def verdict(self) -> str:
        """Return the worst state."""
        return worst_of(*(str(s) for s in self.state))

    @property
    def unresolved(self) -> np.ndarray:
        """Whether the bound exceeds a thousandth of the derivative, by line."""
        return self.bound > _MAX_RESOLVED_BOUND * np.fmax(abs(self.numeric), abs(self.manual))

    def relative(self) -> tuple[float | None, float | None, str | None]:
        """Return the largest difference and bound, relative to the largest derivative.

        The third result is "zero" where all numeric derivatives vanish, and "both zero" where the
        gradient vanishes, too: only the noise of f remains then, and ratios of it mean nothing.
        """
        good = np.isfinite(self.numeric)
        if not good.any():
            return None, None, None
        if self.vanishes(self.numeric):
            vanish = self.vanishes(self.manual)
            return (0.0, None, BOTH_ZERO) if vanish else (1.0, None, ZERO)
        numeric = float(np.max(abs(self.numeric[good])))
        difference = float(np.max(abs(self.manual - self.numeric)[good]))
        bound = float(np.max(self.bound[good]))
        return difference / numeric, bound / numeric, None

    def vanishes(self, derivatives: np.ndarray) -> bool:
        """Whether derivatives along the lines are zero within the noise of f."""
        good = np.isfinite(self.numeric)
        zero = max(_ZERO_SLOPE, 1e3 * self.lines.program.roundoff) * self.magnitude
        allowed = np.fmin(self.bound, zero)
        return bool(np.all(abs(derivatives[good]) <= allowed[good]))


def probe(
    subject: Any, leaf: int, manual: np.ndarray, autodiff: np.ndarray | None, options: CheckOptions
) -> Findings:
    """Differentiate numerically along directions of one leaf, and judge each of them.

    Random directions find any error of some size; along the gradient itself, and along its
    difference from autodiff, small ones stand out of the noise.
    """
    program = subject.program
    rng = np.random.default_rng([options.seed, leaf])
    # Two random directions are drawn at least: the noise is measured along two.
    lines = random_directions(program, leaf, rng, max(options.directions, 2))
    noise = measure_noise(lines.take(np.arange(2)), program.centre())
    lines = lines.take(np.arange(options.directions))
    difference = None if autodiff is None else np.asarray(manual - autodiff)
    if autodiff is not None and not _differs(manual, autodiff, program.roundoff):
        difference = None
    informed = informed_directions(program, leaf, manual, difference)
    # A gradient of zero gives no direction; the gradient it should be gives one.
    if not np.any(manual):
        informed = informed_directions(program, leaf, autodiff)
    return settle(join(lines, informed), manual, noise)


def probe_coordinates(
    subject: Any,
    leaf: int,
    manual: np.ndarray,
    index: np.ndarray,
    seed: int,
    *,
    quick: bool,
    least: float = 0.0,
) -> Findings:
    """Differentiate numerically along coordinates of one leaf, and judge each of them.

    `least` is the length on which f changes, where it is known to be more than the leaf's scale.
    """
    program = subject.program
    rng = np.random.default_rng([seed, leaf, 1])
    noise = measure_noise(random_directions(program, leaf, rng, 2), program.centre())
    lines = coordinates(program, leaf, index, least)
    if not quick:
        return settle(lines, manual, noise)
    # A short ladder settles most entries; only the doubtful ones get the full one.
    first = settle(lines, manual, noise, QUICK, retry=False)
    again = (first.state != PASS) | first.unresolved | (first.jump != 0)
    if again.any():
        _merge(first, np.flatnonzero(again), settle(lines.take(again), manual, noise))
    return first


def _merge(whole: Findings, where: np.ndarray, part: Findings) -> None:
    for name in ("manual", "numeric", "bound", "jump", "state"):
        getattr(whole, name)[where] = getattr(part, name)
    whole.lines = whole.lines.put(where, part.lines)  # each ladder has a grid of its own


def _differs(a: np.ndarray, b: np.ndarray, roundoff: float) -> bool:
    size = rms(b)
    return bool(np.any(abs(a - b) > 64 * roundoff * (abs(b) + size)))


def settle(
    lines: Lines,
    gradient: np.ndarray,
    noise: float,
    ladder: Ladder | None = None,
    retry: bool = True,
) -> Findings:
    """Judge lines, and measure lines that disagree again on finer and on shifted ladders."""
    program = lines.program
    single = program.roundoff > 1e-12
    ladder = ladder or (SINGLE if single else LADDER)
    centre = program.centre()
    first = _judge(lines, gradient, centre, noise, ladder)
    if not retry:
        return first
    others = [_from_step(SINGLE, 2.0**-6)] if single else [FINER, SHIFTED]
    bad = np.flatnonzero((first.state == FAIL) | (first.state == INCONCLUSIVE))
    if bad.size:
        # The noise may be underestimated, as it was measured along other lines.
        worst = lines.take(bad[:2])
        noise = max(noise, measure_noise(worst, centre))
        _merge(first, bad, _judge(lines.take(bad), gradient, centre, noise, ladder))
    # A finer ladder steps over kinks and oscillations at a distance, a shifted one over chance.
    for other in others:
        bad = np.flatnonzero((first.state == FAIL) | (first.state == INCONCLUSIVE))
        if bad.size:
            _reconsider(first, bad, _judge(lines.take(bad), gradient, centre, noise, other))
    # Where the noise leaves a bound too wide to prove anything, larger steps may shrink it.
    noisy = np.flatnonzero(first.unresolved & (first.state == PASS) & (first.jump == 0))
    if noisy.size and not single:
        coarse = _judge(lines.take(noisy), gradient, centre, noise, COARSER)
        better = coarse.bound < 0.1 * first.bound[noisy]
        better &= coarse.state != INCONCLUSIVE
        # Larger steps may leave the neighbourhood where phi behaves as at the point, so they count
        # only where they agree with the smaller ones.
        near = abs(coarse.numeric - first.numeric[noisy]) <= coarse.bound + first.bound[noisy]
        keep = np.flatnonzero(better & near)
        if keep.size:
            _merge(first, noisy[keep], select_lines(coarse, keep))
    _excuse_saturation(first, gradient, centre)
    # Where neighbouring values differ as much as distant ones, an oscillation passes for noise.
    if noise > min(_MAX_NOISE_ROUNDOFFS * program.coarsest_roundoff, 0.05) * first.magnitude:
        first.state[(first.state == FAIL) | first.unresolved] = INCONCLUSIVE
    return first


def _excuse_saturation(findings: Findings, gradient: np.ndarray, centre: float) -> None:
    """Pass lines along which f stays the same to its last bit, and the gradient is below that bit.

    The last bit is measured where f is largest: a saturated loss of 0 is a difference of large
    numbers.
    """
    still = abs(findings.numeric) <= 1e-12 * abs(findings.manual)
    stuck = np.flatnonzero((findings.state == FAIL) & still & (findings.jump == 0))
    if not stuck.size:
        return
    far = _judge(findings.lines.take(stuck), gradient, centre, findings.noise, COARSER)
    quantum = 2 * findings.lines.program.roundoff * far.magnitude
    bound = findings.bound[stuck] + quantum / LADDER.first
    findings.bound[stuck] = bound
    excused = abs(findings.manual[stuck]) <= bound
    findings.state[stuck[excused]] = PASS
    if excused.any():
        findings.noise = max(findings.noise, quantum)


def _from_step(ladder: Ladder, first: float) -> Ladder:
    """Return the ladder from another first step."""
    return ladder._replace(first=first)


def select_lines(findings: Findings, which: np.ndarray) -> Findings:
    """Return the findings on some of the lines."""
    names = ("manual", "numeric", "bound", "jump", "state")
    parts = {name: getattr(findings, name)[which] for name in names}
    return replace(findings, lines=findings.lines.take(which), **parts)


def _reconsider(first: Findings, where: np.ndarray, second: Findings) -> None:
    """Use a second measurement where it is the better one.

    A disagreement that smaller steps resolve was a kink or an oscillation at a distance; it is
    excused only by a bound that is sharp enough to see it.
    """
    for row, line in enumerate(where):
        gap = abs(first.manual[line] - first.numeric[line])
        sharp = second.bound[row] < 0.5 * gap or first.state[line] == INCONCLUSIVE
        usable = second.state[row] != INCONCLUSIVE
        resolves = second.bound[row] <= 0.01 * max(
            abs(second.numeric[row]), abs(second.manual[row]), 1e-300
        )
        if usable and sharp and (second.state[row] == PASS or resolves):
            _merge(first, np.array([line]), select_lines(second, np.array([row])))
        elif first.jump[line] == 0 and second.jump[row] != 0:
            first.jump[line] = second.jump[row]


def _judge(
    lines: Lines, gradient: np.ndarray, centre: float, noise: float, ladder: Ladder
) -> Findings:
    program = lines.program
    lines = lines.on_grid(ladder)
    measured = measure(lines, centre, noise, ladder)
    manual = lines.project(gradient)
    # Terms that cancel in f cancel in its gradient, too, whose rounding error has their size: the
    # noise of f is allowed beside the rounding of the gradient's own sum.
    rounding = (
        (_MAX_ROUNDOFFS if program.roundoff < 1e-12 else 16)
        * program.roundoff
        * lines.weigh(gradient)
    )
    bound = measured.bound + rounding + 8 * noise
    state = np.where(abs(manual - measured.value) <= bound, PASS, FAIL).astype(object)
    usable = measured.consistent & np.isfinite(bound) & np.isfinite(measured.value)
    state[~usable] = INCONCLUSIVE
    # One-sided derivatives at a kink are value ± jump/2.
    at_kink = usable & (measured.jump != 0)
    inside = abs(manual - measured.value) <= bound + abs(measured.jump) / 2
    state[at_kink & inside] = KINK
    magnitude = float(np.max(measured.magnitude, initial=abs(centre)))
    return Findings(
        lines=lines,
        manual=manual,
        numeric=measured.value.copy(),
        bound=bound,
        jump=measured.jump.copy(),
        state=state,
        noise=noise,
        magnitude=magnitude,
    )
