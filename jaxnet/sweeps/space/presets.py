"""Sweeps by name: the course's grid, the three CIFAR-10 grids of our sources, and a small net of
convolutions with its learning rates.
"""

import math

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Grid

# The course's first net: two layers, relu, weights of deviation 1e-4, plain SGD, the rate times
# 0.95 an epoch, pixels minus the mean image.
_COURSE = {
    "init": "normal",
    "init_scale": 1e-4,
    "preprocessing": "mean_image",
    "optimizer": "sgd",
    "schedule": "exponential",
    "decay": 0.95,
}
_COURSE_GRID = Grid(
    {
        "learning_rate": [1e-1, 1e-2, 1e-3, 1e-4],
        "l2": [1e-1, 1e-2, 1e-3, 1e-4],
        "batch_size": [200, 400, 800],
        "hidden": [[80], [160], [320]],
    }
)

# The source's sweep: Adam, 5 epochs of 32 batches, each of all images in another order, the rate
# times e^−0.05 an epoch.
_INCEPTION = {
    "architecture": "inception_resnet",
    "init": "glorot",
    "optimizer": "adam",
    "batch_size": 32,
    "sampling": "shuffled",
}

PRESETS: dict[str, Job] = {
    # An epoch of the embedded images is a few steps: 0.95 an epoch would stop all learning.
    "default": Job(_COURSE_GRID, settings={**_COURSE, "decay": 1.0}),
    "cifar10-144": Job(_COURSE_GRID, data="cifar10", steps=2000, validation=1000, settings=_COURSE),
    "cifar10-45": Job(
        Grid(
            {
                "hidden": [[75], [100], [125]],
                "learning_rate": [7e-4, 8e-4, 9e-4, 10e-4, 11e-4],
                "l2": [0.75, 1.0, 1.25],
            }
        ),
        data="cifar10",
        steps=1500,
        validation=1000,
        settings={**_COURSE, "batch_size": 200},
    ),
    "cifar10-24": Job(
        Grid(
            {
                "hidden": [[100], [200]],
                "learning_rate": [1e-4, 5e-4, 1e-3],
                "l2": [0.2, 0.25, 0.35, 0.4],
            }
        ),
        data="cifar10",
        steps=5000,
        validation=1000,
        settings={**_COURSE, "batch_size": 500},
    ),
    # The single run that the course makes before its grids.
    "cifar10-first": Job(
        Grid({"hidden": [[50]], "learning_rate": [1e-4], "l2": [0.25]}),
        data="cifar10",
        steps=1000,
        validation=1000,
        settings={**_COURSE, "batch_size": 200},
    ),
    "fashion-inception": Job(
        Grid({"learning_rate": [0.001, 0.005, 0.01, 0.05, 0.1]}),
        steps=160,
        train=1000,
        validation=1000,
        replicates=8,
        evaluations=5,
        settings={
            **_INCEPTION,
            "preprocessing": "unit_range",
            "schedule": "exponential",
            "decay": math.exp(-0.05),
        },
    ),
    # More out of the same data: normalization, images mirrored and shifted, three times as long.
    # The mean image only: pixels that hardly vary would be blown up by their deviation, and batch
    # normalization sets the scale.
    "fashion-inception-better": Job(
        Grid({"learning_rate": [0.005]}),
        steps=480,
        train=1000,
        validation=1000,
        replicates=8,
        evaluations=5,
        settings={
            **_INCEPTION,
            "schedule": "one_cycle",
            "preprocessing": "mean_image",
            "norm": "batch",
            "flip": 0.5,
            "shift": 2,
        },
    ),
}


@checked
def find_preset(name: str) -> Job:
    """Return the job of that name in PRESETS, or raise ConfigurationError with the near match."""
    if name not in PRESETS:
        raise ConfigurationError(unknown("preset", name, PRESETS))
    return PRESETS[name]
