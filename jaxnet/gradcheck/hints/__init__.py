"""The likely cause of a wrong gradient."""

from jaxnet.gradcheck.hints.rules import RULES as RULES, hint as hint
