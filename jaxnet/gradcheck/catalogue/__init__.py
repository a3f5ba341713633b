"""Everything of jaxnet's own that is to be proved."""

from jaxnet.gradcheck.catalogue.row import DTYPES as DTYPES, Row as Row
from jaxnet.gradcheck.catalogue.table import catalogue as catalogue, without_row as without_row
