"""The likely cause of a wrong gradient."""

from jaxnet.gradcheck.hints.rules import RULES as RULES
from jaxnet.gradcheck.hints.rules import hint as hint
