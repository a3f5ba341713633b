"""The net of convolutions: what it is made of, and that the engine treats it as any other."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnet
from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError
from jaxnet.models import inception_resnet
from jaxnet.sweeps.machine.cost import estimated_bytes, step_flops
from jaxnet.training.layout import over_networks
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Shapes, configure
from jaxnet.training.step import DeviceData

CLASSES = 3
NET = {"architecture": "inception_resnet", "batch_size": 4, "optimizer": "adam"}
BETTER = {"norm": "batch", "dropout": 0.2, "flip": 0.5, "shift": 1.0}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 40).astype(np.int32)
    images = rng.integers(0, 60, (40, 8, 8, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[label * 2 : label * 2 + 3] += 150
    return DataSet.from_arrays(images[:30], labels[:30], images[30:], labels[30:])


def test_the_widths_are_those_of_the_source():
    shapes = jax.eval_shape(
        lambda key: inception_resnet(10).init(key, (28, 28, 1))[0], jax.random.key(0)
    )
    found = {
        "/".join(str(k.key) for k in path[:-1]): leaf.shape
        for path, leaf in jax.tree.leaves_with_path(shapes)
        if path[-1].key == "w"
    }
    assert found == {
        "residual_1/branch/conv2d_1": (3, 3, 1, 64),
        "residual_1/branch/conv2d_2": (3, 3, 64, 64),
        "residual_1/shortcut/conv2d_1": (1, 1, 1, 64),
        "concat_1/branch_1/conv2d_1": (1, 1, 64, 32),
        "concat_1/branch_2/conv2d_1": (1, 1, 64, 64),
        "concat_1/branch_2/conv2d_2": (3, 3, 64, 64),
        "concat_1/branch_3/conv2d_1": (1, 1, 64, 64),
        "concat_1/branch_3/conv2d_2": (5, 5, 64, 64),
        "concat_1/branch_4/conv2d_1": (1, 1, 64, 16),
        "affine_1": (176, 10),
    }
    same = inception_resnet(10, channels=64)
    params, _, _ = jax.eval_shape(lambda key: same.init(key, (8, 8, 64)), jax.random.key(0))
    assert "shortcut" not in params["residual_1"]  # the identity where channels agree


def test_scores_are_those_of_the_net_written_out():
    """By JAX's own convolution and window reductions."""
    net = inception_resnet(CLASSES, filters=3, branches=(2, 3, 2, 1, 2, 1))
    with jax.enable_x64(True):
        params, state, _ = net.init(jax.random.key(0), (8, 9, 1))
        params = jax.tree.map(lambda leaf: leaf.astype("float64") + 0.01, params)

        def conv(p, x):
            out = jax.lax.conv_general_dilated(
                x, p["conv2d_1"]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return out + p["conv2d_1"]["b"].reshape(1, 1, 1, -1)

        def second(p):
            return {"conv2d_1": p["conv2d_2"]}

        def pool(x, size, stride, padding):
            window, strides = (1, size, size, 1), (1, stride, stride, 1)
            return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, strides, padding)

        relu = jax.nn.relu

        @jax.jit
        def written_out(x):
            block, module = params["residual_1"], params["concat_1"]
            inner = conv(second(block["branch"]), relu(conv(block["branch"], x)))
            x = pool(relu(inner + relu(conv(block["shortcut"], x))), 2, 2, "VALID")
            one, three, five, four = (module[f"branch_{i}"] for i in (1, 2, 3, 4))
            x = jnp.concatenate(
                [
                    relu(conv(one, x)),
                    relu(conv(second(three), relu(conv(three, x)))),
                    relu(conv(second(five), relu(conv(five, x)))),
                    relu(conv(four, pool(x, 3, 1, "SAME"))),
                ],
                axis=-1,
            )
            x = pool(x, 2, 2, "VALID").mean((1, 2))
            return x @ params["affine_1"]["w"] + params["affine_1"]["b"].reshape(1, -1)

        images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 9, 1)))
        got = jax.jit(lambda x: net.forward(params, state, x, key=None, train=False)[0])(images)
        np.testing.assert_allclose(got, written_out(images), rtol=1e-12)


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    """Two rates, one of which diverges, with everything that is off by default."""
    space = jaxnet.grid(learning_rate=[1e-3, 1e30])
    out = tmp_path_factory.mktemp("net") / "run"
    settings = {**NET, **BETTER}
    return jaxnet.sweep(space, data, steps=6, evaluations=1, out=out, keep=None, **settings)


def test_divergence_is_data(result):
    good, bad = result.rows
    assert good.ok
    assert np.isfinite(good.outcome.history.loss).all()
    assert bad.outcome.status.startswith("diverged@")
    assert result.best.id == good.id


