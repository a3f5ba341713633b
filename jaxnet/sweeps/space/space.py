"""Spaces of configurations: a grid, a random draw, or a list written out.

A space is data: it expands to a list of settings, one dict a configuration, in a fixed order, and
it can be written to and read from TOML and JSON (`to_dict`, `space_from_dict`).
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.arguments.checks import LARGEST, number, shown, whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown

Settings = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Every combination of the axes' values; the last axis varies fastest."""

    axes: Mapping[str, Sequence[Any]]

    @property
    def count(self) -> int:
        """How many configurations there are."""
        return math.prod(map(len, self.axes.values()))

    def settings(self, seed: int) -> list[Settings]:
        """Return one dict a configuration; the seed is not used."""
        combinations = itertools.product(*self.axes.values())
        return [dict(zip(self.axes, values, strict=True)) for values in combinations]

    def to_dict(self) -> dict[str, Any]:
        """Return {"grid": {axis: values}}."""
        return {"grid": {name: list(values) for name, values in self.axes.items()}}


@dataclass(frozen=True)
class Distribution:
    """How one hyperparameter is drawn: `kind` is a name in `DISTRIBUTIONS`."""

    kind: str
    arguments: tuple[Any, ...]

    def draw(self, generator: np.random.Generator) -> Any:
        """Return one value."""
        return DISTRIBUTIONS[self.kind](generator, *self.arguments)


