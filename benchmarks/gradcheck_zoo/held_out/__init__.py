"""Bugs and cases written when the checker was finished, and run once before it was changed.

The figures of that first run stand in benchmarks/README.md.
"""

from benchmarks.gradcheck_zoo.held_out import (
    algebra,
    attention,
    elementwise,
    losses,
    normalization,
    places,
    recurrence,
    sharing,
)
from benchmarks.gradcheck_zoo.held_out.cases import CASES as HELD_OUT_CASES
from benchmarks.gradcheck_zoo.row import Bug

HELD_OUT_BUGS: tuple[Bug, ...] = (
    *attention.BUGS,
    *recurrence.BUGS,
    *normalization.BUGS,
    *losses.BUGS,
    *algebra.BUGS,
    *elementwise.BUGS,
    *places.BUGS,
    *sharing.BUGS,
)

__all__ = ["HELD_OUT_BUGS", "HELD_OUT_CASES"]
