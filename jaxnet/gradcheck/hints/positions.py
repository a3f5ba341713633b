"""Rules for entries that are missing, moved, or wrong at a few positions only."""

import itertools

import numpy as np

from jaxnet.gradcheck.hints.difference import (
    Difference,
    index_text,
    join_words,
    totals_agree,
    where_wrong,
    zeros_text,
)


def not_finite_rule(case: Difference) -> str | None:
    """Name NaN or infinity in either of the two."""
    for name, array in (("gradient", case.a), ("reference", case.n)):
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(np.argwhere(bad)[0].tolist())
            what = "NaN" if np.isnan(array[first]) else "inf"
            count = f"{bad.sum()} of {bad.size} entries of the {name} are not finite"
            return f"{count}, the first {what} at {index_text(first)}: 0/0, log 0, or an overflow"
    return None


def zero_rule(case: Difference) -> str | None:
    """Recognize a gradient that is zero altogether, or should be."""
    if not case.a.any():
        return "the gradient is zero: leaf forgotten, or cut off by stop_gradient"
    if (np.abs(case.n) <= case.bound).all():
        return "the reference is zero: the function does not depend on this leaf, or stops it"
    return None


def zero_set_rule(case: Difference) -> str | None:
    """Recognize wrong entries that are 0 in one of the two: a mask."""
    lost = case.a == 0
    extra = np.abs(case.n) <= case.bound
    if (case.wrong & ~lost & ~extra).any():
        return None
    where = where_wrong(case.wrong)
    if case.wrong.sum() == 1:
        kind = zeros_text(case, case.wrong).replace(" in 1", "")
        return f"1 of {case.a.size} entries wrong{where}: {kind}"
    return (
        f"{zeros_text(case, case.wrong)}{where}, the others right: a mask, routing or index differs"
    )


def transpose_rule(case: Difference) -> str | None:
    """Recognize a = n with two axes exchanged."""
    shape = case.a.shape
    for i, j in itertools.combinations(range(case.a.ndim), 2):
        if shape[i] == shape[j] > 1 and case.same(case.a, np.swapaxes(case.n, i, j)):
            return "transposed" if case.a.ndim == 2 else f"axes {i} and {j} swapped"
    return None


def moved_rule(case: Difference) -> str | None:
    """Recognize n reversed, or shifted by one, along an axis."""
    long = [i for i, n in enumerate(case.a.shape) if n > 2]
    for count in range(1, len(long) + 1):
        for axes in itertools.combinations(long, count):
            if case.same(case.a, np.flip(case.n, axes)):
                return f"reversed along axis {join_words(axes)}: a kernel or a sequence not flipped"
    for axis, step in itertools.product(long, (1, -1)):
        if case.same(case.a, np.roll(case.n, step, axis)):
            return f"shifted by {step} along axis {axis}: an index off by one"
    return None


def permuted_rule(case: Difference) -> str | None:
    """Recognize the same values at other positions."""
    if not case.same(np.sort(case.a, axis=None), np.sort(case.n, axis=None)):
        return None
    if case.wrong.sum() == 2:
        first, second = (index_text(i) for i in np.argwhere(case.wrong).tolist())
        return f"the entries {first} and {second} are swapped, the others right"
    return (
        f"the same values at other positions ({case.wrong.sum()} of {case.a.size} moved): "
        f"a gather, argmax, sort or reshape with another index order"
    )


def confined_rule(case: Difference) -> str | None:
    """Recognize wrong entries that are few, or fill few indices of an axis."""
    where = where_wrong(case.wrong)
    if not where:
        return None
    count = case.wrong.sum()
    if count == 1:
        i = tuple(np.argwhere(case.wrong)[0].tolist())
        return (
            f"1 of {case.a.size} entries wrong{where}: {case.a[i]:.6g} where {case.n[i]:.6g} "
            f"belongs, factor {case.a[i] / case.n[i]:.4g}"
        )
    return (
        f"{count} of {case.a.size} entries wrong, all{where}: an index, a class, padding, or "
        f"duplicates that overwrite"
    )


def same_total_rule(case: Difference) -> str | None:
    """Recognize sums that agree, with another distribution over the entries."""
    if case.a.size < 3 or not totals_agree(case):
        return None
    return (
        "the same total, distributed otherwise: summed over another axis, or spread or routed "
        "to other entries (ties of a maximum, pooling)"
    )
