"""Sweeps: a space of configurations, trained as few compiled programs, ranked and kept."""

from jaxnet.sweeps.job import Job as Job, job_from_dict as job_from_dict, read_job as read_job
from jaxnet.sweeps.presets import PRESETS as PRESETS, find_preset as find_preset
from jaxnet.sweeps.results import Row as Row, SweepResult as SweepResult
from jaxnet.sweeps.space import (
    choice as choice,
    grid as grid,
    integers as integers,
    log_integers as log_integers,
    log_uniform as log_uniform,
    normal as normal,
    random_draws as random_draws,
    uniform as uniform,
)
from jaxnet.sweeps.sweep import run_job as run_job, sweep as sweep, train as train
