"""What a wrong gradient looks like: the likely cause, read off its difference from the right one.

A hint is a guess and worded as one. The rules stand in `RULES`, the most specific first; the first
that has something to say wins.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_EXACT = 1e-8
"""Relative residual up to which two arrays count as the same."""


def hint(
    manual: np.ndarray | float,
    reference: np.ndarray | float,
    *,
    parameter: np.ndarray | None = None,
    dimensions: Mapping[str, int] = {},
    bound: np.ndarray | float = 0.0,
    cotangent: float | None = 1.0,
    sizes: Collection[int] = (),
) -> str | None:
    """Return the likely cause of manual − reference, or None where they agree within the bound.

    `parameter` is the leaf itself (for terms in proportion to it), `dimensions` name sizes that a
    factor may come from, `sizes` are further ones without a name, `bound` is the absolute error of
    the reference, one or one an entry. `cotangent` is that of the scalar loss: terms of its own
    gradient, such as an L2 term, appear multiplied by it; None where there is no such number.

    >>> g = np.arange(1.0, 7.0).reshape(2, 3)
    >>> hint(g / 16, g, dimensions={"batch": 16})
    'factor 0.0625 = 1/16 = 1/batch: a mean where a sum belongs, or divided once too often'
    >>> hint(g + 0.01 * g**2, g, parameter=g**2)
    'difference = 0.01·parameter: an L2 term counted twice, or one that the loss does not have'
    >>> hint(g + 0.01 * g**2, g, parameter=g**2, cotangent=-2.0)
    'difference = −0.005·parameter: an L2 term missing, or half of one'
    >>> hint(g, g) is None
    True
    """
    manual, reference = (np.asarray(x, np.float64) for x in (manual, reference))
    if manual.shape != reference.shape:
        turned = manual.ndim > 1 and manual.T.shape == reference.shape
        text = f"shape {manual.shape} where {reference.shape} belongs"
        return text + ": transposed?" if turned else text
    if parameter is not None and np.shape(parameter) != manual.shape:
        parameter = None
    bound = np.broadcast_to(np.asarray(bound, np.float64), manual.shape)
    manual, reference, bound = np.atleast_1d(manual, reference, bound)
    if parameter is not None:
        parameter = np.atleast_1d(np.asarray(parameter, np.float64))
    named = {name: size for name, size in dimensions.items() if size > 1}
    case = _Case(manual, reference, bound, parameter, named, cotangent, frozenset(sizes))
    with np.errstate(all="ignore"):
        if text := _not_finite(case):
            return text
        if not case.wrong.any():
            return None
        return next(text for rule in RULES if (text := rule(case)))


@dataclass
class _Case:
    """One leaf: a = manual, n = reference, d = a − n, and which entries differ."""

    a: np.ndarray
    n: np.ndarray
    bound: np.ndarray
    parameter: np.ndarray | None
    dimensions: Mapping[str, int]
    cotangent: float | None = 1.0
    sizes: frozenset[int] = frozenset()

    def __post_init__(self):
        self.d = self.a - self.n
        largest = np.abs(self.n).max(initial=0)
        slack = 1e-12 * np.maximum(np.abs(self.a), np.abs(self.n)) + 1e-15 * largest
        self.wrong = np.abs(self.d) > self.bound + slack
        self.noise = np.linalg.norm(self.bound)

    def same(self, x: np.ndarray, y: np.ndarray, slack: float = 1.0) -> bool:
        """Whether x = y up to rounding and the bound, which must not swallow the difference."""
        miss = np.linalg.norm(x - y)
        size = max(np.linalg.norm(x), np.linalg.norm(y))
        noise = slack * self.noise
        return bool(miss <= _EXACT * size + noise and miss <= 0.05 * np.linalg.norm(self.d))

    def is_multiple(self, factor: float) -> np.ndarray:
        """Return where a = factor·n up to rounding and the bound."""
        y = factor * self.n
        slack = max(1.0, abs(factor)) * self.bound
        return np.abs(self.a - y) <= _EXACT * np.maximum(np.abs(self.a), np.abs(y)) + slack


def _not_finite(case: _Case) -> str | None:
    for name, array in (("gradient", case.a), ("reference", case.n)):
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(np.argwhere(bad)[0].tolist())
            what = "NaN" if np.isnan(array[first]) else "inf"
            count = f"{bad.sum()} of {bad.size} entries of the {name} are not finite"
            return f"{count}, the first {what} at {_index(first)}: 0/0, log 0, or an overflow"
    return None


def _zero(case: _Case) -> str | None:
    if not case.a.any():
        return "the gradient is zero: leaf forgotten, or cut off by stop_gradient"
    if (np.abs(case.n) <= case.bound).all():
        return "the reference is zero: the function does not depend on this leaf, or stops it"
    return None


def _factor(case: _Case) -> str | None:
    factor = _slope(case.a, case.n)
    if factor == 0 or not case.same(case.a, factor * case.n):
        return None
    meaning = _meaning(factor, case)
    if np.count_nonzero(case.n) < 2 and meaning is None:
        return None  # one number is always a multiple of another
    if meaning is None and abs(factor - 1) < 1e-3:
        return None  # left to the rules for small differences
    return f"factor {factor:.4g}{meaning or _plain(factor, case)}"


def _plain(factor: float, case: _Case) -> str:
    """Return what can be said of a factor that is no dimension's."""
    text = " on every entry: a constant missing or doubled"
    exponent = np.log2(abs(factor))
    if abs(exponent) >= 7 and abs(exponent - round(exponent)) < 1e-6:
        return f" = 2^{round(exponent)} on every entry: a loss scale not removed?"
    sizes = {**case.dimensions, **{f"the size of axis {i}": n for i, n in enumerate(case.a.shape)}}
    for name, n in sizes.items():
        count = round(factor * n)
        if 1 <= count < n <= 1000 and abs(factor * n - count) < 1e-6:
            return f" = {count}/{n}{text}, or {name} where a count of {count} belongs"
    return f"{text} (a keep probability, a slope, a number of devices)"


