import importlib
import sys

import pytest

import jaxnet.cs231n
from jaxnet.errors import ConfigurationError

MODULES = """layers layer_utils fast_layers optim solver gradient_check data_utils vis_utils
    features classifiers classifiers.neural_net classifiers.fc_net classifiers.cnn
    classifiers.softmax classifiers.linear_svm
    classifiers.linear_classifier classifiers.k_nearest_neighbor"""


@pytest.fixture
def copy(monkeypatch):
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    jaxnet.cs231n.stand_in_for("daseCV")
    return "daseCV"


@pytest.mark.parametrize("module", MODULES.split())
def test_every_module_of_the_course_is_there_under_the_other_name(copy, module):
    ours = importlib.import_module(f"jaxnet.cs231n.{module}")
    assert importlib.import_module(f"{copy}.{module}") is ours


def test_star_imports_bring_what_notebooks_take_from_them(copy):
    names = {}
    exec(f"from {copy}.classifiers.fc_net import *", names)
    exec(f"from {copy}.classifiers.cnn import *", names)
    assert {"FullyConnectedNet", "TwoLayerNet", "affine_forward", "svm_loss", "np"} <= names.keys()
    assert {"affine_relu_forward", "conv_forward_fast", "ThreeLayerConvNet"} <= names.keys()
    # A notebook's own names are safe from ours.
    assert not {"layers", "labels", "numpy", "losses", "compiled"} & names.keys()


def test_a_module_that_is_not_there_is_missed_under_the_name_asked_for(copy):
    with pytest.raises(ModuleNotFoundError, match=r"daseCV\.rnn_layers"):
        importlib.import_module(f"{copy}.rnn_layers")


def test_what_is_no_name_of_a_package_is_refused():
    with pytest.raises(ConfigurationError, match="name of a package, say 'cs231n', got 'my copy'"):
        jaxnet.cs231n.stand_in_for("my copy")
