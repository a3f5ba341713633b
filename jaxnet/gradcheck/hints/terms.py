"""Rules for terms that a gradient lacks or has once too often: penalties, means, statistics."""

import numpy as np

from jaxnet.gradcheck.hints.difference import Difference, axis_name, join_words, slope_of


def l2_rule(case: Difference) -> str | None:
    """Recognize d = λ·θ: an L2 term."""
    if case.parameter is None or case.a.size < 3 or np.ptp(case.parameter) == 0:
        return None
    factor = slope_of(case.d, case.parameter)
    if factor == 0 or not case.same(case.d, factor * case.parameter, slack=2.0):
        return None
    return _penalty(case, factor, "parameter", "an L2 term", "missing, or half of one")


def l1_rule(case: Difference) -> str | None:
    """Recognize d = λ·sign(θ): an L1 term."""
    if case.parameter is None or case.a.size < 3:
        return None
    sign = np.sign(case.parameter)
    factor = slope_of(case.d, sign)
    if (
        factor == 0
        or abs(sign.sum()) == sign.size
        or not case.same(case.d, factor * sign, slack=2.0)
    ):
        return None
    return _penalty(case, factor, "sign(parameter)", "an L1 term", "missing")


def _penalty(case: Difference, factor: float, of: str, term: str, missing: str) -> str:
    """Name a term of the loss that the gradient lacks or has once too often, by its sign."""
    extra = "counted twice, or one that the loss does not have"
    if not case.cotangent:  # random weights hide the sign, and with it which of the two it is
        return f"difference in proportion to {of}: {term} {missing}, {extra}"
    factor /= case.cotangent
    sign, kind = ("−", missing) if factor < 0 else ("", extra)
    return f"difference = {sign}{abs(factor):.4g}·{of}: {term} {kind}"


def constant_rule(case: Difference) -> str | None:
    """Recognize a difference that does not depend on the index of an axis."""
    if case.a.size < 3 or not case.wrong.all():
        return None
    constant = [
        axis
        for axis, n in enumerate(case.a.shape)
        if n > 1 and case.same(case.d, np.mean(case.d, axis, keepdims=True) + 0 * case.d, slack=2.0)
    ]
    if not constant:
        return None
    names = [f"{axis}{axis_name(case, axis)}" for axis in constant]
    return (
        f"the difference is constant along axis {join_words(names)}: a mean or sum term missing, "
        f"doubled, or of another axis"
    )


def statistics_rule(case: Difference) -> str | None:
    """Recognize d = α + β·x along an axis: the terms of mean and variance in a backward pass."""
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
                f"the difference is α + β·parameter along axis {axis}{axis_name(case, axis)}: a "
                f"normalisation's mean or variance term missing or wrong"
            )
    return None
