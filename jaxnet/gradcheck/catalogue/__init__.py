"""The table of all layers, losses, networks and update rules that `jaxnet gradcheck` proves."""

from jaxnet.gradcheck.catalogue.row import DTYPES as DTYPES, Row as Row
from jaxnet.gradcheck.catalogue.table import catalogue as catalogue, without_row as without_row
