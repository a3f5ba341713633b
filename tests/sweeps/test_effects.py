"""A setting that changes nothing is refused by name: its networks would all be the same."""

import inspect

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxnet import ConfigurationError, Model, grid, plan, sweep
from jaxnet.training.dependence import trace

RUN = {"steps": 2, "batch_size": 10, "hidden": [4]}


def reads_rate(rate, numbers):
    return optax.sgd(rate)


def reads_momentum(rate, numbers):
    return optax.sgd(rate, momentum=numbers["momentum"])


def reads_only_momentum(rate, numbers):
    return optax.sgd(0.1, momentum=numbers["momentum"])


def multiplies_by_nothing(rate, numbers):
    """Reads both, and uses neither."""
    numbers.get("momentum"), rate * 2.0
    return optax.adam(0.1)


READY = optax.sgd(0.01)


@pytest.mark.parametrize(
    ("optimizer", "settings", "named"),
    [
        (READY, {"learning_rate": [0.1, 0.01]}, "learning_rate"),
        (READY, {"learning_rate": [0.001]}, "learning_rate"),  # the default, but given
        (READY, {"schedule": ["constant", "cosine"]}, "schedule"),
        (READY, {"warmup_steps": [0, 5]}, "warmup_steps"),
        (READY, {"momentum": [0.5, 0.9]}, "momentum"),
        (READY, {"weight_decay": [0.5, 0.9]}, "weight_decay"),
        (optax.inject_hyperparams(optax.adam)(0.1), {"learning_rate": [0.1]}, "learning_rate"),
        (multiplies_by_nothing, {"learning_rate": [0.1]}, "learning_rate"),
        (multiplies_by_nothing, {"momentum": [0.1]}, "momentum"),
        (reads_only_momentum, {"learning_rate": [0.1], "momentum": [0.1]}, "learning_rate"),
        (reads_only_momentum, {"schedule": ["cosine"], "momentum": [0.1]}, "schedule"),
        (reads_rate, {"momentum": [0.5, 0.9]}, "momentum"),
        (reads_rate, {"beta1": [0.5, 0.9]}, "beta1"),
        (reads_rate, {"decay": [0.5, 0.9]}, "decay"),  # of other schedules
        ("sgd", {"momentum": [0.5, 0.9]}, "momentum"),
    ],
)
@pytest.mark.parametrize("verb", [sweep, plan])
def test_what_an_optimizer_does_not_use_is_refused(data, verb, optimizer, settings, named):
    with pytest.raises(ConfigurationError, match=rf"^(configuration 0: )?{named} is used by"):
        verb(grid(**settings), data, optimizer=optimizer, **RUN)


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        (READY, {"l2": [0.0, 0.1], "clip_norm": [1.0], "init_scale": [2.0]}),
        (READY, {}),
        (reads_rate, {"learning_rate": [0.1, 0.01], "schedule": ["cosine"], "warmup_steps": [2]}),
        (reads_rate, {"schedule": ["exponential"], "decay": [0.5, 0.9]}),
        (reads_momentum, {"learning_rate": [0.1], "momentum": [0.5, 0.9]}),
        (reads_only_momentum, {"momentum": [0.5, 0.9]}),
        (optax.scale_by_learning_rate, {}),
    ],
)
def test_what_it_uses_is_not(data, optimizer, settings):
    if optimizer is optax.scale_by_learning_rate:
        optimizer = lambda rate, numbers: optax.scale_by_learning_rate(rate)  # noqa: E731
    space = grid(**settings) if settings else [{}]
    assert plan(space, data, optimizer=optimizer, **RUN).configurations


def test_one_of_several_optimizers_that_does_not_use_it_is_named(data):
    space = [{"optimizer": "sgd"}, {"optimizer": READY}]
    with pytest.raises(ConfigurationError, match=r"^learning_rate is used by"):
        plan(space, data, learning_rate=0.1, **RUN)