def _meaning(factor: float, case: _Case) -> str | None:
    """Return " = name: cause" for a factor that has one."""
    near = 2 * case.noise / max(np.linalg.norm(case.n), 1e-300) / max(abs(factor), 1e-9)
    near = max(1e-6, float(near))
    if near > 1e-3:
        return None
    names, cause = [], ""
    for value, name, why in _candidates(case):
        if abs(abs(factor) / value - 1) < near and name not in names:
            names.append(name)
            cause = cause or why
    size = 1 / abs(factor)
    if not names and (unnamed := _unnamed(factor, near, case)):
        return unnamed
    if factor < 0:
        cause = f"sign flipped; {cause}" if cause else "sign flipped"
    if not names and abs(factor + 1) >= near:
        return None
    if size > 2 and abs(size - round(size)) < near * size:
        names.insert(0, f"1/{round(size)}")
    elif names and abs(factor) == round(abs(factor)) > 2:
        names.insert(0, f"{round(abs(factor))}")
    sign = "−" if factor < 0 else ""
    shown = [f"{sign}{name}" for name in dict.fromkeys(names) if name != f"{abs(factor):.4g}"]
    return "".join(f" = {name}" for name in shown) + f": {cause}"


def _unnamed(factor: float, near: float, case: _Case) -> str | None:
    """Return " = 1/n: cause" where some axis of the program, no argument's, has n entries."""
    flipped = "sign flipped; " if factor < 0 else ""
    inverse = "−1/" if factor < 0 else "1/"
    for value, sign, cause in (
        (abs(factor), None, "a sum where a mean belongs"),
        (1 / abs(factor), inverse, "a mean where a sum belongs, or divided once too often"),
    ):
        n = round(value)
        if n > 2 and n in case.sizes and abs(value / n - 1) < near:
            shown = f" = {sign}{n}" if sign else ""
            return f"{shown}: {flipped}{cause} (f has an axis of {n}: its batch?)"
    return None


def _candidates(case: _Case) -> Iterator[tuple[float, str, str]]:
    yield 2.0, "2", "counted twice, or the ½ of a square forgotten"
    yield 0.5, "1/2", "the 2 of a square forgotten, or a ½ too many"
    axes = {f"the size of axis {i}": n for i, n in enumerate(case.a.shape) if n > 1}
    axes = {name: n for name, n in axes.items() if n not in case.dimensions.values()}
    single = [*case.dimensions.items(), *axes.items()]
    for name, n in single:
        yield n, name, "a sum where a mean belongs, or multiplied once too often"
        yield 1 / n, f"1/{name}", "a mean where a sum belongs, or divided once too often"
    for name, n in single:
        if n > 2:
            yield n**0.5, f"√{name}", "a scale 1/√n missing or inverted"
            yield n**-0.5, f"1/√{name}", "a scale 1/√n once too often"
            yield n / (n - 1), f"{name}/({name} − 1)", "n − 1 where n belongs"
            yield (n - 1) / n, f"({name} − 1)/{name}", "n where n − 1 belongs"
    for (name, n), (other, m) in itertools.combinations(case.dimensions.items(), 2):
        yield n * m, f"{name}·{other}", "a sum where a mean over both belongs"
        yield 1 / (n * m), f"1/({name}·{other})", "a mean over both where a sum belongs"


