"""What a run says is wrong, in numbers, and which setting to change."""

from jaxnet.diagnosis.diagnose import (
    diagnose as diagnose,
    diagnose_row as diagnose_row,
    diagnose_rows as diagnose_rows,
)
from jaxnet.diagnosis.finding import Diagnosis as Diagnosis, Finding as Finding
