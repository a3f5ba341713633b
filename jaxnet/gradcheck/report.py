"""The report of a check: a verdict, a line for each leaf, the worst entry by every method."""

import math
import textwrap
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxnet.host.terminal import printable
from jaxnet.host.texts import to_json

PASS, KINK, INCONCLUSIVE, FAIL = "PASS", "KINK", "INCONCLUSIVE", "FAIL"
ZERO, BOTH_ZERO = "zero", "both zero"  # how a leaf names derivatives that vanish
_TEXT_WIDTH = 100  # columns of the text
_RANK = {PASS: 0, KINK: 1, INCONCLUSIVE: 2, FAIL: 3}


def worst_of(*verdicts: str) -> str:
    """Return the worst verdict: FAIL, else INCONCLUSIVE, else KINK, else PASS."""
    return max(verdicts, key=_RANK.__getitem__, default=PASS)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a gradient by every method; `bound` is the error bound of `numeric`."""

    index: tuple[int, ...]
    manual: float
    autodiff: float | None = None
    numeric: float | None = None
    bound: float | None = None

    @classmethod
    def at(cls, flat: int, manual: np.ndarray, autodiff: np.ndarray | None, **rest: Any) -> "Entry":
        """Return the entry at a flat index of the gradients of one leaf."""
        return cls(
            index=tuple(int(i) for i in np.unravel_index(flat, manual.shape)),
            manual=float(manual.ravel()[flat]),
            autodiff=None if autodiff is None else float(autodiff.ravel()[flat]),
            **rest,
        )


@dataclass(frozen=True, kw_only=True)
class LeafReport:
    """The result for one differentiable leaf.

    `norm` is the norm of the gradient under test. `versus_autodiff` and `versus_numeric` are
    relative differences, `bound` is the relative error bound of the numeric derivative, and
    `unresolved` counts the lines, out of `lines`, whose bound exceeds a thousandth of the
    derivative. `autodiff_zero` and `numeric_zero` are "zero" where this derivative vanishes and
    "both zero" where the gradient under test vanishes, too, exactly or within rounding; the ratio
    beside them has no meaning then.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    verdict: str
    norm: float | None = None
    versus_autodiff: float | None = None
    versus_numeric: float | None = None
    bound: float | None = None
    worst: Entry | None = None
    hint: str | None = None
    kinks: tuple[str, ...] = ()
    unresolved: int = 0
    lines: int = 0
    reason: str | None = None  # why the verdict is FAIL or INCONCLUSIVE, in a sentence
    autodiff_zero: str | None = None
    numeric_zero: str | None = None


