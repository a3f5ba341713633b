"""Successive halving and Hyperband: train many a little, cut, and train the best for longer.

Jamieson and Talwalkar 2016; Li et al. 2018. All networks of a rung train in lockstep, so the cut
is synchronous: nothing is promoted early by luck of the order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.arguments.checks import number, whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError

ALL = 100  # brackets: as many as there are rungs


@dataclass(frozen=True)
class Halving:
    """At each rung keep the best 1/`eta` and train them `eta` times as long, to the last step.

    `first` is the length of the first rung in steps (default: the last rung is the fourth or, for
    few steps or configurations, an earlier one). `brackets` > 1 is Hyperband: the configurations
    are dealt out among brackets that begin at later rungs, as a hedge against configurations that
    start slowly; bracket s has of the order of eta^(rungs−s) of them for each that it finishes.
    """

    eta: float | int = 3
    first: int | None = None
    brackets: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", number("halving: eta", self.eta, 1, above=True))
        for name in ("first", "brackets"):
            value = getattr(self, name)
            if name == "brackets" or value is not None:
                object.__setattr__(self, name, whole(f"halving: {name}", value, 1))

    @checked
    def rungs(self, steps: int, configurations: int) -> list[int]:
        """Return the steps after which to cut, and the last step.

        >>> Halving(eta=3).rungs(2700, 144)
        [100, 300, 900, 2700]
        """
        if self.first is not None and self.first >= steps:
            raise ConfigurationError(
                f"halving: the first rung of {self.first} steps should be below the {steps} steps "
                f"of the whole run"
            )
        first, rungs = self.first, [steps]
        most = 3 if first is None else math.inf
        while len(rungs) <= most and configurations // self.eta ** len(rungs) >= 1:
            before = round(steps / self.eta ** len(rungs))
            if before < (first or 1) or before >= rungs[0]:
                break
            rungs.insert(0, before)
        return rungs

    def deal(self, configurations: int, steps: int, seed: int) -> list["Bracket"]:
        """Return the brackets of so many configurations."""
        rungs = self.rungs(steps, configurations)
        starts = range(min(self.brackets, len(rungs)))
        # Hyperband's proportions: all brackets cost about the same.
        weights = [self.eta ** (len(rungs) - 1 - s) / (len(rungs) - s) for s in starts]
        order = np.arange(configurations)
        if len(weights) > 1:
            order = np.random.default_rng(seed).permutation(configurations)
        ends = np.round(np.cumsum(weights) / sum(weights) * configurations).astype(int)
        parts = np.split(order, ends[:-1])
        return [
            Bracket(tuple(rungs[s:]), tuple(sorted(int(i) for i in part)))
            for s, part in zip(starts, parts, strict=True)
            if len(part)
        ]

    def survivors(self, count: int) -> int:
        """Return how many of `count` go on to the next rung."""
        return max(1, int(count / self.eta))

    def to_dict(self) -> dict[str, Any]:
        """Return what `halving_from` reads; unset parts are left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Bracket:
    """Configurations that are cut together, and the rungs of steps at which."""

    rungs: tuple[int, ...]
    ids: tuple[int, ...]


def halving_from(value: Any) -> Halving | None:
    """Return the halving that a setting describes: None, eta, a table of its parts, or itself."""
    if value is None or isinstance(value, Halving):
        return value
    if isinstance(value, dict):
        known = Halving.__dataclass_fields__
        for name in value:
            if name not in known:
                raise ConfigurationError(
                    f"halving: unknown key {name!r}. Known: {', '.join(known)}"
                )
        return Halving(**value)
    return Halving(value)


def plain_work(steps: int, brackets: Sequence[Bracket], halving: Halving) -> float:
    """Return the steps of all networks together, as a share of training each to the end."""
    work = total = 0
    for bracket in brackets:
        alive, before = len(bracket.ids), 0
        total += alive * steps
        for rung in bracket.rungs:
            work += alive * (rung - before)
            alive, before = halving.survivors(alive), rung
    return work / total
