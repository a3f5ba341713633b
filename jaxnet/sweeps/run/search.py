"""Search by asking: a sampler proposes configurations, learns what became of them, and goes on."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxnet.arguments.checks import shown, whole
from jaxnet.errors import ConfigurationError
from jaxnet.host.progress import Reporter
from jaxnet.sweeps.results.rows import Row
from jaxnet.sweeps.space.space import Distribution, Random, Settings


@runtime_checkable
class Sampler(Protocol):
    """What `search` asks for configurations: any object with these two methods.

    They are called in turn. What is not told was never trained: the search was interrupted.
    """

    def ask(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Return the settings of the next `count` configurations; fewer, or none, to end."""
        ...

    def tell(self, rows: Sequence[Row]) -> None:
        """Learn what became of all that was asked for last, in that order.

        One row a configuration, diverged and cut ones included (`row.ok`, `row.outcome.status`);
        with replicates so many rows each, one after another.
        """
        ...


class RandomSearch:
    """Independent draws from a space, whose `count` is not used; told rows change nothing.

    The same seed asks for the same configurations in any number of batches, as
    `random_draws(...)` does in a sweep of that seed.

    >>> from jaxnet.sweeps import log_uniform, random_draws
    >>> space = random_draws(3, learning_rate=log_uniform(1e-4, 1e-1))
    >>> sampler = RandomSearch(space, seed=7)
    >>> [*sampler.ask(1), *sampler.ask(2)] == space.settings(seed=7)
    True
    """

    def __init__(self, space: Random, seed: int = 0) -> None:
        self._axes, self._generator = (
            checked_axes("RandomSearch", space),
            np.random.default_rng(whole("seed", seed)),
        )

    def ask(self, count: int) -> list[Settings]:
        """Return the next draws."""
        return [
            {
                name: axis.draw(self._generator) if isinstance(axis, Distribution) else axis
                for name, axis in self._axes.items()
            }
            for _ in range(count)
        ]

    def tell(self, rows: Sequence[Row]) -> None:
        """Learn nothing."""


def checked_axes(name: str, space: Any) -> Mapping[str, Any]:
    """Return the axes of a random space; ConfigurationError for any other."""
    if not isinstance(space, Random):
        raise ConfigurationError(
            f"{name} draws from random_draws(count, learning_rate=log_uniform(1e-4, 1e-1), ...), "
            f"got {type(space).__name__}: every one of a grid or a list trains by sweep(space)"
        )
    return space.axes


def asked_of(sampler: Sampler, count: int) -> list[Settings]:
    """Return what a sampler asks for next; ConfigurationError if that is no list of settings."""
    asked = sampler.ask(count)
    if not isinstance(asked, Sequence) or not all(isinstance(one, Mapping) for one in asked):
        raise ConfigurationError(
            f"ask({count}) of the sampler should return a list of dicts of settings, such as "
            f"[{{'learning_rate': 0.01}}], got {shown(asked)}"
        )
    return [dict(settings) for settings in asked]


class Share(Reporter):
    """Tells a bar that counts trials of the work of a round of so many."""

    def __init__(self, bar: Reporter, work: float, trials: int) -> None:
        self._bar, self._each = bar, trials / work if work else 0.0
        if not work:
            bar.advance(trials)  # all was known

    def advance(self, work: float) -> None:
        """Move the bar on by the trials that this work makes."""
        self._bar.advance(work * self._each)

    def say(self, text: str) -> None:
        """Show a line behind the bar."""
        self._bar.say(text)
