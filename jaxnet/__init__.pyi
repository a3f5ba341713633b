from . import data as data, layers as layers, losses as losses, optimizers as optimizers
from . import plots as plots, schedules as schedules, sweeps as sweeps
from .compose import (
    as_custom_vjp as as_custom_vjp,
    as_function as as_function,
    concat as concat,
    residual as residual,
    serial as serial,
)
from .configuration import Configuration as Configuration, configure as configure
from .errors import (
    ConfigurationError as ConfigurationError,
    DataError as DataError,
    JaxnetError as JaxnetError,
    RunFolderError as RunFolderError,
)
from .models import (
    fully_connected as fully_connected,
    loss_and_grad as loss_and_grad,
    two_layer as two_layer,
)
from .network import Network as Network
from .sweeps.results import SweepResult as SweepResult
from .sweeps.space import (
    choice as choice,
    grid as grid,
    integers as integers,
    log_integers as log_integers,
    log_uniform as log_uniform,
    normal as normal,
    random_draws as random_draws,
    uniform as uniform,
)
from .sweeps.sweep import sweep as sweep, train as train
