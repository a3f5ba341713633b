"""A gradient checker that decides by error bounds: PASS, FAIL, KINK or INCONCLUSIVE."""

from jaxnet.gradcheck.check import assert_grads as assert_grads
from jaxnet.gradcheck.check import check_grads as check_grads
from jaxnet.gradcheck.report import Entry as Entry
from jaxnet.gradcheck.report import ExactCheck as ExactCheck
from jaxnet.gradcheck.report import GradientReport as GradientReport
from jaxnet.gradcheck.report import LeafReport as LeafReport
