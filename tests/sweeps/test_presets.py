"""The presets are the grids of the issue, value by value; a wrong name is met with the near one."""

import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import PRESETS, find_preset

COURSE = {
    "learning_rate": [1e-1, 1e-2, 1e-3, 1e-4],
    "l2": [1e-1, 1e-2, 1e-3, 1e-4],
    "batch_size": [200, 400, 800],
    "hidden": [[80], [160], [320]],
}
ISSUE = {
    "default": (144, COURSE, None, None),
    "cifar10-144": (144, COURSE, 2000, None),
    "cifar10-45": (
        45,
        {
            "hidden": [[75], [100], [125]],
            "learning_rate": [7e-4, 8e-4, 9e-4, 1e-3, 1.1e-3],
            "l2": [0.75, 1, 1.25],
        },
        1500,
        200,
    ),
    "cifar10-24": (
        24,
        {
            "hidden": [[100], [200]],
            "learning_rate": [1e-4, 5e-4, 1e-3],
            "l2": [0.2, 0.25, 0.35, 0.4],
        },
        5000,
        500,
    ),
    "cifar10-first": (1, {"hidden": [[50]], "learning_rate": [1e-4], "l2": [0.25]}, 1000, 200),
}


def test_the_presets_are_those_of_the_issue():
    assert set(PRESETS) == {*ISSUE, "fashion-inception", "fashion-inception-better"}


def test_the_net_of_convolutions_is_swept_as_its_source_did():
    job = find_preset("fashion-inception")
    assert job.space.axes == {"learning_rate": [0.001, 0.005, 0.01, 0.05, 0.1]}
    assert (job.data, job.train, job.validation) == ("fashion-mnist-mini", 1000, 1000)
    assert (job.steps, job.replicates) == (160, 8)  # 5 epochs of 32 batches
    said = job.configurations()[0].to_dict()
    assert (said["architecture"], said["optimizer"]) == ("inception_resnet", "adam")
    assert (said["batch_size"], said["schedule"]) == (32, "exponential")
    assert said["decay"] == pytest.approx(0.951229424500714)  # e^−0.05
    better = find_preset("fashion-inception-better")
    assert (better.train, better.validation) == (1000, 1000)  # within the same data
    assert better.configurations()[0].structure.uses_augmentation


@pytest.mark.parametrize("name", ISSUE)
def test_a_preset_is_what_the_issue_says(name):
    count, axes, steps, batch = ISSUE[name]
    job = find_preset(name)
    assert {n: sorted(v) for n, v in job.space.axes.items()} == {
        n: sorted(v) for n, v in axes.items()
    }
    configurations = job.configurations()
    assert len(configurations) == len(set(map(repr, configurations))) == count
    assert job.data == ("fashion-mnist-mini" if name == "default" else "cifar10")
    if steps is not None:
        assert (job.steps, job.validation, job.train) == (steps, 1000, None)
    for configuration in configurations:
        said = configuration.to_dict()
        assert said["batch_size"] == batch or batch is None
        assert (
            said.items()
            >= {
                "activation": "relu",
                "norm": "none",
                "loss": "softmax",
                "init": "normal",
                "init_scale": 1e-4,
                "optimizer": "sgd",
                "schedule": "exponential",
                "decay": 1.0 if name == "default" else 0.95,
                "preprocessing": "mean_image",
                "dropout": 0.0,
                "precision": "float32",
            }.items()
        )
        assert len(said["hidden"]) == 1


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("cifar-144", "cifar10-144"), ("cifar10_24", "cifar10-24"), ("defalt", "default")],
)
def test_an_unknown_preset_names_the_near_one(wrong, near):
    with pytest.raises(
        ConfigurationError, match=f"unknown preset '{wrong}': .*'{near}'.*cifar10-45"
    ):
        find_preset(wrong)
