"""Rules for multiples of the right gradient, on all entries or on some."""

import itertools
from collections.abc import Iterator

import numpy as np

from jaxnet.gradcheck.hints.difference import (
    Difference,
    axis_name,
    slope_of,
    totals_agree,
    where_wrong,
    zeros_text,
)


def factor_rule(case: Difference) -> str | None:
    """Recognize a = ρ·n."""
    factor = slope_of(case.a, case.n)
    if factor == 0 or not case.same(case.a, factor * case.n):
        return None
    meaning = _meaning(factor, case)
    if np.count_nonzero(case.n) < 2 and meaning is None:
        return None  # one number is always a multiple of another
    if meaning is None and abs(factor - 1) < 1e-3:
        return None  # left to the rules for small differences
    return f"factor {factor:.4g}{meaning or _plain(factor, case)}"


def _plain(factor: float, case: Difference) -> str:
    """Describe a factor that belongs to no dimension."""
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


def _meaning(factor: float, case: Difference) -> str | None:
    """Return " = name: cause" for a factor with a known cause."""
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


def _unnamed(factor: float, near: float, case: Difference) -> str | None:
    """Return " = 1/n: cause" where some axis inside the program has n entries."""
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


def _candidates(case: Difference) -> Iterator[tuple[float, str, str]]:
    """Yield factors with their names and causes, the likeliest first."""
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


def partial_factor_rule(case: Difference) -> str | None:
    """Recognize a = ρ·n on part of the entries, right or 0 on the others."""
    both = (case.a != 0) & (np.abs(case.n) > case.bound)
    ratio = np.divide(case.a, case.n, out=np.ones_like(case.a), where=both)
    odd = both & case.wrong
    if odd.sum() < 3:
        return None
    factor = float(np.median(ratio[odd]))
    scaled = odd & case.is_multiple(factor)
    if scaled.sum() < 3 or (odd & ~scaled).any() or abs(factor - 1) < 1e-3:
        return None
    share, where = f"{scaled.mean():.0%} of the entries", where_wrong(scaled)
    rest = case.wrong & ~odd
    if rest.any():
        if case.a[rest].all() and totals_agree(case):
            return f"factor {factor:.4g} on {share}, the rest spread over others that should be 0"
        return (
            f"factor {factor:.4g} on {share}, {zeros_text(case, rest)}: another mask, or the keep "
            f"probability (1/{factor:.4g} = {1 / factor:.4g})"
        )
    if abs(factor + 1) < 1e-6:
        return f"sign flipped on {share}{where}, the others right"
    cause = "" if where else ": a leaky slope, a keep probability, or a mask that scales"
    return f"factor {factor:.4g} on {share}{where}, the others right{cause}"


def per_channel_rule(case: Difference) -> str | None:
    """Recognize a = ρ_i·n with one factor ρ_i for each index of an axis."""
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
            f"one factor an index of axis {axis}{axis_name(case, axis)}, from {live.min():.4g} to "
            f"{live.max():.4g}: a scale a channel (gamma) or a weight a sample missing or squared"
        )
    return None
