"""The options of a check that say how hard it looks."""

from dataclasses import dataclass

from jaxnet.arguments.checks import shown, whole
from jaxnet.errors import ConfigurationError, unknown

MODES = ("directional", "sampled", "full")


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How many lines are measured, of which kind, and with which random numbers."""

    mode: str = "directional"
    directions: int = 8
    samples: int = 32
    seed: int = 0
    order: int = 1
    expected: str | None = None

    def __post_init__(self):
        if self.mode not in MODES:
            raise ConfigurationError(unknown("mode", str(self.mode), MODES))
        if self.directions < 1 or self.samples < 1:
            raise ConfigurationError(
                f"expected at least one direction and sample, got directions={self.directions}, "
                f"samples={self.samples}"
            )
        if self.order not in (1, 2):
            raise ConfigurationError(f"order expects 1 or 2, got {self.order}")
        if self.expected not in (None, "surrogate"):
            raise ConfigurationError(
                f'expected= is None or "surrogate", got {shown(self.expected)}'
            )
        whole("seed", self.seed)
