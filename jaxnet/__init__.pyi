from . import (
    cs231n as cs231n,
    data as data,
    layers as layers,
    losses as losses,
    optimizers as optimizers,
    plots as plots,
    schedules as schedules,
    sweeps as sweeps,
)
from .compose import (
    as_custom_vjp as as_custom_vjp,
    as_function as as_function,
    concat as concat,
    residual as residual,
    serial as serial,
)
from .diagnosis import Diagnosis as Diagnosis, diagnose as diagnose
from .errors import (
    ConfigurationError as ConfigurationError,
    DataError as DataError,
    DataWarning as DataWarning,
    JaxnetError as JaxnetError,
    RunFolderError as RunFolderError,
)
from .gradcheck import (
    GradientReport as GradientReport,
    assert_grads as assert_grads,
    check_grads as check_grads,
)
from .models import (
    fully_connected as fully_connected,
    inception_resnet as inception_resnet,
    loss_and_grad as loss_and_grad,
    two_layer as two_layer,
)
from .report import write_report as write_report
from .sweeps.planning.plan import Plan as Plan
from .sweeps.results.sweep_result import SweepResult as SweepResult
from .sweeps.run.search import RandomSearch as RandomSearch
from .sweeps.space.halving import Halving as Halving
from .sweeps.space.space import (
    choice as choice,
    grid as grid,
    integers as integers,
    log_integers as log_integers,
    log_uniform as log_uniform,
    normal as normal,
    random_draws as random_draws,
    uniform as uniform,
)
from .sweeps.space.stopping import Patience as Patience
from .training.model import Model as Model
from .training.network import Network as Network
from .training.settings import Configuration as Configuration, configure as configure
from .values.named import named as named
from .verbs import (
    optimize as optimize,
    plan as plan,
    search as search,
    sweep as sweep,
    train as train,
)