def _partial_factor(case: _Case) -> str | None:
    """a = ρ·n on part of the entries, and right or 0 on the others."""
    both = (case.a != 0) & (np.abs(case.n) > case.bound)
    ratio = np.divide(case.a, case.n, out=np.ones_like(case.a), where=both)
    odd = both & case.wrong
    if odd.sum() < 3:
        return None
    factor = float(np.median(ratio[odd]))
    scaled = odd & case.is_multiple(factor)
    if scaled.sum() < 3 or (odd & ~scaled).any() or abs(factor - 1) < 1e-3:
        return None
    share, place = f"{scaled.mean():.0%} of the entries", _where(scaled)
    rest = case.wrong & ~odd
    if rest.any():
        if case.a[rest].all() and _totals_agree(case):
            return f"factor {factor:.4g} on {share}, the rest spread over others that should be 0"
        return (
            f"factor {factor:.4g} on {share}, {_zeros(case, rest)}: another mask, or the keep "
            f"probability (1/{factor:.4g} = {1 / factor:.4g})"
        )
    if abs(factor + 1) < 1e-6:
        return f"sign flipped on {share}{place}, the others right"
    cause = "" if place else ": a leaky slope, a keep probability, or a mask that scales"
    return f"factor {factor:.4g} on {share}{place}, the others right{cause}"


def _zero_set(case: _Case) -> str | None:
    lost = case.a == 0
    extra = np.abs(case.n) <= case.bound
    if (case.wrong & ~lost & ~extra).any():
        return None
    place = _where(case.wrong)
    if case.wrong.sum() == 1:
        kind = _zeros(case, case.wrong).replace(" in 1", "")
        return f"1 of {case.a.size} entries wrong{place}: {kind}"
    return f"{_zeros(case, case.wrong)}{place}, the others right: a mask, routing or index differs"


def _zeros(case: _Case, wrong: np.ndarray) -> str:
    """Return in how many of the wrong entries only one of the two is 0."""
    lost = int((wrong & (case.a == 0)).sum())
    extra = int(wrong.sum()) - lost
    texts = [f"0 in {lost} where the reference is not"] if lost else []
    texts += [f"not 0 in {extra} where the reference is"] if extra else []
    return " and ".join(texts)


def _transpose(case: _Case) -> str | None:
    shape = case.a.shape
    for i, j in itertools.combinations(range(case.a.ndim), 2):
        if shape[i] == shape[j] > 1 and case.same(case.a, np.swapaxes(case.n, i, j)):
            return "transposed" if case.a.ndim == 2 else f"axes {i} and {j} swapped"
    return None


def _moved(case: _Case) -> str | None:
    """Reversed or shifted by one along an axis."""
    long = [i for i, n in enumerate(case.a.shape) if n > 2]
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(long, count):
            if case.same(case.a, np.flip(case.n, axes)):
                return f"reversed along axis {_listed(axes)}: a kernel or a sequence not flipped"
    for axis, step in itertools.product(long, (1, -1)):
        if case.same(case.a, np.roll(case.n, step, axis)):
            return f"shifted by {step} along axis {axis}: an index off by one"
    return None


def _permuted(case: _Case) -> str | None:
    if not case.same(np.sort(case.a, axis=None), np.sort(case.n, axis=None)):
        return None
    if case.wrong.sum() == 2:
        first, second = (_index(i) for i in np.argwhere(case.wrong).tolist())
        return f"the entries {first} and {second} are swapped, the others right"
    return (
        f"the same values in other places ({case.wrong.sum()} of {case.a.size} moved): "
        f"a gather, argmax, sort or reshape with another index order"
    )


def _l2(case: _Case) -> str | None:
    if case.parameter is None or case.a.size < 3 or np.ptp(case.parameter) == 0:
        return None
    factor = _slope(case.d, case.parameter)
    if factor == 0 or not case.same(case.d, factor * case.parameter, slack=2.0):
        return None
    return _penalty(case, factor, "parameter", "an L2 term", "missing, or half of one")


