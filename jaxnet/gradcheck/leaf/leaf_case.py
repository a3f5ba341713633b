"""One leaf with the gradients to be compared: by hand, and by autodiff or a reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.gradcheck.numeric.norms import rms, scale


@dataclass(kw_only=True)
class LeafCase:
    """One leaf of the subject with its gradients in float64."""

    subject: Any
    number: int
    manual: np.ndarray
    autodiff: np.ndarray | None
    spread: np.ndarray | float = 0.0  # change of autodiff with the last bits of the point
    omitted: bool = False  # the hand-written function returned None for this leaf
    noise: float = 0.0  # measured noise of f
    length: float = 0.0  # the length on which f changes, where it is more than the leaf's scale

    @property
    def leaf(self) -> Any:
        """Return the leaf."""
        return self.subject.problem.arguments.leaves[self.number]

    @property
    def roundoff(self) -> float:
        """Return the unit roundoff of the check."""
        return self.subject.program.roundoff

    @property
    def coarse(self) -> str | None:
        """Say to what f rounds inside, where that is far coarser than the check itself."""
        program = self.subject.program
        if program.coarsest_roundoff <= 1e3 * program.roundoff:
            return None
        return (
            f"f rounds to {program.coarsest_roundoff:.0e} inside, so that its values are stairs: "
            f"differences cannot tell"
        )

    def differences(self) -> np.ndarray:
        """Return |manual − autodiff| beyond what rounding explains, by flat entry."""
        if self.autodiff is None:
            return np.zeros(self.manual.size)
        a, b = self.manual.ravel(), self.autodiff.ravel()
        # The leaf's size counts beside the entry's: entries are sums over the same terms, so what
        # cancels in one of them leaves rounding of the terms' size.
        allowed = 64 * self.roundoff * (abs(b) + rms(b)) + 8 * np.ravel(self.spread)
        point = np.asarray(self.subject.program.variables[self.number], np.float64)
        allowed = allowed + 8 * self.noise / max(scale(point), self.length)
        with np.errstate(invalid="ignore"):  # infinite entries are judged by leaf
            return np.where(abs(a - b) > allowed, abs(a - b), 0.0)
