"""The likely cause of a wrong gradient, by rules on its difference from the right one.

A hint is a guess and worded as one. `RULES` has the most specific rules first, and the first rule
with an answer wins.
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from jaxnet.gradcheck.hints.difference import Difference
from jaxnet.gradcheck.hints.factors import factor_rule, partial_factor_rule, per_channel_rule
from jaxnet.gradcheck.hints.positions import (
    confined_rule,
    moved_rule,
    not_finite_rule,
    permuted_rule,
    same_total_rule,
    transpose_rule,
    zero_rule,
    zero_set_rule,
)
from jaxnet.gradcheck.hints.sizes import otherwise_rule, rounding_rule, small_rule
from jaxnet.gradcheck.hints.terms import constant_rule, l1_rule, l2_rule, statistics_rule


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
    factor may come from, `sizes` are further sizes without a name, and `bound` is the absolute
    error of the reference, one number or one for each entry. `cotangent` is the weight of the
    scalar loss, which multiplies terms of its own such as an L2 term; None if f returns no scalar.

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
    case = Difference(
        a=manual,
        n=reference,
        bound=bound,
        parameter=parameter,
        dimensions=named,
        cotangent=cotangent,
        sizes=frozenset(sizes),
    )
    with np.errstate(all="ignore"):
        if text := not_finite_rule(case):
            return text
        if not case.wrong.any():
            return None
        return next(text for rule in RULES if (text := rule(case)))


RULES: tuple[Callable[[Difference], str | None], ...] = (
    zero_rule,
    factor_rule,
    transpose_rule,
    moved_rule,
    permuted_rule,
    l2_rule,
    l1_rule,
    zero_set_rule,
    partial_factor_rule,
    constant_rule,
    per_channel_rule,
    statistics_rule,
    confined_rule,
    rounding_rule,
    small_rule,
    same_total_rule,
    otherwise_rule,
)
"""The first rule with an answer wins; NaN and inf are asked for before."""