@dataclass(frozen=True)
class ExactCheck:
    """A test without finite differences: its outcome is "ok", "failed" or "n/a"."""

    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class GradientReport:
    """The result of `check_grads`; true if its verdict is PASS or KINK."""

    verdict: str
    leaves: tuple[LeafReport, ...]
    notes: tuple[str, ...] = ()
    exact: tuple[ExactCheck, ...] = ()
    seed: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    versions: str = ""
    precision: str = ""
    value: float | None = None
    noise: float | None = None
    mode: str = "directional"
    tested: str = "the hand-written gradient"
    second_order: "GradientReport | None" = None
    jittered: "GradientReport | None" = None

    def __bool__(self) -> bool:
        return self.verdict in (PASS, KINK)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain dicts, lists, numbers and strings."""
        return _plain(self)

    def to_json(self, **settings: Any) -> str:
        """Return the report as JSON; NaN and infinities are strings."""
        return to_json(self.to_dict(), spelled=True, **settings)

    def summary(self) -> str:
        """Return the verdict in one line."""
        bad = [leaf.path for leaf in self.leaves if leaf.verdict == self.verdict]
        where = f" {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}" if not self else ""
        leaves = _plural(len(self.leaves), "leaf", "leaves")
        return f"gradcheck {self.verdict}{where} ({leaves}, seed {self.seed})"

    def cause(self) -> str:
        """Return in one line why this report is not PASS: a leaf with its reason, or a check.

        If several leaves are wrong, the line names the first in backward order, whose error the
        others may inherit.
        """
        bad = [leaf for leaf in self.leaves if leaf.verdict == self.verdict]
        failed = [c for c in self.exact if c.outcome == "failed"]
        if bad:
            leaf = bad[-1]
            sizes = [leaf.versus_autodiff, leaf.versus_numeric, _relative_error(leaf.worst)]
            size = max((size for size in sizes if size is not None), default=0.0)
            by = f" by {size:.0e}" if size else ""
            what = {FAIL: f"wrong{by}", INCONCLUSIVE: "not proved"}.get(self.verdict, "all right")
            more = f" (and of {len(bad) - 1} more)" if len(bad) > 1 else ""
            why = leaf.hint or leaf.reason
            return f"gradient of {leaf.path}{more} is {what}" + (f": {why}" if why else "")
        if failed:
            detail = f": {failed[0].detail}" if failed[0].detail else ""
            return f"the check {failed[0].name!r} failed{detail}"
        for where, other in [("second order", self.second_order), ("moved point", self.jittered)]:
            if other is not None and other.verdict == self.verdict:
                return f"{where}: {other.cause()}"
        return next(iter(self.notes), self.verdict)

    def __str__(self) -> str:
        return printable("\n".join(_text(self)))


def _relative_error(entry: Entry | None) -> float | None:
    """Return the relative error of an entry, to the numeric derivative if there is one."""
    reference = entry and (entry.autodiff if entry.numeric is None else entry.numeric)
    if entry is None or not reference:
        return None
    return abs(entry.manual - reference) / abs(reference)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:.{digits}e}"


def _wrap(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line,
        _TEXT_WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _shape(shape: tuple[int, ...]) -> str:
    return "(" + ",".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def _text(report: GradientReport) -> list[str]:
    count = sum(math.prod(leaf.shape) for leaf in report.leaves)
    line_count = sum(leaf.lines for leaf in report.leaves)
    value = "" if report.value is None else f"   value={report.value:.6g}"
    noise = "" if report.noise is None else f"noise of f {report.noise:.1e}   "
    leaves = _plural(len(report.leaves), "leaf", "leaves")
    text = [
        f"gradcheck {report.verdict}{value}  {report.precision}  {count:,} parameters, {leaves}, "
        f"{line_count:,} {_NAME_OF_LINES[report.mode]}, {report.evaluations:,} evaluations, "
        f"{report.seconds:.1f} s",
        f"  {noise}seed {report.seed}   {report.versions}",
    ]
    under_test = _COLUMN_UNDER_TEST.get(report.tested, "manual")
    wide = max([4, *(len(leaf.path) for leaf in report.leaves)])
    tall = max([5, *(len(_shape(leaf.shape)) for leaf in report.leaves)])
    text.append(
        f"  {'leaf':<{wide}}  {'shape':<{tall}}  {f'|{under_test}|':<10}"
        f"   vs autodiff   vs numeric   bound    verdict"
    )
    for leaf in report.leaves:
        remark = leaf.hint or leaf.reason or ""
        if leaf.kinks:
            remark = f"{remark}; kink: {', '.join(leaf.kinks)}".lstrip("; ")
        if leaf.unresolved and leaf.verdict in (PASS, KINK) and not leaf.numeric_zero:
            remark = f"{remark}; {leaf.unresolved} of {leaf.lines} unresolved".lstrip("; ")
        row = (
            f"  {leaf.path:<{wide}}  {_shape(leaf.shape):<{tall}}  {_number(leaf.norm, 1):<10}   "
            f"{leaf.autodiff_zero or _number(leaf.versus_autodiff):<11}   "
            f"{leaf.numeric_zero or _number(leaf.versus_numeric):<10}   "
            f"{_number(leaf.bound):<7}  {leaf.verdict}"
        )
        fits = len(row) + 3 + len(remark) <= _TEXT_WIDTH
        text.append(f"{row}   {remark}".rstrip() if fits else row)
        text += [] if fits else _wrap(f"    {remark}")
        if leaf.worst is not None and leaf.verdict not in (PASS,):
            text += _wrap(f"    worst  {_entry(leaf, under_test)}")
        if leaf.verdict in (FAIL, INCONCLUSIVE) and leaf.reason and leaf.hint:
            text += _wrap(f"    {leaf.reason}")
    failed = [leaf.path for leaf in report.leaves if leaf.verdict == FAIL]
    if len(failed) > 1:
        text.append(f"  first bad leaf in backward order: {failed[-1]}")
    if report.exact:
        checks = ", ".join(
            f"{c.name} {c.outcome}{f' ({c.detail})' if c.detail else ''}" for c in report.exact
        )
        text += _wrap(f"  exact checks: {checks}")
    text += [line for note in report.notes for line in _wrap(f"  note: {note}")]
    if report.verdict == FAIL:
        text.append(f"  to run it again: the same call with seed={report.seed}")
    for title, other in [("second order", report.second_order), ("moved point", report.jittered)]:
        if other is not None:
            text.append(f"{title}: {other}")
    return text


_NAME_OF_LINES = {"directional": "directions", "full": "coordinates", "sampled": "lines"}
_COLUMN_UNDER_TEST = {"the autodiff gradient of f": "autodiff"}


def _entry(leaf: LeafReport, under_test: str) -> str:
    worst = leaf.worst
    assert worst is not None
    name = f"{leaf.path}[{', '.join(map(str, worst.index))}]" if worst.index else leaf.path
    parts = [name, f"{under_test} {worst.manual:.6e}"]
    if worst.autodiff is not None:
        other = "reference" if under_test == "autodiff" else "autodiff"
        parts.append(f"{other} {worst.autodiff:.6e}")
    if worst.numeric is not None:
        parts.append(f"numeric {worst.numeric:.6e} +- {worst.bound or 0:.0e}")
    reference = worst.numeric if worst.numeric else worst.autodiff
    if reference and not leaf.numeric_zero:
        parts.append(f"ratio {worst.manual / reference:.4g}")
    return "   ".join(parts)


def with_verdict(report: GradientReport, verdict: str, *notes: str) -> GradientReport:
    """Return the report with a worse verdict, if it is worse, and further notes."""
    worst = worst_of(report.verdict, verdict)
    return replace(report, verdict=worst, notes=(*report.notes, *notes))