def test_its_network_is_read_back_and_predicts_alike(result, data):
    network = result.network
    read = jaxnet.Network.load(result.folder / "best.safetensors")
    assert read.net.architecture == "inception_resnet"
    images = data.test_images
    np.testing.assert_array_equal(read.scores(images), network.scores(images))
    assert float((read.predict(images) == data.test_labels).mean()) == pytest.approx(
        result.test_accuracy
    )
    config = json.loads((result.folder / "config.json").read_text())
    assert config["job"]["settings"]["architecture"] == "inception_resnet"
    again = jaxnet.sweep(
        jaxnet.grid(learning_rate=[1e-3, 1e30]),
        data,
        steps=6,
        evaluations=1,
        out=result.folder,
        keep=None,
        **NET,
        **BETTER,
    )  # everything is found: nothing trains
    assert [row.outcome.val_accuracy for row in again.rows[:1]] == [
        row.outcome.val_accuracy for row in result.rows[:1]
    ]


def _advanced(structure, learning_rates, steps=2):
    rng = np.random.default_rng(3)
    program = Program(structure, Shapes((8, 8, 1), CLASSES))
    values = {name: jnp.full(len(learning_rates), value) for name, value in NUMBERS.items()}
    given = Hyperparameters({**values, "learning_rate": jnp.asarray(learning_rates)})
    data = DeviceData(
        jnp.asarray(rng.integers(0, 255, (20, 64)), "uint8"),
        jnp.asarray(rng.integers(0, CLASSES, 20), "int32"),
        jnp.full(64, 128.0),
        jnp.full(64, 0.01),
    )
    seed = jnp.uint32(0)
    state = program.init(given, seed)
    state, metrics = program.advance(state, given, seed, data, Counts.of(20, steps, steps))
    return jax.device_get(state.members.params), np.asarray(metrics.loss)[:steps]


NUMBERS = configure(**NET, **BETTER).numbers


def test_networks_in_turn_train_as_they_do_alone():
    structure = configure(**{**NET, "optimizer": "sgd"}).structure
    _, losses = _advanced(structure, [1e-3, 1e-2])
    _, loss = _advanced(structure, [1e-2])
    np.testing.assert_allclose(losses[:, 1:], loss, rtol=1e-4)  # float32, after one update


def test_in_turn_is_side_by_side():
    stacks = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(6.0).reshape(3, 2)}
    axes = {"a": 0, "b": 1}  # the configuration axis of each

    def function(tree, number, same):
        return jax.tree.map(lambda leaf: leaf * number + same, tree), number

    arguments = stacks, jnp.asarray([2.0, 3.0]), jnp.float32(1)
    ways = [
        over_networks(function, (axes, 0, None), (axes, 0), side_by_side=way)(*arguments)
        for way in (True, False)
    ]
    jax.tree.map(np.testing.assert_array_equal, *ways)


def test_the_plan_knows_the_work():
    one = configure(**{**NET, "batch_size": 8})
    shapes = Shapes((28, 28, 1), 10)
    flops = step_flops(one.structure, shapes)
    # 2 a product, thrice but for the first layer's input: by hand from the widths.
    first, second = 784 * 9 * 64, 784 * 9 * 64 * 64
    module = 196 * 64 * (32 + 64 + 64 + 16) + 196 * 64 * 64 * (9 + 25)
    # Of the second 3×3 out and dx are of neighbours together: 16 products instead of 36.
    second *= (1 + 2 * 16 / 36) / 3
    products = 8 * (4 * first + 6 * (second + module) + 4 * 784 * 64)
    # The compiler leaves out products with the border, and adds sums, maxima and updates.
    assert 0.9 * products < flops < 1.1 * products
    many = configure(**{**NET, "batch_size": 400})
    few, more = (estimated_bytes(Program(c.structure, shapes)) for c in (one, many))
    assert 12 * few < more < 20 * few  # 25 images of an evaluation, 400 of a batch


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"hidden": [20]}, "hidden is no setting of architecture 'inception_resnet'"),
        ({"activation": "tanh"}, "activation is no setting of architecture"),
        ({"preprocessing": "pca", "components": 5}, "leaves no images"),
        ({"architecture": "inception"}, "did you mean 'inception_resnet'"),
        ({"architecture": "fully_connected", "flip": 0.5}, "flip is used by architecture incep"),
        ({"flip": 1.5}, r"flip: expected a value in \[0, 1\]"),
    ],
)
def test_what_does_not_apply_is_refused(settings, text):
    with pytest.raises(ConfigurationError, match=text):
        configure(**{**NET, **settings})


def test_features_that_are_no_images_are_refused_before_anything_is_compiled():
    x, y = np.ones((8, 5), np.float32), np.zeros(8, np.int32)
    flat = DataSet.from_arrays(x, y, x, y, class_names=["a", "b"])
    with pytest.raises(ConfigurationError, match="expects images"):
        jaxnet.sweep(jaxnet.grid(learning_rate=[0.1]), flat, steps=1, **NET)


def test_settings_round_trip():
    one = configure(**NET, **BETTER)
    assert configure(**one.to_dict()) == one
    assert "hidden" not in one.to_dict()
    assert "architecture" not in configure().to_dict()
    assert math.isclose(one.numbers["shift"], 1.0)
