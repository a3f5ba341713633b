"""All right gradients that naive checks accuse."""

from benchmarks.gradcheck_zoo.arguments import ODD
from benchmarks.gradcheck_zoo.kinks import KINKS
from benchmarks.gradcheck_zoo.row import Case
from benchmarks.gradcheck_zoo.scales import SCALES

CASES: tuple[Case, ...] = (*KINKS, *SCALES, *ODD)
