"""When runs are looked at on their way, and what a callback is then told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jaxnet.sweeps.space.stopping import StoppingRule


@dataclass(frozen=True)
class Timetable:
    """When to look at runs: `steps` in all, evaluations after these, a loss every `stride`.

    The rule `stop`, if any, is asked at each evaluation.
    """

    steps: int
    evaluations: tuple[int, ...]
    stride: int
    stop: StoppingRule | None = None


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
