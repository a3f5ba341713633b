"""A result is filed under everything that decides it, and under nothing else."""

import importlib
import json
import os
import sqlite3
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet import (
    ConfigurationError,
    DataError,
    Model,
    Network,
    configure,
    grid,
    named,
    plan,
    search,
    sweep,
    train,
)
from jaxnet.errors import RunFolderError
from jaxnet.sweeps.folder.recorded import read_run
from jaxnet.sweeps.results.rows import write_csv

plan_module = importlib.import_module(
    "jaxnet.sweeps.planning.plan"
)  # the name is that of the function
SETTINGS = {"steps": 6, "hidden": [4], "batch_size": 10, "learning_rate": 0.1}
READY = {"steps": 6, "hidden": [4], "batch_size": 10}  # the rate is the optimizer's own
OWN = {"steps": 6, "batch_size": 10, "learning_rate": 0.1}
OWN_FREE = {"steps": 6, "batch_size": 10}
SCALE = 1.0


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations, and nothing to learn its memory."""
    patch = pytest.MonkeyPatch()
    patch.setattr(plan_module, "compiled_bytes", lambda *arguments: (0, 10_000))
    yield
    patch.undo()


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


def with_beta(b1):
    return lambda rate, numbers: optax.adam(rate, b1=b1)


def locked(rate):
    """Make optimizers that differ in what no one can look into."""
    lock = threading.Lock()

    def rule(learning_rate, numbers):
        assert not lock.locked()
        return optax.sgd(rate)

    return rule


def init(key):
    return {"w": jax.random.normal(key, (12, 3)) * 0.1}


def cross_entropy(scores, labels):
    return -jax.nn.log_softmax(scores)[jnp.arange(scores.shape[0]), labels].mean()


def make(scale):
    def loss(params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params["w"] * scale
        return cross_entropy(scores, labels), scores

    return Model(init, loss)


class Loss:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params["w"] * self.scale
        return cross_entropy(scores, labels), scores

    def method(self, x):
        return x


def of_a_global(params, x, labels, key):
    scores = x.reshape(len(x), -1) @ params["w"] * SCALE
    return cross_entropy(scores, labels), scores


@jax.jit
def jitted_of_a_global(x, w):
    return x @ w * SCALE


def calls_a_jitted(params, x, labels, key):
    scores = jitted_of_a_global(x.reshape(len(x), -1), params["w"])
    return cross_entropy(scores, labels), scores


def body(carry, _):
    return carry * SCALE, None


def scans(params, x, labels, key):
    scores, _ = jax.lax.scan(body, x.reshape(len(x), -1) @ params["w"], None, length=1)
    return cross_entropy(scores, labels), scores


def acting(params, x, labels, key, act=jnp.tanh):
    scores = act(x.reshape(len(x), -1) @ params["w"])
    return cross_entropy(scores, labels), scores


def losses(result):
    return [row.outcome.final_loss for row in result.rows]


AXES = {
    "ready optimizers": ("optimizer", [optax.adam(1e-1), optax.sgd(1e-3)], READY),
    "optimizers of a factory": ("optimizer", [with_beta(0.0), with_beta(0.99)], SETTINGS),
    "lambdas on one line": (
        "optimizer",
        [lambda r, n: optax.adam(r), lambda r, n: optax.sgd(r)],
        SETTINGS,
    ),
    "what cannot be told": ("optimizer", [locked(0.1), locked(0.01)], READY),
    "models of a factory": ("model", [make(1.0), make(9.0)], OWN),
    "callable objects": ("model", [Model(init, Loss(1.0)), Model(init, Loss(9.0))], OWN),
    "static functions": ("act", [jnp.tanh, jax.nn.relu], OWN | {"model": Model(init, acting)}),
    "static lambdas": (
        "act",
        [lambda x: x, lambda x: x * 9],
        OWN | {"model": Model(init, acting)},
    ),
}


@pytest.mark.parametrize("name", AXES)
def test_each_value_of_an_axis_is_trained(data, name, assert_close):
    axis, values, settings = AXES[name]
    alone = [sweep(grid(**{axis: [value]}), data, **settings).rows[0] for value in values]
    together = sweep(grid(**{axis: values}), data, **settings)
    assert len(together.replicates) == 2  # two settings, not two runs of one
    assert together.swept == [axis]
    for one, other in zip(alone, together.rows, strict=True):
        assert_close(one, other)
    assert len(set(losses(together))) == 2


@pytest.mark.parametrize("name", [name for name in AXES if name != "what cannot be told"])
def test_a_folder_has_each_value_for_itself(data, tmp_path, trained, name):
    axis, values, settings = AXES[name]
    out = tmp_path / "run"
    first = train(data, out=out, **{axis: values[0]}, **settings)
    with pytest.raises(RunFolderError, match="holds another run: its configuration 0"):
        train(data, out=out, **{axis: values[1]}, **settings)
    assert [one.networks for one in trained] == [1]
    both = sweep(grid(**{axis: values}), data, out=out, **settings)
    assert [one.networks for one in trained] == [1, 1]
    assert losses(both)[0] == losses(first)[0] != losses(both)[1]
    rows = read_run(out).rows
    assert [row.settings[axis] for row in rows] == [row.settings[axis] for row in both.rows]


def changes():
    """Return (the same object, what changes its behaviour) by kind."""
    attribute, table, cell = Loss(1.0), {"scale": 1.0}, [1.0]

    def of_a_table(params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params["w"] * table["scale"] * cell[0]
        return cross_entropy(scores, labels), scores

    def set_scale(value):
        global SCALE
        SCALE = value

    return {
        "a global": (Model(init, of_a_global), set_scale),
        "a global of a jitted function": (Model(init, calls_a_jitted), set_scale),
        "a global of the body of a scan": (Model(init, scans), set_scale),
        "an attribute": (Model(init, attribute), lambda v: setattr(attribute, "scale", v)),
        "an entry": (Model(init, of_a_table), lambda v: table.update(scale=v)),
        "a closed list": (Model(init, of_a_table), lambda v: cell.__setitem__(0, v)),
    }


@pytest.mark.parametrize("name", changes())
def test_what_changed_since_is_traced_anew(data, tmp_path, name):
    """One object, another value: neither a compiled program nor a folder has the old result."""
    model, change = changes()[name]
    change(9.0)
    jax.clear_caches()
    expected = losses(train(data, model=model, **OWN))
    change(1.0)
    jax.clear_caches()
    before = losses(train(data, model=model, out=tmp_path / "run", **OWN))
    change(9.0)
    with pytest.raises(RunFolderError, match="holds another run"):
        train(data, model=model, out=tmp_path / "run", **OWN)
    found = train(data, model=model, out=tmp_path / "run", beside=True, **OWN)
    assert losses(found) == expected != before
    scored = found.network.accuracy(data.split(37).validation)
    assert scored == pytest.approx(found.rows[0].outcome.val_accuracy, abs=1.01 / 37)
    change(1.0)
    assert losses(train(data, model=model, **OWN)) == before


def test_a_program_does_not_look_at_another_object_again(data):
    """Two objects of one content, the first of which changes: the second keeps its own."""
    first, second = Loss(1.0), Loss(1.0)
    expected = losses(train(data, model=Model(init, first), **OWN))
    first.scale = 9.0
    several = sweep(grid(learning_rate=[0.1, 0.2]), data, model=Model(init, second), **OWN_FREE)
    assert losses(several)[0] == pytest.approx(expected[0], rel=1e-4)  # sums in another order


def test_what_did_not_change_compiles_nothing(data, advances):
    settings = OWN_FREE | {"model": Model(init, Loss(3.0)), "optimizer": optax.adam(0.1)}
    train(data, **settings)
    assert len(advances) == 1
    train(data, **settings)
    assert len(advances) == 1


# What cannot be told apart


@pytest.mark.parametrize(
    ("setting", "value", "settings"),
    [
        ("optimizer", locked(0.1), READY),
        ("model", Model(init, Loss(threading.Lock())), OWN),
        ("act", Loss(threading.Lock()).method, OWN | {"model": Model(init, acting)}),
    ],
    ids=["optimizer", "model", "argument"],
)
def test_a_folder_refuses_what_cannot_be_told(data, tmp_path, setting, value, settings):
    out = tmp_path / "run"
    given = {**settings, setting: value}
    with pytest.raises(ConfigurationError, match=f"^{setting}: nothing tells .* lock.*named") as e:
        train(data, out=out, **given)
    assert "\n" not in str(e.value)
    assert not out.exists()
    if setting != "model":
        given[setting] = named("mine", value)
        first = train(data, out=out, **given)
        assert first.rows[0].settings[setting] == "mine"
        assert losses(train(data, out=out, **given)) == losses(first)


def test_what_cannot_be_told_is_trained_in_a_search(data):
    class Asker:
        def __init__(self):
            self.told, self.rules = [], [locked(0.1), locked(0.01)]

        def ask(self, count):
            return [{"optimizer": self.rules[len(self.told)]}][:count]

        def tell(self, rows):
            self.told += rows

    asker = Asker()
    result = search(asker, data, trials=2, batch=1, **READY)
    assert len(result.rows) == len(result.replicates) == 2
    assert len(set(losses(result))) == 2
    assert losses(result) == [row.outcome.final_loss for row in asker.told]


# Names


def test_a_name_is_what_results_are_filed_under(data, tmp_path, trained):
    out = tmp_path / "run"
    first = train(data, optimizer=named("mine", with_beta(0.5)), out=out, **SETTINGS)
    again = train(data, optimizer=named("mine", with_beta(0.9)), out=out, **SETTINGS)
    assert losses(again) == losses(first)  # as was promised
    assert len(trained) == 1
    other = named("another", with_beta(0.5))
    with pytest.raises(RunFolderError, match="optimizer mine"):
        train(data, optimizer=other, out=out, **SETTINGS)
    beside = train(data, optimizer=other, out=out, beside=True, **SETTINGS)
    assert len(trained) == 2
    config = json.loads((beside.folder / "config.json").read_text())
    assert config["job"]["settings"]["optimizer"] == "another"


@pytest.mark.parametrize("wrap", ["model", "functions", "both"])
def test_named_models_train_as_without_a_name(data, wrap):
    plain, loss = make(2.0), make(2.0).loss
    expected = losses(train(data, model=plain, **OWN))
    model = {
        "model": named("mine", plain),
        "functions": Model(named("my init", init), named("my loss", loss)),
        "both": named("mine", Model(named("my init", init), named("my loss", loss))),
    }[wrap]
    assert losses(train(data, model=model, **OWN)) == expected


def test_one_name_for_two_values_is_refused(data):
    values = [named("mine", with_beta(0.5)), named("mine", with_beta(0.9))]
    with pytest.raises(ConfigurationError, match="two different values have the name 'mine'"):
        sweep(grid(optimizer=values), data, **SETTINGS)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_name_is_a_text(name, as_a_user):
    with pytest.raises(ConfigurationError, match="expected a name and a value, such as named"):
        named(name, 3)


# What is shown and stored


def test_labels_in_tables_and_files(data, tmp_path):
    def rules(rate):
        def rule(learning_rate, numbers):
            return optax.sgd(learning_rate * rate["x"])

        return rule

    out = tmp_path / "run"
    values = [with_beta(0.9), optax.adam(0.1), rules({"x": 1}), rules({"x": 2}), "sgd"]
    hidden = [locked(0.1), lambda rate, numbers: optax.sgd(rate)]
    result = sweep(grid(optimizer=values + hidden[1:]), data, out=out, **READY)
    shown = [row.settings["optimizer"] for row in result.rows]
    assert shown[:2] == ["with_beta(b1=0.9)", "adam(0.1)"]
    assert shown[4:] == ["sgd", "lambda rate, numbers: optax.sgd(rate)"]
    assert len(set(shown)) == len(shown)
    assert len(result.replicates) == len(shown)
    write_csv(result.rows, tmp_path / "rows.csv")
    stored = sqlite3.connect(out / "sweep.db").execute("select settings from results").fetchall()
    kept = [path.read_bytes() for path in (out / "networks").iterdir()]
    texts = [
        str(stored).encode(),
        (out / "config.json").read_bytes(),
        (out / "results.csv").read_bytes(),
        (out / "summary.json").read_bytes(),
        *kept,
    ]
    for text in texts:
        assert b"<lambda>" not in text
        assert b" at 0x" not in text
    config = json.loads((out / "config.json").read_text())
    assert config["job"]["grid"]["optimizer"] == shown
    assert "with_beta(b1=0.9)" in str(plan(grid(optimizer=values + hidden), data, **READY))


def test_labels_alike_are_shown_apart(data):
    values = [Loss(np.zeros(2)), Loss(np.ones(2))]
    rules = [lambda rate, numbers, own=one: optax.sgd(rate * own.scale[0] + 0.1) for one in values]
    result = sweep(grid(optimizer=rules), data, **SETTINGS)
    one, other = (row.settings["optimizer"] for row in result.rows)
    assert one != other
    assert one.rpartition(" #")[0] == other.rpartition(" #")[0]
    table = str(plan(grid(optimizer=rules), data, **SETTINGS))
    assert one in table
    assert other in table


def test_a_function_is_never_taken_for_one_of_our_names(data, tmp_path):
    def adam(rate, numbers):
        return optax.sgd(rate)

    out = tmp_path / "run"
    result = sweep(grid(optimizer=[adam, "adam"]), data, out=out, **SETTINGS)
    assert len(result.replicates) == 2
    assert len(read_run(out).rows) == 2
    only = tmp_path / "only"
    train(data, optimizer=adam, out=only, **SETTINGS)
    assert len(read_run(only).rows) == 1


def test_a_network_with_a_function_among_its_arguments_comes_back(data, tmp_path):
    model, out = Model(init, acting), tmp_path / "run"
    space = grid(act=[jnp.tanh, jax.nn.relu])
    kept = sweep(space, data, model=model, out=out, keep=None, **OWN)
    images = data.test_images
    for row in kept.rows:
        network = kept.network_of(row.id)
        act = [jnp.tanh, jax.nn.relu][row.id]
        assert network.net.static_arguments == {"act": act}
        expected = act((network.preprocessing.apply(images)) @ network.params["w"])
        np.testing.assert_allclose(network.scores(images), expected, rtol=1e-5, atol=1e-6)
    path = next((out / "networks").iterdir())
    with pytest.raises(ConfigurationError, match=r"with act = (tanh|relu), which a file does not"):
        Network.load(path, model)
    with pytest.raises(ConfigurationError, match=r"is of the model .*Network.load\(path, model\)"):
        Network.load(path)
    loaded = Network.load(path, model, act=jnp.tanh)
    assert loaded.net.static_arguments == {"act": jnp.tanh}
    with pytest.raises(ConfigurationError, match="unknown argument 'action': did you mean 'act'"):
        Network.load(path, model, action=jnp.tanh)
    with pytest.raises(DataError):
        Network.load(out / "sweep.db", model, act=jnp.tanh)


def test_scalars_of_numpy_and_jax_are_numbers(data, tmp_path, trained):
    def sized(key, width=4, flag=False, scale=1.0):
        return {"w": jax.random.normal(key, (12, width)) * scale, "v": jnp.zeros((width, 3))}

    def loss(params, x, labels, key):
        scores = x.reshape(len(x), -1) @ params["w"] @ params["v"]
        return cross_entropy(scores, labels), scores

    model, out = Model(sized, loss), tmp_path / "run"
    ways = [
        {"width": 4, "flag": True, "scale": 0.5},
        {"width": np.int64(4), "flag": np.bool_(True), "scale": np.float32(0.5)},
        {"width": jnp.asarray(4), "flag": jnp.asarray(True), "scale": jnp.float32(0.5)},
        {"width": np.array(4), "flag": np.True_, "scale": np.array(0.5)},
    ]
    for way in ways:
        result = train(data, model=model, out=out, **way, **OWN)
        settings = {name: result.rows[0].settings[name] for name in way}
        assert settings == ways[0]
        assert repr(settings) == repr(ways[0])
    assert len(trained) == 1
    own = configure(hidden=[np.int64(4)], learning_rate=jnp.float32(0.5), dropout=np.array(0.5))
    assert own == configure(hidden=[4], learning_rate=0.5, dropout=0.5)


def test_one_and_true_are_two_values(data):
    def flagged(key, flag=1):
        return {"w": jnp.zeros((12, 3)) + (0.1 if flag is True else 0.0)}

    result = sweep(grid(flag=[1, True]), data, model=Model(flagged, make(1.0).loss), **OWN)
    assert [row.settings["flag"] for row in result.rows] == [1, True]
    assert len(result.replicates) == 2


SCRIPT = """
import sys, jax, jax.numpy as jnp, numpy as np, optax, jaxnet
RATE, TABLE = 0.5, frozenset(["a", "b", "c"])
class Loss:
    def __init__(self, scale): self.scale = scale
    def __call__(self, params, x, labels, key, act):
        scores = act(x @ params * self.scale)
        return -jax.nn.log_softmax(scores)[jnp.arange(len(x)), labels].mean(), scores