def test_the_rate_of_a_ready_optimizer_is_its_own_in_the_table(data):
    """The default rate, which trains nothing, is not shown beside it."""
    row = sweep([{}], data, optimizer=READY, **RUN).rows[0]
    assert not {"learning_rate", "schedule", "warmup_steps"} & row.settings.keys()


def init(key, width=3):
    return {"w": jax.random.normal(key, (4, width)) / 8, "v": jnp.zeros((width, 3))}


def loss(params, x, labels, key, slope=0.1, unused=0.5):
    scores = jax.nn.leaky_relu(x.reshape(len(x), -1) @ params["w"], slope) @ params["v"]
    return -jax.nn.log_softmax(scores)[jnp.arange(len(x)), labels].mean() + 0 * len(x), scores


def test_an_argument_that_a_model_does_not_use_is_refused(data):
    width = data.train_images[0].size
    classes = len(data.class_names)

    def init(key):
        return {"w": jnp.zeros((width, classes))}

    def loss(params, x, labels, key, scale=1.0, idle=0.5, only_in_training=0.0):
        scores = x.reshape(len(x), -1) @ params["w"] * scale
        if key is not None:
            scores = scores + only_in_training
        return -jax.nn.log_softmax(scores)[jnp.arange(len(x)), labels].mean(), scores

    run = {"model": Model(init, loss), "steps": 2, "batch_size": 10}
    with pytest.raises(ConfigurationError, match=r"^idle is an argument of the model, and neither"):
        plan(grid(idle=[0.1, 0.2]), data, **run)
    assert plan(grid(scale=[0.1, 0.2], only_in_training=[0.0, 1.0]), data, **run).configurations


@pytest.mark.parametrize("name", ["activation", "norm", "dropout"])
def test_what_only_hidden_layers_use_needs_one(data, name):
    values = {"activation": ["relu", "tanh"], "norm": ["none", "batch"], "dropout": [0.1, 0.5]}
    space = {name: values[name]}
    run = {"steps": 2, "batch_size": 10}
    with pytest.raises(ConfigurationError, match=f"^{name} is used by hidden layers"):
        plan(grid(**space), data, hidden=(), **run)
    assert plan(grid(hidden=[(), (4,)], **space), data, **run).configurations


def test_a_convention_of_no_penalty_is_refused(data):
    space = {"l2_convention": ["half", "full"]}
    with pytest.raises(ConfigurationError, match=r"^l2_convention says"):
        plan(grid(**space), data, **RUN)
    assert plan(grid(l2=[0.0, 0.1], **space), data, **RUN).configurations


def test_plan_takes_what_sweep_takes(data):
    """The same call, with another verb."""
    ours, theirs = (inspect.signature(verb).parameters for verb in (plan, sweep))
    assert list(ours.items()) == list(theirs.items())
    for name, parameter in ours.items():
        if parameter.default is not inspect.Parameter.empty and name != "data":
            assert plan([{}], data, **{**RUN, name: RUN.get(name, parameter.default)})


def test_what_is_evaluated_more_often_is_more_to_score(data):
    few, many = (plan([{}], data, evaluations=count, **RUN) for count in (1, 2))
    assert many.scored > few.scored


@pytest.mark.parametrize(
    "options", [{"select": "best"}, {"keep": 0}, {"on": "moon"}, {"on": "ray", "devices": 1}]
)
def test_plan_refuses_what_sweep_refuses(data, options):
    texts = []
    for verb in (plan, sweep):
        with pytest.raises(ConfigurationError) as refused:
            verb([{}], data, **RUN, **options)
        texts.append(str(refused.value))
    assert texts[0] == texts[1]


def test_dependence_sees_through_calls_and_loops():
    def function(a, b, c, d):
        total = jax.lax.fori_loop(0, 3, lambda i, s: s + jax.jit(lambda p, q: p)(a, b), 0.0)
        return total + jax.lax.cond(d > 0, lambda: c, lambda: 0.0)

    assert trace(function, 1.0, 2.0, 3.0, 4.0).uses == (True, False, True, True)
