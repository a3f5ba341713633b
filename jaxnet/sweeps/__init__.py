"""Sweeps: a space of configurations, trained as few compiled programs, ranked and kept."""

from jaxnet.sweeps.cluster import Ray as Ray
from jaxnet.sweeps.halving import Halving as Halving
from jaxnet.sweeps.job import Job as Job
from jaxnet.sweeps.job import job_from_dict as job_from_dict
from jaxnet.sweeps.job import read_job as read_job
from jaxnet.sweeps.optuna_sampler import OptunaSampler as OptunaSampler
from jaxnet.sweeps.plan import Plan as Plan
from jaxnet.sweeps.planning import plan_job as plan_job
from jaxnet.sweeps.presets import PRESETS as PRESETS
from jaxnet.sweeps.presets import find_preset as find_preset
from jaxnet.sweeps.results import SweepResult as SweepResult
from jaxnet.sweeps.rows import Row as Row
from jaxnet.sweeps.search import RandomSearch as RandomSearch
from jaxnet.sweeps.search import Sampler as Sampler
from jaxnet.sweeps.space import (
    choice as choice,
)
from jaxnet.sweeps.space import (
    grid as grid,
)
from jaxnet.sweeps.space import (
    integers as integers,
)
from jaxnet.sweeps.space import (
    log_integers as log_integers,
)
from jaxnet.sweeps.space import (
    log_uniform as log_uniform,
)
from jaxnet.sweeps.space import (
    normal as normal,
)
from jaxnet.sweeps.space import (
    random_draws as random_draws,
)
from jaxnet.sweeps.space import (
    uniform as uniform,
)