def init(key): return jax.random.normal(key, (6, 3))
def rule(rate, numbers): return optax.sgd(rate * RATE * len(TABLE))
rng = np.random.default_rng(0)
x, y = rng.normal(size=(60, 6)).astype(np.float32), np.arange(60) % 3
result = jaxnet.sweep(
    jaxnet.grid(act=[jnp.tanh, lambda v: v * RATE, jax.nn.relu]),
    jaxnet.data.DataSet.from_arrays(x, y, x, y), model=jaxnet.Model(init, Loss(2.0)),
    optimizer=rule, out=sys.argv[1], steps=3, batch_size=10, validation=10, keep=None)
print([row.outcome.final_loss for row in result.rows])
"""


def test_the_same_script_finds_its_results_again(tmp_path):
    script, out, seen = tmp_path / "job.py", tmp_path / "run", []
    for seed, text in (("1", SCRIPT), ("2", SCRIPT), ("3", "# Moved by a line.\n" + SCRIPT)):
        script.write_text(text)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, script, out], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        rows = sqlite3.connect(out / "sweep.db").execute("select key from results").fetchall()
        assert len(rows) == 3
        seen.append(run.stdout)
    assert len(set(seen)) == 1
    script.write_text(SCRIPT.replace("RATE, TABLE = 0.5", "RATE, TABLE = 0.6"))
    run = subprocess.run([sys.executable, script, out], capture_output=True, text=True)
    assert "holds another run: its configuration 0" in run.stderr
    rows = sqlite3.connect(out / "sweep.db").execute("select key from results").fetchall()
    assert len(rows) == 3
