"""A gradient checker that decides by error bounds: PASS, FAIL, KINK or INCONCLUSIVE."""

from jaxnet.gradcheck.check import assert_grads as assert_grads, check_grads as check_grads
from jaxnet.gradcheck.report import (
    Entry as Entry,
    ExactCheck as ExactCheck,
    GradientReport as GradientReport,
    LeafReport as LeafReport,
)
