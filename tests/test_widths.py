"""A network padded to a larger width trains as it does alone, and its padding stays zero."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers, models
from jaxnet.compose import identity
from jaxnet.errors import ConfigurationError
from jaxnet.layers import INITIALIZERS
from jaxnet.models import fully_connected, loss_and_grad
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.training.layout import crop

FEATURES, CLASSES, BATCH, STEPS = 6, 4, 9, 20
PADDED = (8, 7)

# Norm, activation, optimizer, initializer, dropout: each at least once.
CASES = [
    ("none", "sigmoid", "adam", "glorot", None),
    ("none", "relu", "rmsprop", "he", None),
    ("none", "gelu", "sgd", "normal", None),
    ("batch", "leaky_relu", "adamw", "lecun", None),
    ("batch", "sigmoid", "momentum", "he", 0.3),
    ("layer", "tanh", "adagrad", "lecun", None),
    ("layer", "sigmoid", "nesterov", "glorot", None),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case[:3]))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def batch():
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.normal(size=(BATCH, FEATURES)))
    return images, jnp.asarray(generator.integers(0, CLASSES, BATCH).astype(np.int32))


def network(case, hidden, widths):
    norm, activation, _, init, rate = case
    return fully_connected(
        hidden,
        CLASSES,
        activation=activation,
        norm=norm,
        dropout_rate=rate,
        init=init,
        widths=widths,
        dtype=jnp.float64,
    )


def train(case, hidden, widths, start):
    """Return parameters and state after training from `start`, and the losses on the way."""
    rule = OPTIMIZERS[case[2]].build(0.02, {"eps": 1e-6})
    net = network(case, hidden, widths)

    def step(carry, key):
        params, state, memory = carry
        result = loss_and_grad(net, params, state, *batch(), key=key, l2=0.1)
        updates, memory = rule.update(result.grads, memory, params)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, result.state, memory), result.loss

    keys = jax.random.split(jax.random.key(2), STEPS)
    end, losses = jax.lax.scan(step, (*start, rule.init(start[0])), keys)
    return end[:2], losses


def run(case, hidden, widths=None, transform=lambda function: function):
    """Return the start, the end and the losses of a run; `transform` may be `jax.vmap`."""

    def init(widths):
        return network(case, hidden, widths).init(jax.random.key(8), (FEATURES,))[:2]

    start = transform(init)(widths)  # not compiled: the pieces serve all cases
    training = jax.jit(
        transform(lambda widths, start: train(case, hidden, widths, start)),
        compiler_options={"xla_backend_optimization_level": 0},  # half the time to compile
    )
    end, losses = training(widths, start)
    return jax.device_get({"start": start, "end": end, "losses": losses})


@functools.cache
def alone(case, widths):
    return run(case, widths)


def distance(padded, case, widths):
    """Return how far a padded run is from the solo run, at most over all numbers."""
    solo = alone(case, widths)
    furthest = jax.tree.map(lambda a, b: np.abs(a - b).max(initial=0), crop(padded, solo), solo)
    return max(jax.tree.leaves(furthest))


def assert_nothing_beyond(padded, case, widths):
    def check(path, leaf, solo):
        beyond = np.array(leaf)
        scale = path[-1] == jax.tree_util.DictKey("scale")
        beyond[tuple(map(slice, solo.shape))] = 1 if scale else 0
        assert (beyond == (1 if scale else 0)).all(), jax.tree_util.keystr(path)

    jax.tree.map_with_path(check, padded, alone(case, widths))


def padded_run(case, widths):
    return run(case, PADDED, [jnp.int32(width) for width in widths])


# Float64 sums of other lengths differ in the last place; Adam and its kin enlarge what stands for
# a gradient of 0 (of a bias before batchnorm: 1e-17) by up to rate/eps = 2e4 a step.
TOLERANCE = 1e-10


@every_case
def test_a_padded_network_trains_as_alone(case):
    padded = padded_run(case, (5, 3))
    assert distance(padded, case, (5, 3)) < TOLERANCE
    assert_nothing_beyond(padded, case, (5, 3))
    assert np.abs(padded["end"][0]["affine_2"]["w"] - padded["start"][0]["affine_2"]["w"]).max() > 0


def test_networks_of_three_widths_train_in_one_program():
    case = CASES[6]
    nets = [(5, 3), (8, 7), (1, 4)]  # with padding, without any, and narrower than the next layer
    # As a sweep holds its numbers: floating.
    columns = list(jnp.asarray(nets, jnp.float64).T)
    together = run(case, PADDED, columns, transform=jax.vmap)
    for k, widths in enumerate(nets):
        member = jax.tree.map(lambda leaf, k=k: leaf[k], together)
        assert distance(member, case, widths) < TOLERANCE
        assert_nothing_beyond(member, case, widths)


def broken_units(monkeypatch):
    monkeypatch.setattr(models, "first_units", lambda width: identity())


def broken_layernorm(monkeypatch):
    def ignore(*args, width, **settings):
        return layers.layernorm(*args, **settings)

    monkeypatch.setattr(models, "layernorm", ignore)


@pytest.mark.parametrize(
    ("fault", "case"),
    [
        (broken_units, CASES[0]),
        (broken_layernorm, CASES[6]),
    ],
    ids=["units", "layernorm"],
)
def test_a_planted_fault_shows(fault, case, monkeypatch):
    alone(case, (5, 3))  # in good order
    fault(monkeypatch)
    assert distance(padded_run(case, (5, 3)), case, (5, 3)) > 1e-3


def test_relu_without_normalization_needs_no_mask(monkeypatch):
    """Relu of nothing is nothing: what made padding look simpler than it is."""
    broken_units(monkeypatch)
    assert distance(padded_run(CASES[1], (5, 3)), CASES[1], (5, 3)) < TOLERANCE


@pytest.mark.parametrize("init", INITIALIZERS)
def test_initial_weights_are_those_of_the_true_size(init):
    def draw(hidden, widths=None):
        net = fully_connected(hidden, CLASSES, init=init, widths=widths, dtype=jnp.float64)
        return net.init(jax.random.key(1), (FEATURES,))[0]

    solo, padded = draw((5, 3)), draw(PADDED, (5, jnp.int32(3)))
    for a, b in zip(jax.tree.leaves(crop(padded, solo)), jax.tree.leaves(solo), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-15)  # the gain, rounded once more


def test_one_width_a_hidden_layer():
    with pytest.raises(ConfigurationError, match=r"each of the 2 hidden layers, got 1: .*\(8, 7\)"):
        fully_connected(PADDED, CLASSES, widths=(5,))


def test_crop_takes_shapes_and_refuses_to_enlarge():
    large = {"w": np.arange(20).reshape(4, 5)}
    shape = {"w": jax.ShapeDtypeStruct((2, 3), jnp.int32)}
    assert crop(large, shape)["w"].tolist() == [[0, 1, 2], [5, 6, 7]]
    with pytest.raises(ConfigurationError, match=r"got \(2, 3\) for \(4, 5\) at \['w'\]"):
        crop(crop(large, shape), large)
    with pytest.raises(ConfigurationError, match=r"got \(4, 5\) for \(4,\)"):
        crop(large, {"w": np.ones(4)})