def _l1(case: _Case) -> str | None:
    if case.parameter is None or case.a.size < 3:
        return None
    sign = np.sign(case.parameter)
    factor = _slope(case.d, sign)
    if (
        factor == 0
        or abs(sign.sum()) == sign.size
        or not case.same(case.d, factor * sign, slack=2.0)
    ):
        return None
    return _penalty(case, factor, "sign(parameter)", "an L1 term", "missing")


def _penalty(case: _Case, factor: float, of: str, term: str, missing: str) -> str:
    """Name a term of the loss that the gradient lacks or has once too often, by its sign."""
    extra = "counted twice, or one that the loss does not have"
    if not case.cotangent:  # weights of either sign: which of the two it is cannot be told
        return f"difference in proportion to {of}: {term} {missing}, {extra}"
    factor /= case.cotangent
    sign, kind = ("−", missing) if factor < 0 else ("", extra)
    return f"difference = {sign}{abs(factor):.4g}·{of}: {term} {kind}"


def _constant(case: _Case) -> str | None:
    if case.a.size < 3 or not case.wrong.all():
        return None
    constant = [
        axis
        for axis, n in enumerate(case.a.shape)
        if n > 1 and case.same(case.d, np.mean(case.d, axis, keepdims=True) + 0 * case.d, slack=2.0)
    ]
    if not constant:
        return None
    names = [f"{axis}{_name(case, axis)}" for axis in constant]
    return (
        f"the difference is constant along axis {_listed(names)}: a mean or sum term missing, "
        f"doubled, or of another axis"
    )


def _statistics(case: _Case) -> str | None:
    """d = α + β·x in each row or column: the terms that mean and variance add in a backward."""
    if case.parameter is None:
        return None
    for axis in range(case.a.ndim):
        if case.a.shape[axis] < 4 or case.a.size == case.a.shape[axis]:
            continue
        d, x = (np.moveaxis(array, axis, -1) for array in (case.d, case.parameter))
        x = x - x.mean(-1, keepdims=True)
        slope = (d * x).sum(-1, keepdims=True) / np.maximum((x * x).sum(-1, keepdims=True), 1e-300)
        if case.same(d, d.mean(-1, keepdims=True) + slope * x, slack=2.0):
            return (
                f"the difference is α + β·parameter along axis {axis}{_name(case, axis)}: a "
                f"normalisation's mean or variance term missing or wrong"
            )
    return None


def _per_channel(case: _Case) -> str | None:
    """a = ρ_i·n, one factor ρ_i an index of an axis."""
    for axis, n in enumerate(case.a.shape):
        if n < 2 or case.a.size // n < 2:
            continue
        a, r = (np.moveaxis(array, axis, 0).reshape(n, -1) for array in (case.a, case.n))
        factors = (a * r).sum(1) / np.maximum((r * r).sum(1), 1e-300)
        if (np.count_nonzero(r, axis=1) < 2).all() or not case.same(a, factors[:, None] * r):
            continue
        live = factors[np.count_nonzero(r, axis=1) > 0]
        if np.isclose(live, 1, rtol=1e-7).mean() >= 0.5 or abs(live - 1).max() < 1e-3:
            continue  # left to the rules for a few rows, and for small differences
        return (
            f"one factor an index of axis {axis}{_name(case, axis)}, from {live.min():.4g} to "
            f"{live.max():.4g}: a scale a channel (gamma) or a weight a sample missing or squared"
        )
    return None


def _confined(case: _Case) -> str | None:
    place = _where(case.wrong)
    if not place:
        return None
    count = case.wrong.sum()
    if count == 1:
        i = tuple(np.argwhere(case.wrong)[0].tolist())
        return (
            f"1 of {case.a.size} entries wrong{place}: {case.a[i]:.6g} where {case.n[i]:.6g} "
            f"belongs, factor {case.a[i] / case.n[i]:.4g}"
        )
    return (
        f"{count} of {case.a.size} entries wrong, all{place}: an index, a class, padding, or "
        f"duplicates that overwrite"
    )


def _same_total(case: _Case) -> str | None:
    """The sums agree, over everything or along one axis: spread otherwise."""
    if case.a.size < 3 or not _totals_agree(case):
        return None
    return (
        "the same total, distributed otherwise: summed over another axis, or spread or routed "
        "to other entries (ties of a maximum, pooling)"
    )


def _totals_agree(case: _Case) -> bool:
    got, expected = np.array([case.a.sum()]), np.array([case.n.sum()])
    # Both may be 0 by the nature of the function: that says nothing.
    large = abs(expected[0]) > 1e-2 * np.abs(case.n).sum()
    return bool(large and case.same(got, expected, case.a.size**0.5))


