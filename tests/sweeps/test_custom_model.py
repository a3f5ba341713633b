"""Models of a user's own: trained as by hand, and swept as jaxnet's own networks are."""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import Model, fully_connected
from jaxnet.data import load
from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.sweeps import Halving, grid
from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.verbs import plan, sweep

plan_module = importlib.import_module(
    "jaxnet.sweeps.planning.plan"
)  # the name is that of the function
STEPS, BATCH, SHAPE, CLASSES = 25, 10, (4, 3, 1), 3
OPTIONS = {"steps": STEPS, "batch_size": BATCH}


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations."""


@pytest.fixture(scope="module", autouse=True)
def quick_plans():
    """Do not compile two programs more for each to learn its memory: `real_plans` does."""
    real, patch = plan_module.compiled_bytes, pytest.MonkeyPatch()
    patch.setattr(plan_module, "compiled_bytes", lambda *arguments: (0, 10_000))
    yield real
    patch.undo()


@pytest.fixture
def real_plans(monkeypatch, quick_plans):
    monkeypatch.setattr(plan_module, "compiled_bytes", quick_plans)


@pytest.fixture
def advances():
    """The training programs that XLA compiles from now on."""
    seen = []

    def listen(event, seconds, **more):
        if "backend_compile" in event and more.get("fun_name") == "jit(advance)":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


# Three models: arrays, and the two libraries


def cross_entropy(scores, labels):
    rows = jnp.arange(scores.shape[0])
    return -jax.nn.log_softmax(scores)[rows, labels].mean()


def plain_init(key, width=6, gain=1.0):
    first, second = jax.random.split(key)
    return {
        "in": gain * jax.random.normal(first, (12, width)) / jnp.sqrt(12.0),
        "out": [gain * jax.random.normal(second, (width, CLASSES)) / width, jnp.zeros(CLASSES)],
    }


def plain_loss(params, x, labels, key, slope=0.1, drop=0.0, power=1):
    x = x.reshape(len(x), -1)
    hidden = jax.nn.leaky_relu(x @ params["in"], slope) ** power
    if key is not None:
        hidden = jnp.where(jax.random.bernoulli(key, drop, hidden.shape), 0.0, hidden)
    scores = hidden @ params["out"][0] + params["out"][1]
    return cross_entropy(scores, labels), scores


def plain():
    return Model(plain_init, plain_loss)


def equinox_model():
    eqx = pytest.importorskip("equinox")

    def parts(key, width):
        return eqx.partition(eqx.nn.MLP(12, CLASSES, width, 1, key=key), eqx.is_inexact_array)

    def init(key, width=6):
        return parts(key, width)[0]

    def loss(params, x, labels, key, width=6, smoothing=0.0):
        net = eqx.combine(params, parts(jax.random.key(0), width)[1])
        scores = jax.vmap(net)(x.reshape(len(x), -1))
        return cross_entropy((1 - smoothing) * scores, labels), scores

    return Model(init, loss)


def flax_model():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        width: int

        @nn.compact
        def __call__(self, x):
            x = nn.Conv(self.width, (2, 2))(x)
            x = nn.gelu(x).reshape(x.shape[0], -1)
            return nn.Dense(CLASSES)(x)

    def init(key, width=4):
        return Net(width).init(key, jnp.zeros((1, *SHAPE)))["params"]

    def loss(params, x, labels, key, width=4, smoothing=0.0):
        scores = Net(width).apply({"params": params}, x)
        return cross_entropy((1 - smoothing) * scores, labels), scores

    return Model(init, loss)


MODELS = {"plain": plain, "equinox": equinox_model, "flax": flax_model}


# By hand


def minibatches(seed, examples):
    """Restate how minibatches are drawn: a change here changes every published number."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 1)
    for step in range(STEPS):
        yield jax.random.randint(jax.random.fold_in(key, step), (BATCH,), 0, examples)


