"""What a run says is wrong, in numbers, and which setting to change."""

from jaxnet.diagnosis.diagnose import diagnose as diagnose
from jaxnet.diagnosis.diagnose import diagnose_row as diagnose_row
from jaxnet.diagnosis.diagnose import diagnose_rows as diagnose_rows
from jaxnet.diagnosis.finding import Diagnosis as Diagnosis
from jaxnet.diagnosis.finding import Finding as Finding
