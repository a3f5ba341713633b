"""How many steps to take in one call of a compiled loop."""

from jaxnet.training.program import MOST_STEPS


class Pace:
    """Steps of the next call, so that each takes about so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self) -> None:
        """Begin with one step: the first call compiles, and tells nothing of a step's time."""
        self.steps, self._compiled = 1, False

    def took(self, steps: int, seconds: float) -> None:
        """Note how long a call took."""
        wanted = steps * self._seconds / max(seconds, 1e-6) if self._compiled else 4
        self.steps = min(MOST_STEPS, max(1, int(wanted)))
        self._compiled = True
