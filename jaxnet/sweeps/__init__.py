"""Sweeps: a space of configurations, trained as few compiled programs, ranked and kept."""

import importlib

from jaxnet.sweeps.planning.plan import Plan as Plan
from jaxnet.sweeps.planning.plan_job import plan_job as plan_job
from jaxnet.sweeps.results.rows import Row as Row
from jaxnet.sweeps.results.sweep_result import SweepResult as SweepResult
from jaxnet.sweeps.run.cluster import Ray as Ray
from jaxnet.sweeps.run.optuna_sampler import OptunaSampler as OptunaSampler
from jaxnet.sweeps.run.search import RandomSearch as RandomSearch, Sampler as Sampler
from jaxnet.sweeps.space.halving import Halving as Halving
from jaxnet.sweeps.space.job import Job as Job, job_from_dict as job_from_dict, read_job as read_job
from jaxnet.sweeps.space.presets import PRESETS as PRESETS, find_preset as find_preset
from jaxnet.sweeps.space.space import (
    choice as choice,
    grid as grid,
    integers as integers,
    log_integers as log_integers,
    log_uniform as log_uniform,
    normal as normal,
    random_draws as random_draws,
    uniform as uniform,
)

_VERBS = ("sweep", "plan", "train", "run_job", "search", "optimize")


def __getattr__(name: str) -> object:
    """Return a verb: verbs stand above this package, whose parts they put together."""
    if name in _VERBS:
        return getattr(importlib.import_module("jaxnet.verbs"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