def by_hand(model, data, preprocessing, seed, rate, of_init, of_loss):
    """Gradient descent in a Python loop; return the losses and the parameters at the end."""
    train = data.split(37).train
    images = preprocessing.apply(train.images).reshape(-1, *SHAPE)
    random = [
        jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose) for purpose in (0, 2)
    ]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params, losses = model.init(random[0], **of_init), []

        @jax.jit
        def step(params, x, y, key):
            def objective(params):
                return model.loss(params, x, y, key, **of_loss)[0]

            loss, grads = jax.value_and_grad(objective)(params)
            return loss, jax.tree.map(lambda p, g: p - rate * g, params, grads)

        for number, rows in enumerate(minibatches(seed, len(train))):
            x, y = jnp.asarray(images[rows]), jnp.asarray(train.labels[rows])
            loss, params = step(params, x, y, jax.random.fold_in(random[1], number))
            losses.append(float(loss))
    return np.asarray(losses), params


CASES = {
    "plain": ({"gain": 0.8}, {"slope": 0.3, "drop": 0.25}),
    "equinox": ({}, {"smoothing": 0.2}),
    "flax": ({}, {"smoothing": 0.2}),
}


@pytest.fixture(scope="module", params=MODELS)
def swept(request, data):
    """A model, and its sweep over a static argument, rates and seeds."""
    model = MODELS[request.param]()
    of_init, of_loss = CASES[request.param]
    space = grid(width=[3, 5], learning_rate=[0.2, 0.05], seed=[0, 4])
    settings = {**OPTIONS, "model": model, **of_init, **of_loss}
    return request.param, model, space, settings, sweep(space, data, keep=None, **settings)


def test_a_sweep_trains_as_by_hand(data, swept):
    name, model, _, _, result = swept
    of_init, of_loss = CASES[name]
    assert len(result.rows) == 8
    for row in result.rows[::3]:
        width, seed = row.settings["width"], row.settings["seed"]
        given = {"width": width} if "width" in inspect.signature(model.loss).parameters else {}
        network = result.network_of(row.id)
        losses, params = by_hand(
            model,
            data,
            network.preprocessing,
            seed,
            row.settings["learning_rate"],
            {"width": width, **of_init},
            {**given, **of_loss},
        )
        # float32: sums in another order, over 25 small steps.
        np.testing.assert_allclose(row.outcome.history.loss, losses, rtol=1e-6, atol=1e-6)
        assert losses[-1] < losses[0]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            network.params,
            jax.device_get(params),
        )


def test_its_accuracies_are_those_of_its_networks(data, swept):
    *_, result = swept
    splits = data.split(37)
    for row in result.rows[::3]:
        network = result.network_of(row.id)
        assert network.net.model is not None
        for part, accuracy in (
            (splits.train, row.outcome.train_accuracy),
            (splits.validation, row.outcome.val_accuracy),
        ):
            # One image of difference: scores of another batch size may tie otherwise.
            assert network.accuracy(part) == pytest.approx(accuracy, abs=1.01 / len(part))
    assert result.test_accuracy == result.network.accuracy(splits.test)
    assert result.best.outcome.val_accuracy > 0.5  # of three classes: it has learnt


def test_the_plan_of_a_model(data, swept, real_plans):
    _, model, space, settings, _ = swept
    found = plan(space, data, **settings)
    assert (found.configurations, found.programs) == (8, 2)
    assert found.split_by == ["width"]
    assert all(set(group.traced) == {"learning_rate", "seed"} for group in found.groups)
    # More than the products of its two layers alone, forward and backward.
    _, large = found.groups
    each = [program_flops(g.program) / g.program.layout.size for g in found.groups]
    assert 0 < each[0] < each[1]
    assert each[1] > 4 * BATCH * 12 * 5
    for group, own in zip(found.groups, each, strict=True):
        assert group.flops_per_step == len(group.chunks) * group.program.layout.size * own
    parameters = sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0), width=5)))
    assert large.bytes_per_network > 4 * parameters
    assert not any(group.program.layout.padded for group in found.groups)
    assert "width" in str(found)


# As a sweep


def test_floats_are_arrays_and_the_rest_is_static(data, advances):
    settings = {**OPTIONS, "model": plain(), "width": 7}
    sweep(grid(slope=[0.1, 0.2], gain=[1.0, 2.0]), data, **settings)
    first = len(advances)
    assert first == 1
    again = sweep(grid(slope=[0.3, 0.4], gain=[0.5, 3]), data, drop=0.5, **settings)
    assert len(advances) == first
    assert {row.settings["gain"] for row in again.rows} == {0.5, 3.0}
    assert len({row.outcome.final_loss for row in again.rows}) == 4  # the numbers are used
    sweep(grid(slope=[0.3, 0.4], gain=[0.5, 3.0]), data, power=2, **settings)
    assert len(advances) == 2 * first


