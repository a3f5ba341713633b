"""The options of what a user calls, each stated once: as a field of `Job` or of `RunOptions`."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxnet.arguments.checks import one_of, whole
from jaxnet.arguments.signatures import check_fields, checked
from jaxnet.data import DataSet
from jaxnet.sweeps.planning.plan_job import check_budget
from jaxnet.sweeps.results.replicates import STATISTICS
from jaxnet.sweeps.run.cluster import Ray, check_alone, ray_from
from jaxnet.sweeps.space.halving import Halving
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Listed, Space
from jaxnet.sweeps.space.stopping import StoppingRule, take_rule
from jaxnet.sweeps.stacks.timetable import Callback


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a job is carried out and what is kept of it: none of it decides a result.

    `out`: the run folder; with `beside`, out-2, out-3, ... where `out` holds another run. `keep`:
    the networks of how many settings are kept (None: all), ranked by their "mean" or "median" over
    seeds (`select`). What trains together takes at most `memory` bytes, divided among so many
    `devices`, or `on` a Ray cluster. `progress` shows a bar. `callback(Evaluation)` is called at
    each evaluation, and may return ids to cut.
    """

    out: Path | str | None = None
    beside: bool = False
    keep: int | None = 1
    select: str = "mean"
    memory: float | int | None = None
    devices: int | None = None
    on: str | Ray | None = None
    progress: bool = False
    callback: Callback | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.keep is not None:
            whole("keep", self.keep, 1)
        one_of("statistic", self.select, STATISTICS)
        check_budget(self.memory)
        if self.cluster is not None:
            check_alone(callback=self.callback, devices=self.devices)

    @property
    def cluster(self) -> Ray | None:
        """The cluster to train on, if any."""
        return ray_from(self.on)


class Asked(NamedTuple):
    """What a user asks for beside the space and the data: what decides a job, and what does not."""

    job: Mapping[str, Any]
    run: RunOptions
    settings: Mapping[str, Any]

    def job_of(self, space: Space | Sequence[Mapping[str, Any]], data: DataSet) -> Job:
        """Return the job of a space, or of a list of settings."""
        space = space if isinstance(space, Space) else Listed(space)
        job = dict(self.job)
        if isinstance(eta := job.get("halving"), float | int):
            job["halving"] = Halving(eta)
        settings = dict(self.settings)
        job["stop"] = take_rule(settings, job.get("stop"))
        return Job(space, data.name, settings=settings, **job)


_NO_OPTIONS = ("space", "data", "settings", "ids", "identities")
# What a job takes beside the types of its fields: the eta of a halving, {name: fields} of a rule.
_ALSO = {
    "halving": Halving | float | int | None,
    "stop": StoppingRule | Mapping[str, Any] | None,
}
R = TypeVar("R")


def takes_options(
    *, job: bool = True, without: Sequence[str] = ()
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a function the options of a run, and of a job with its settings, as keywords.

    The function takes them as `asked`; `without` names those that it has no use for.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        own = inspect.signature(function)
        of_job = {name: p for name, p in _options(Job).items() if job and name not in without}
        of_run = {name: p for name, p in _options(RunOptions).items() if name not in without}
        parameters = [p for p in own.parameters.values() if p.name != "asked"]
        parameters += [*of_job.values(), *of_run.values()]
        if job:
            parameters.append(
                inspect.Parameter("settings", inspect.Parameter.VAR_KEYWORD, annotation=Any)
            )
        signature = own.replace(parameters=parameters)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            given = signature.bind(*args, **kwargs).arguments
            asked = Asked(
                {name: given.pop(name) for name in of_job if name in given},
                RunOptions(**{name: given.pop(name) for name in of_run if name in given}),
                given.pop("settings", {}),
            )
            return function(**given, asked=asked)

        vars(call)["__signature__"] = signature
        return checked(call)

    return decorate


def _options(of: type) -> dict[str, inspect.Parameter]:
    """Return the fields of a dataclass as parameters that are given by name."""
    parameters = inspect.signature(of).parameters.values()
    return {
        p.name: p.replace(
            kind=inspect.Parameter.KEYWORD_ONLY, annotation=_ALSO.get(p.name, p.annotation)
        )
        for p in parameters
        if p.name not in _NO_OPTIONS
    }
