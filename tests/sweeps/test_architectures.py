"""An architecture is a row of a table: what a new one needs, and what the engine then does."""

import numpy as np
import pytest

import jaxnet
from jaxnet.arguments.setting import Setting
from jaxnet.compose import residual, serial
from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.catalogue import catalogue, without_row
from jaxnet.layers import activation, affine
from jaxnet.sweeps import grid
from jaxnet.training.architectures import ARCHITECTURES, HYPERPARAMETERS, Architecture
from jaxnet.training.settings import configure


def with_skip(classes, hidden, *, kind="relu", shortcut_scale=1.0, init_scale=1.0, **options):
    """Affine – activation – affine, plus an affine shortcut from the inputs to the scores."""

    def linear(outputs, scale=init_scale):
        return affine(outputs, scale=scale, **options)

    return residual(
        serial(linear(hidden), activation(kind), linear(classes)),
        linear(classes, init_scale * shortcut_scale),
    )


def build(net, hyperparameters, shapes, total, *, norm, dropout_rate, **common):
    scale = hyperparameters.values["shortcut_scale"]
    (hidden,) = net.hidden
    return with_skip(shapes.classes, hidden, kind=net.activation, shortcut_scale=scale, **common)


ROW = Architecture(
    build=build,
    settings=("hidden", "activation"),
    hyperparameters={"shortcut_scale": 0.5},
    small=lambda classes, norm: with_skip(classes, 4, kind="tanh"),
)
SETTINGS = {"architecture": "skip", "hidden": [5], "batch_size": 10, "learning_rate": 0.1}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "skip", ROW)
    row = Setting("factor on the initial weights of the shortcut", own=True)
    monkeypatch.setitem(HYPERPARAMETERS, "shortcut_scale", row)


def test_its_settings_are_taken_and_said_again():
    configuration = configure(**SETTINGS, shortcut_scale=0.25)
    said = configuration.to_dict()
    assert said.items() >= {"architecture": "skip", "hidden": (5,), "activation": "relu"}.items()
    assert said["shortcut_scale"] == 0.25
    assert configure(**said) == configuration
    assert configure(**SETTINGS).numbers["shortcut_scale"] == 0.5


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"shortcut_scale": 1.0},
            "shortcut_scale is used by architecture skip, not by 'fully_connected': remove it",
        ),
        (
            {"architecture": "skip", "flip": 0.5},
            "flip is used by architecture inception_resnet, not by 'skip'",
        ),
        ({"architecture": "skip", "shortcut_scale": -1.0}, "shortcut_scale: expected a value in"),
        ({"architecture": "skp"}, "did you mean 'skip'"),
        (
            {"architecture": "inception_resnet", "hidden": [5]},
            "hidden is no setting of .* choose architecture 'fully_connected' or 'skip'",
        ),
    ],
)
def test_its_settings_are_refused_elsewhere_and_others_here(settings, text):
    with pytest.raises(ConfigurationError, match=text):
        configure(**settings)


def test_it_trains_in_stacks_and_its_network_is_saved(data, trained, tmp_path):
    space = grid(shortcut_scale=[0.0, 1.0])
    result = jaxnet.sweep(space, data, steps=5, **SETTINGS)
    assert [one.networks for one in trained] == [2]
    assert [row.outcome.status for row in result.rows] == ["ok"] * 2
    one, other = (row.outcome.final_loss for row in result.rows)
    assert one != other
    result.network.save(tmp_path / "net.safetensors")
    loaded = jaxnet.Network.load(tmp_path / "net.safetensors")
    images = data.test_images
    np.testing.assert_array_equal(loaded.predict(images), result.network.predict(images))


def test_a_plan_pads_no_widths_of_what_is_no_chain(data):
    space = grid(hidden=[[5], [6]], shortcut_scale=[0.0, 1.0])
    given = {name: value for name, value in SETTINGS.items() if name != "hidden"}
    plan = jaxnet.plan(space, data, steps=5, **given)
    assert [(len(group.chunks), group.program.layout.padded) for group in plan.groups] == [
        (1, False)
    ] * 2
    assert "shortcut_scale" in str(plan)


def test_its_gradient_is_asked_for_and_proved():
    rows = [row for row in catalogue() if row.name == "skip"]
    assert without_row([r for r in catalogue() if r.name != "skip"]) == ["network skip"]
    assert rows[0].check(0).verdict == "PASS"
