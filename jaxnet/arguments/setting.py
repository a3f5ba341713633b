"""One setting of a run as a row of a table: what it takes, its default, and what it does."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from jaxnet.arguments.checks import flag, held, number, one_of, shown, whole
from jaxnet.errors import ConfigurationError

MOST_LAYERS = 1000
MOST_ROWS = 2**31 - 1  # rows, columns and steps are counted in int32


@dataclass(frozen=True)
class Setting:
    """A setting by what it does (`help`), the `kind` of its value and its default.

    Kinds: float, int, bool, str (a name among `choices`), tuple (widths of layers), object (a
    Python object only). A number lies from `low` to below `high`, or to `high` itself if `closed`.
    None is a value where it is the default. `applies_to` lists the names that use the setting,
    where no row of a table of rules says so. `own`: it describes jaxnet's own networks and their
    loss, and is of no use with a model of the user's.
    """

    help: str
    kind: type = float
    default: Any = 0.0
    choices: Collection[str] = ()
    low: float | int = 0
    high: float | int = math.inf
    closed: bool = False
    applies_to: Collection[str] = ()
    own: bool = False

    def take(self, name: str, value: Any) -> Any:
        """Return the plain value, or raise ConfigurationError with the name and what is wrong.

        >>> Setting("share of units", high=1).take("dropout", 1.5)
        Traceback (most recent call last):
        jaxnet.errors.ConfigurationError: dropout: expected a value in [0, 1), got 1.5
        """
        if value is None and self.default is None:
            return None
        if self.kind is str:
            return one_of(name, value, self.choices)
        if self.kind is int:
            return whole(name, value, int(self.low), int(self.high))
        checks = {bool: flag, tuple: _widths, float: self._number}
        return checks[self.kind](name, value) if self.kind in checks else value

    @property
    def range(self) -> str:
        """The interval of a number, as an error shows it."""
        return f"[{self.low:g}, {self.high:g}{']' if self.closed else ')'}"

    def _number(self, name: str, value: Any) -> float:
        value = held(value)
        try:
            real = isinstance(value, Real) and not isinstance(value, bool)
            taken = float(value if real else number(name, value))
        except OverflowError:  # an integer of hundreds of digits
            taken = math.inf
        if not (self.low <= taken < self.high or (self.closed and taken == self.high)):
            raise ConfigurationError(
                f"{name}: expected a value in {self.range}, got {shown(value)}"
            )
        return taken


def _widths(name: str, hidden: Any) -> tuple[int, ...]:
    hidden = held(hidden)
    if isinstance(hidden, Integral) and not isinstance(hidden, bool):
        hidden = [hidden]  # one hidden layer
    if getattr(hidden, "ndim", 0):
        hidden = hidden.tolist()  # an array, NumPy's or JAX's
    if isinstance(hidden, str | bytes) or not isinstance(hidden, Sequence):
        raise ConfigurationError(
            f"{name}: expected the widths of the hidden layers, such as [80] or [160, 80]; "
            f"got {shown(hidden)}"
        )
    if len(hidden) > MOST_LAYERS:
        raise ConfigurationError(
            f"{name}: expected at most {MOST_LAYERS} layers, got {len(hidden)}: each is compiled"
        )
    return tuple(whole(name, width, 1, MOST_ROWS) for width in hidden)
