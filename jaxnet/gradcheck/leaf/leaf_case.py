"""A leaf and its gradients by hand and by autodiff."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.gradcheck.numeric.norms import rms, scale


@dataclass
class Case:
    """A leaf with the gradients to be compared, in float64."""

    subject: Any
    number: int
    manual: np.ndarray
    autodiff: np.ndarray | None
    spread: np.ndarray | float = 0.0  # of autodiff under changes of the last bits of the point
    omitted: bool = False
    noise: float = 0.0  # of f, as it was measured
    length: float = 0.0  # on which f changes, where that was found to be more than the leaf's scale

    @property
    def leaf(self) -> Any:
        """Return the leaf."""
        return self.subject.problem.arguments.leaves[self.number]

    @property
    def unit(self) -> float:
        """Return the rounding unit."""
        return self.subject.program.unit

    @property
    def coarse(self) -> str | None:
        """Say to what f rounds inside, where that is far above the unit of the check."""
        program = self.subject.program
        if program.lowest_unit <= 1e3 * program.unit:
            return None
        return (
            f"f rounds to {program.lowest_unit:.0e} inside, so that its values are stairs: "
            f"differences cannot tell"
        )

    def differences(self) -> np.ndarray:
        """Return |manual − autodiff| beyond what rounding explains, by flat entry."""
        if self.autodiff is None:
            return np.zeros(self.manual.size)
        a, b = self.manual.ravel(), self.autodiff.ravel()
        size = rms(b)
        allowed = 64 * self.unit * (abs(b) + size) + 8 * np.ravel(self.spread)
        point = np.asarray(self.subject.program.variables[self.number], np.float64)
        allowed = allowed + 8 * self.noise / max(scale(point), self.length)
        with np.errstate(invalid="ignore"):  # infinite entries are told by leaf
            return np.where(abs(a - b) > allowed, abs(a - b), 0.0)
