from . import cs231n as cs231n
from . import data as data
from . import layers as layers
from . import losses as losses
from . import optimizers as optimizers
from . import plots as plots
from . import schedules as schedules
from . import sweeps as sweeps
from .compose import (
    as_custom_vjp as as_custom_vjp,
)
from .compose import (
    as_function as as_function,
)
from .compose import (
    concat as concat,
)
from .compose import (
    residual as residual,
)
from .compose import (
    serial as serial,
)
from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .errors import (
    ConfigurationError as ConfigurationError,
)
from .errors import (
    DataError as DataError,
)
from .errors import (
    DataWarning as DataWarning,
)
from .errors import (
    JaxnetError as JaxnetError,
)
from .errors import (
    RunFolderError as RunFolderError,
)
from .gradcheck import (
    GradientReport as GradientReport,
)
from .gradcheck import (
    assert_grads as assert_grads,
)
from .gradcheck import (
    check_grads as check_grads,
)
from .models import (
    fully_connected as fully_connected,
)
from .models import (
    inception_resnet as inception_resnet,
)
from .models import (
    loss_and_grad as loss_and_grad,
)
from .models import (
    two_layer as two_layer,
)
from .report import write_report as write_report
from .sweeps.halving import Halving as Halving
from .sweeps.plan import Plan as Plan
from .sweeps.results import SweepResult as SweepResult
from .sweeps.search import RandomSearch as RandomSearch
from .sweeps.space import (
    choice as choice,
)
from .sweeps.space import (
    grid as grid,
)
from .sweeps.space import (
    integers as integers,
)
from .sweeps.space import (
    log_integers as log_integers,
)
from .sweeps.space import (
    log_uniform as log_uniform,
)
from .sweeps.space import (
    normal as normal,
)
from .sweeps.space import (
    random_draws as random_draws,
)
from .sweeps.space import (
    uniform as uniform,
)
from .training.model import Model as Model
from .training.network import CustomNetwork as CustomNetwork
from .training.network import Network as Network
from .training.settings import Configuration as Configuration
from .training.settings import configure as configure
from .values.named import named as named
from .verbs import optimize as optimize
from .verbs import plan as plan
from .verbs import search as search
from .verbs import sweep as sweep
from .verbs import train as train