def test_a_run_is_resumed_from_its_folder(
    data, tmp_path, interrupt, kept_each_call, outcomes, trained
):
    space, settings = grid(slope=[0.1, 0.5], seed=[0, 1]), {**OPTIONS, "model": plain()}
    whole = sweep(space, data, out=tmp_path / "whole", **settings)
    out = tmp_path / "run"
    with interrupt(Stack, "_advance", 3, after=True):
        sweep(space, data, out=out, **settings)
    resumed = sweep(space, data, out=out, **settings)
    assert outcomes(resumed) == outcomes(whole)
    trained.clear()
    same = sweep(space, data, out=out, **settings)
    assert trained == []
    assert outcomes(same) == outcomes(whole)
    jax.tree.map(np.testing.assert_array_equal, same.network.params, whole.network.params)


def test_a_model_of_another_text_is_another(data, tmp_path, trained):
    def loss(params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params["in"][:, :CLASSES]
        return cross_entropy(scores, labels), scores

    space = [{"width": 6}]
    sweep(space, data, model=plain(), out=tmp_path / "run", **OPTIONS)
    count = len(trained)
    sweep(space, data, model=plain(), out=tmp_path / "run", **OPTIONS)
    assert len(trained) == count
    other = {"model": Model(plain_init, loss), "out": tmp_path / "run", **OPTIONS}
    with pytest.raises(RunFolderError, match="holds another run: its configuration 0"):
        sweep(space, data, **other)
    sweep(space, data, beside=True, **other)
    assert len(trained) == count + 1


def test_code_compiled_under_another_files_name_has_a_label(tmp_path):
    # As the README's examples are in our tests: Python looks the text up in a file of prose.
    prose = tmp_path / "prose.md"
    prose.write_text("It's prose.\n(the model's text isn't here\n")
    names: dict = {}
    text = "\ndef init(key): ...\nloss = lambda params, x, labels, key: params"
    exec(compile(text, str(prose), "exec"), names)
    assert Model(names["init"], names["loss"]).label == "init + lambda params, x, labels, key"


def test_replicates_halving_and_divergence(data):
    space = grid(learning_rate=[0.2, 1e30, 1e-4, 1e-3])
    settings = {"model": plain(), "steps": 40, "batch_size": BATCH, "width": 6}
    result = sweep(space, data, replicates=2, halving=Halving(2), **settings)
    by_rate = {}
    for row in result.rows:
        by_rate.setdefault(row.settings["learning_rate"], []).append(row.outcome)
    assert [outcome.kind for outcome in by_rate[1e30]] == ["diverged"] * 2
    kinds = {rate: {outcome.status for outcome in found} for rate, found in by_rate.items()}
    assert sum(kind == {"ok"} for kind in kinds.values()) == 1
    assert all(len(kind) == 1 for rate, kind in kinds.items() if rate != 1e30)
    assert [len(setting.rows) for setting in result.replicates] == [2] * 4
    best = result.best.settings["learning_rate"]
    assert kinds[best] == {"ok"}
    # The neighbour that diverged has changed nothing of it.
    alone = sweep([{"learning_rate": best, "seed": seed} for seed in (0, 1)], data, **settings)
    for one, other in zip(by_rate[best], alone.rows, strict=True):
        np.testing.assert_allclose(  # other places: float32 sums in another order
            one.history.loss, other.outcome.history.loss, rtol=1e-4
        )


def test_a_model_equal_to_our_own_net_has_its_losses(data):
    """The two-layer net of the course, from the initial weights of jaxnet's own."""
    own = sweep([{"learning_rate": 0.1, "hidden": [6]}], data, keep=1, **OPTIONS)

    def init(key):
        return fully_connected((6,), CLASSES).init(key, (12,))[0]

    def loss(params, x, labels, key):
        x = x.reshape(len(x), -1)
        hidden = jnp.maximum(x @ params["affine_1"]["w"] + params["affine_1"]["b"], 0)
        scores = hidden @ params["affine_2"]["w"] + params["affine_2"]["b"]
        return cross_entropy(scores, labels), scores

    settings = {"learning_rate": 0.1, "model": Model(init, loss)}
    theirs = sweep([settings], data, **OPTIONS)
    # float32 and other programs: the last digits differ, and training spreads them slowly.
    np.testing.assert_allclose(
        theirs.rows[0].outcome.history.loss, own.rows[0].outcome.history.loss, rtol=1e-5
    )
    assert theirs.rows[0].outcome.val_accuracy == own.rows[0].outcome.val_accuracy


# What cannot be


def refused(match, model=None, space=None, **settings):
    with pytest.raises(ConfigurationError, match=match):
        sweep(space or [{}], load("fashion-mnist-mini"), steps=2, model=model, **settings)


def _init(key):
    return jnp.zeros((784, 10))


def _loss(params, x, labels, key):
    scores = x.reshape(len(x), -1) @ params
    return cross_entropy(scores, labels), scores


@pytest.mark.parametrize(
    ("init", "loss", "message"),
    [
        (lambda: 0, _loss, r"init should be a function init\(key, \*\*arguments\)"),
        (lambda key, **more: 0, _loss, "names each argument"),
        (_init, lambda params, x, labels: 0, r"loss should be a function loss\(params, x, labels"),
        (_init, lambda params, x, labels, key, *more: 0, "names each argument"),
        (lambda key, a=1.0: 0, lambda p, x, y, key, a=2.0: 0, "a has the default 1.0 in init"),
    ],
)
def test_a_wrong_signature_is_refused(init, loss, message):
    with pytest.raises(ConfigurationError, match=message):
        Model(init, loss)


def test_what_is_no_function_is_refused(as_a_user):
    with pytest.raises(ConfigurationError, match=r"init should be a function.*got 3"):
        Model(3, _loss)
    refused("expected a jaxnet.Model", model=_loss)


@pytest.mark.parametrize("name", ["learning_rate", "batch_size", "seed", "optimizer", "momentum"])
def test_an_argument_that_is_a_setting_is_refused(name):
    scope = {}
    exec(f"def init(key, {name}=1): return 0", scope)
    refused(f"its argument {name} is a setting", Model(scope["init"], _loss))


def test_a_missing_value_is_refused():
    def init(key, width):
        return jnp.zeros((784, width))

    refused("argument width has no default and no value", Model(init, _loss))


def test_an_unhashable_value_is_refused():
    def init(key, table=1):
        return jnp.zeros((784, 10))

    refused("table should be a float or something hashable", Model(init, _loss), table={"a": 1})


def test_a_word_for_a_float_is_refused():
    refused("slope: expected a number, got 'high'", plain(), slope="high")


@pytest.mark.parametrize(
    "settings",
    [
        *({"hidden": [5]}, {"activation": "relu"}, {"l2": 0.1}, {"dropout": 0.5}),
        {"batch_invariant": True},
    ],
)
def test_settings_of_our_own_networks_are_refused_beside_a_model(settings):
    (name,) = settings
    refused(f"unknown setting '{name}'", Model(_init, _loss), **settings)


@pytest.mark.parametrize(
    ("init", "loss", "message"),
    [
        (_init, lambda p, x, y, key: (_loss(p, x, y, key)[1].sum(0), x), "scalar loss"),
        (_init, lambda p, x, y, key: (p.sum(), x), "scores of shape"),
        (_init, lambda p, x, y, key: p.sum(), "scalar loss and scores"),
        (_init, lambda p, x, y, key: (p.sum(), p[0]), "scores of shape"),
        (_init, lambda p, x, y, key: (x @ p, x), "loss"),  # images are [batch, 28, 28, 1]
        (lambda key: jnp.zeros((784, 10), jnp.int32), _loss, "int32 at params"),
        (_init, lambda p, x, y, key: (jax.random.normal(key), x.reshape(200, -1) @ p), "key None"),
        (lambda key: 1 / 0, _loss, "init.*ZeroDivisionError"),
    ],
)
def test_functions_that_do_not_fit_are_refused_in_words(init, loss, message, tmp_path):
    refused(message, Model(init, loss), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()  # before anything is written