def _rounding(case: _Case) -> str | None:
    """Errors of random sign, of one size relative to the entry or to the leaf."""
    if case.a.size < 16 or abs(_cosine(case.d, case.n)) > 0.5:
        return None
    live = case.n != 0
    error = float(np.median(np.abs(case.d[live] / case.n[live])))
    for bits, unit, name in _FORMATS:
        if error < 16 * unit and (_rounded(case.a, bits) == case.a).all():
            return f"every entry is a {name} number, off by {error:.1e}: computed or stored in it"
    if error > 2**-5:
        return None
    for unit, name in _LEVELS:
        if error > unit / 4:
            return (
                f"differences of random sign, relative size {error:.1e}: reduced precision {name}"
            )
    return None


_FORMATS = (
    (8, 2.0**-8, "bfloat16"),
    (11, 2.0**-11, "float16 (or TF32)"),
    (24, 2.0**-24, "float32"),
)
_LEVELS = (
    (2.0**-8, "(bfloat16?), or inputs that differ a little (weights after the update)"),
    (2.0**-12, "(TF32 or float16?), or an approximation in place of the function (GELU by tanh)"),
    (2.0**-25, "(float32?)"),
)


def _small(case: _Case) -> str | None:
    """A small smooth difference: a constant like eps."""
    error = np.linalg.norm(case.d) / np.linalg.norm(case.n)
    if not 1e-9 < error < 1e-3:
        return None
    return (
        f"relative difference {error:.1e}: a small constant (the eps of a square root or a "
        f"normalisation) left out, or not the same in both; or an approximation"
    )


def _otherwise(case: _Case) -> str:
    cosine = _cosine(case.a, case.n)
    ratio = np.linalg.norm(case.a) / np.linalg.norm(case.n)
    signs = np.mean(np.sign(case.a) != np.sign(case.n))
    text = f"{case.wrong.sum()} of {case.a.size} entries wrong: norm ratio {ratio:.4g}"
    if case.a.size > 1:
        text += f", cosine {cosine:.4g}"
    text += f", sign differs in {signs:.0%}"
    if case.a.size >= 16 and abs(cosine) < 0.1:
        text += "; hardly related: another tensor, axis or step?"
    return text


RULES: tuple[Callable[[_Case], str | None], ...] = (
    _zero,
    _factor,
    _transpose,
    _moved,
    _permuted,
    _l2,
    _l1,
    _zero_set,
    _partial_factor,
    _constant,
    _per_channel,
    _statistics,
    _confined,
    _rounding,
    _small,
    _same_total,
    _otherwise,
)
"""The first that has something to say wins; NaN and inf come before all of them."""


def _slope(y: np.ndarray, x: np.ndarray) -> float:
    """Return the least-squares ρ of y = ρ·x, 0 for x = 0."""
    x, y = x.ravel(), y.ravel()
    largest = np.abs(x).max(initial=0)
    if largest == 0:
        return 0.0
    x = x / largest  # squares of gradients of 1e-200 underflow
    return float(x @ y / (x @ x) / largest)


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    x, y = (array.ravel() / np.abs(array).max() for array in (x, y))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """Return x rounded to so many bits of mantissa."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def _where(wrong: np.ndarray) -> str:
    """Return " at ..." if the wrong entries are few, or fill few indices of an axis; else ""."""
    if wrong.size >= 20 and wrong.sum() <= min(5, wrong.size / 10):
        return f" at {_listed([_index(i) for i in np.argwhere(wrong).tolist()])}"
    best = None
    for axis, n in enumerate(wrong.shape):
        hit = np.flatnonzero(wrong.any(axis=tuple(i for i in range(wrong.ndim) if i != axis)))
        if n > 2 and 3 * len(hit) <= n and (best is None or len(hit) / n < best[0]):
            best = len(hit) / n, axis, hit.tolist()
    if best is None or (wrong.ndim < 2 and wrong.size < 20):
        return ""
    _, axis, hit = best
    more = f" and {len(hit) - 5} more" if len(hit) > 5 else ""
    return f" at index {_listed(hit[:5])}{more} of axis {axis}"


def _index(position: Sequence[int]) -> str:
    return f"[{', '.join(map(str, position))}]"


def _listed(items: Sequence[object]) -> str:
    *head, last = map(str, items)
    return f"{', '.join(head)} and {last}" if head else last


def _name(case: _Case, axis: int) -> str:
    names = [name for name, n in case.dimensions.items() if n == case.a.shape[axis]]
    return f" ({' or '.join(names)})" if names else ""
