"""The likely cause of a wrong leaf: what the hints say of its difference."""

from collections.abc import Mapping

import numpy as np

from jaxnet.gradcheck.hints import hint
from jaxnet.gradcheck.leaf.leaf_case import LeafCase
from jaxnet.gradcheck.leaf.named_sizes import axis_sizes
from jaxnet.gradcheck.numeric.judge_lines import Findings

_MAX_SQUARABLE = 1e100  # squares of larger numbers, or of smaller than its inverse, overflow


def likely_cause(
    case: LeafCase,
    reference: np.ndarray | None,
    findings: Findings | None,
    dimensions: Mapping[str, int],
) -> str | None:
    """Return a hint at what is wrong with a gradient; `findings` bound a numeric reference."""
    if reference is None or not np.isfinite(reference).all():
        return None
    parameter = np.asarray(case.subject.program.variables[case.number], np.float64)
    bound = 64 * case.roundoff * float(np.max(abs(reference), initial=0.0))
    if reference is not case.autodiff and findings is not None:
        bound = max(bound, float(np.max(findings.bound)) / float(np.min(findings.lines.norms())))
    manual, cotangent = case.manual, _scalar_cotangent(case)
    size = float(max(np.max(abs(manual)), np.max(abs(reference))))
    if not 1 / _MAX_SQUARABLE < size < _MAX_SQUARABLE:
        manual, reference, bound = manual / size, reference / size, bound / size
        parameter = cotangent = None  # their sizes are other ones, so they explain nothing
    return hint(
        manual,
        reference,
        parameter=parameter,
        dimensions=dict(dimensions),
        bound=bound,
        cotangent=cotangent,
        sizes=axis_sizes(case.subject),
    )


def _scalar_cotangent(case: LeafCase) -> float | None:
    """Return the cotangent of a scalar loss, which is known; None for random weights of outputs."""
    cotangent = case.subject.program.cotangent
    single = len(cotangent) == 1 and np.size(cotangent[0]) == 1
    return float(np.ravel(cotangent[0])[0]) if single else None
