"""Wrong gradients that a checker must catch, and right ones that it must not accuse."""

from benchmarks.gradcheck_zoo.bugs import BUGS
from benchmarks.gradcheck_zoo.cases import CASES
from benchmarks.gradcheck_zoo.row import Bug, Case, cast

__all__ = ["BUGS", "CASES", "Bug", "Case", "cast"]
