"""When runs are looked at on their way, and what a callback is then told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """When to look at runs: `steps` in all, evaluations after these, a loss every `stride`.

    `patience`: stop a run whose validation accuracy has not risen for so many evaluations.
    """

    steps: int
    evaluations: tuple[int, ...]
    stride: int
    patience: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """What a callback is told of each evaluation of networks that train together.

    One entry per network still running: `ids` (places in the space), `settings`, the `loss` of
    the last minibatch and the `val_accuracy`; all after `step` of `steps` updates.
    """

    ids: list[int]
    settings: list[dict[str, Any]]
    step: int
    steps: int
    loss: list[float]
    val_accuracy: list[float]


Callback = Callable[[Evaluation], Iterable[int] | None]
"""It is told of each evaluation of each chunk, and may return ids to cut."""
