"""The report of a run: one HTML file that shows everything and needs no other file."""

from jaxnet.report.page import available as available, write_report as write_report
from jaxnet.report.publishing import publish as publish