@dataclass(frozen=True)
class Random:
    """`count` independent draws; an axis that is no Distribution is a constant."""

    count: int
    axes: Mapping[str, Any]

    def settings(self, seed: int) -> list[Settings]:
        """Return one dict a configuration; more draws with the same seed extend the list."""
        generator = np.random.default_rng(seed)
        return [
            {
                name: axis.draw(generator) if isinstance(axis, Distribution) else axis
                for name, axis in self.axes.items()
            }
            for _ in range(self.count)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return {"random": {"count": n, axis: {kind: arguments} or constant}}."""
        axes = {
            name: {axis.kind: list(axis.arguments)} if isinstance(axis, Distribution) else axis
            for name, axis in self.axes.items()
        }
        return {"random": {"count": self.count, **axes}}


@dataclass(frozen=True)
class Listed:
    """The configurations one by one."""

    configurations: Sequence[Mapping[str, Any]]

    @property
    def count(self) -> int:
        """How many configurations there are."""
        return len(self.configurations)

    def settings(self, seed: int) -> list[Settings]:
        """Return them as they are; the seed is not used."""
        return [dict(settings) for settings in self.configurations]

    def to_dict(self) -> dict[str, Any]:
        """Return {"configuration": [settings]}."""
        return {"configuration": self.settings(0)}


Space = Grid | Random | Listed


def grid(**axes: Any) -> Grid:
    """Return the grid of these axes: a list of values each, or one value for all.

    `hidden` takes a list of nets, each a list of widths or, for one hidden layer, a number.

    >>> space = grid(learning_rate=[1e-1, 1e-2], hidden=[[80], [160, 80]], optimizer="adam")
    >>> len(space.settings(seed=0)), space.settings(seed=0)[1]["hidden"]
    (4, [160, 80])
    """
    lists = {}
    for name, values in axes.items():
        if getattr(values, "ndim", 0):
            values = values.tolist()  # an array, NumPy's or JAX's
        elif isinstance(values, Iterator | Set):
            raise ConfigurationError(
                f"{name}: expected a list of values or one value, got {shown(values)}, which has "
                f"no order or can be read once only: write list(...)"
            )
        elif isinstance(values, str | bytes) or not isinstance(values, Sequence):
            values = [values]  # one value: a constant
        elif isinstance(values, tuple) and hasattr(values, "_fields"):
            values = [values]  # a named tuple, such as an optax optimizer, is a value
        if len(values) == 0:
            raise ConfigurationError(
                f"the grid is empty: axis {name} has no values. Give it one, or remove it"
            )
        lists[name] = list(values)
    if not lists:
        raise ConfigurationError(
            "the grid is empty: give it an axis, such as learning_rate = [1e-2, 1e-3]"
        )
    return Grid(lists)


@checked
def random_draws(count: int, **axes: Any) -> Random:
    """Return `count` random configurations of these axes: distributions, or constants.

    >>> space = random_draws(3, learning_rate=log_uniform(1e-4, 1e-1), hidden=choice([80], [160]))
    >>> [settings["hidden"] for settings in space.settings(seed=0)]
    [[160], [80], [80]]
    """
    count = whole("count", count, 1)
    if not axes:
        raise ConfigurationError(
            "the random space has no axes: give it one, such as "
            "learning_rate = {log_uniform = [1e-4, 1e-1]}"
        )
    return Random(count, axes)


@checked
def uniform(low: float | int, high: float | int) -> Distribution:
    """Return the uniform distribution on [low, high)."""
    return _distribution("uniform", (low, high))


@checked
def log_uniform(low: float | int, high: float | int) -> Distribution:
    """Return the distribution on [low, high) whose logarithm is uniform; both ends positive."""
    return _distribution("log_uniform", (low, high))


@checked
def normal(mean: float | int, deviation: float | int) -> Distribution:
    """Return the normal distribution."""
    return _distribution("normal", (mean, deviation))


@checked
def integers(low: int, high: int) -> Distribution:
    """Return the uniform distribution on low, low + 1, ..., high."""
    return _distribution("integers", (low, high))


@checked
def log_integers(low: int, high: int) -> Distribution:
    """Return the distribution on low, ..., high with probability about 1/value: for widths."""
    return _distribution("log_integers", (low, high))


def choice(*values: Any) -> Distribution:
    """Return the distribution that takes each value as often."""
    return _distribution("choice", values)


def _log_integer(generator: np.random.Generator, low: int, high: int) -> int:
    drawn = math.exp(generator.uniform(math.log(low), math.log(high + 1)))
    return min(int(drawn), high)


DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "uniform": lambda generator, low, high: float(generator.uniform(low, high)),
    "log_uniform": lambda generator, low, high: math.exp(
        generator.uniform(math.log(low), math.log(high))
    ),
    "normal": lambda generator, mean, deviation: float(generator.normal(mean, deviation)),
    "integers": lambda generator, low, high: int(generator.integers(low, high, endpoint=True)),
    "log_integers": _log_integer,
    "choice": lambda generator, *values: values[int(generator.integers(len(values)))],
}


def _distribution(kind: str, arguments: Sequence[Any]) -> Distribution:
    arguments = tuple(arguments)
    if kind == "choice":
        if not arguments:
            raise ConfigurationError("choice needs at least one value to choose from")
        return Distribution(kind, arguments)
    if len(arguments) != 2:
        raise ConfigurationError(f"{kind}: expected two numbers, got {shown(list(arguments))}")
    ends = ("mean", "deviation") if kind == "normal" else ("low", "high")
    take = (lambda *given: whole(*given, lowest=-LARGEST)) if kind.endswith("integers") else number
    low, high = (take(f"{kind}: {end}", a) for end, a in zip(ends, arguments, strict=True))
    arguments = low, high
    if kind == "normal":
        if high < 0:
            raise ConfigurationError(f"normal: expected a deviation ≥ 0, got {high}")
    elif low > high:
        raise ConfigurationError(f"{kind}: the low end {low} is above the high end {high}")
    if kind.startswith("log_") and low <= 0:
        raise ConfigurationError(f"{kind}: both ends must be positive, got {low}")
    if kind == "uniform" and not math.isfinite(high - low):
        raise ConfigurationError(f"uniform: the ends {low:g} and {high:g} are too far apart")
    return Distribution(kind, arguments)


SPACES = ("grid", "random", "configuration")


def space_from_dict(spec: Mapping[str, Any]) -> Space:
    """Return the space that a TOML or JSON file describes under one of the keys of SPACES.

    >>> space_from_dict({"random": {"count": 2, "l2": {"uniform": [0, 1]}, "norm": "batch"}}).count
    2
    """
    given = [kind for kind in SPACES if kind in spec]
    if len(given) != 1:
        raise ConfigurationError(
            f"expected one of [grid], [random] or [[configuration]], got {given or 'none'}"
        )
    (kind,) = given
    body = spec[kind]
    if kind == "configuration":
        if not isinstance(body, Sequence) or not all(isinstance(c, Mapping) for c in body):
            raise ConfigurationError("write configurations as tables: [[configuration]]")
        if not body:
            raise ConfigurationError("the list of configurations is empty")
        return Listed(body)
    if not isinstance(body, Mapping):
        raise ConfigurationError(f"write [{kind}] as a table of axes, got {shown(body)}")
    if kind == "grid":
        return grid(**body)
    axes = {name: _axis_from_dict(name, axis) for name, axis in body.items() if name != "count"}
    if "count" not in body:
        raise ConfigurationError("[random] needs a count, such as count = 100")
    return random_draws(body["count"], **axes)


def _axis_from_dict(name: str, axis: Any) -> Any:
    if not isinstance(axis, Mapping):
        if isinstance(axis, list) and name != "hidden":
            raise ConfigurationError(
                f"random axis {name}: to choose among values write {{choice = {axis}}}"
            )
        return axis
    if len(axis) != 1:
        raise ConfigurationError(
            f"random axis {name}: expected one distribution, such as "
            f"{{log_uniform = [1e-4, 1e-1]}}, got {dict(axis)}"
        )
    ((kind, arguments),) = axis.items()
    if kind not in DISTRIBUTIONS:
        raise ConfigurationError(unknown(f"distribution for {name}", kind, DISTRIBUTIONS))
    if not isinstance(arguments, list):
        raise ConfigurationError(
            f"random axis {name}: expected {kind} = [...], got {shown(arguments)}"
        )
    return _distribution(kind, arguments)
