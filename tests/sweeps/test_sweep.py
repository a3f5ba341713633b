"""The whole job: how a sweep is run changes nothing of what it finds; what it keeps is true."""

import csv
import dataclasses
import importlib
import json
import math
import signal
import sqlite3
import subprocess
import sys
import time

import jax
import numpy as np
import optax
import pytest

from jaxnet import Network
from jaxnet.cli import main
from jaxnet.data import DataSet, load
from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.sweeps import (
    PRESETS,
    Job,
    choice,
    find_preset,
    grid,
    log_uniform,
    random_draws,
    read_job,
    run_job,
    sweep,
    train,
)
from jaxnet.sweeps.checkpoint import Checkpoint
from jaxnet.sweeps.plan import network_bytes
from jaxnet.sweeps.store import Store

sweeps_module = importlib.import_module("jaxnet.sweeps.sweep")  # the name is that of the function
chunk_module = importlib.import_module("jaxnet.sweeps.chunk")

STEPS = 30


@pytest.fixture(autouse=True)
def short_calls(monkeypatch):
    """One or two steps a call of `advance`: checkpoints and Ctrl-C have many places to be."""
    monkeypatch.setattr(chunk_module, "SECONDS_PER_CALL", 1e-9)


def outcomes(result):
    """Everything a row says, as text: NaN equals NaN, and every bit counts."""
    return [json.dumps(dataclasses.asdict(row)) for row in result.rows]


def losses(row):
    return np.array(row.outcome.history.loss)


@pytest.fixture
def memory_for(monkeypatch):
    """Allow only so many networks of a structure at once."""

    def set_memory(networks, structure, features=12, classes=3):
        each = float(network_bytes(structure, features, classes))
        monkeypatch.setattr(sweeps_module, "memory_budget", lambda: (networks + 0.5) * each)

    return set_memory


# The table


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A sweep of everything: two structures, two seeds, one that diverges; kept in a folder."""
    out = tmp_path_factory.mktemp("runs") / "run"
    space = grid(learning_rate=[3e-1, 1e9, 1e-2], hidden=[[5], [4, 3]], seed=[0, 1])
    return sweep(space, data, steps=STEPS, batch_size=10, validation=40, out=out)


def test_one_row_a_configuration_in_the_order_of_the_space(run):
    assert [row.id for row in run.rows] == list(range(12))
    assert [
        (row.settings["learning_rate"], row.settings["hidden"], row.settings["seed"])
        for row in run.rows
    ] == [
        (rate, hidden, seed)
        for rate in (3e-1, 1e9, 1e-2)
        for hidden in ([5], [4, 3])
        for seed in (0, 1)
    ]
    assert run.swept == ["hidden", "learning_rate", "seed"]


def test_the_best_has_the_highest_validation_accuracy_of_those_that_stayed_finite(run):
    finite = [row for row in run.rows if row.ok]
    assert run.best.outcome.val_accuracy == max(row.outcome.val_accuracy for row in finite)
    assert run.best == run.ranked[0]
    accuracies = [row.outcome.val_accuracy for row in run.ranked if row.ok]
    assert accuracies == sorted(accuracies, reverse=True)
    assert run.best.outcome.val_accuracy > 0.6  # three classes: it has learnt
    assert {row.id for row in run.ranked} == set(range(12))


def test_what_diverged_is_reported_and_ranked_last(run):
    assert [row.id for row in run.diverged] == [4, 5, 6, 7]
    assert {row.id for row in run.ranked[-4:]} == {4, 5, 6, 7}
    for row in run.diverged:
        outcome = row.outcome
        assert outcome.status == f"diverged@{outcome.steps}"
        assert 0 < outcome.steps < STEPS
        assert math.isnan(outcome.train_accuracy)
        assert math.isnan(outcome.val_accuracy)
        # `steps` updates were made, each from a finite loss; the last of those is the final one.
        history = losses(row)
        assert np.isfinite(history[: outcome.steps]).all()
        assert np.isnan(history[outcome.steps :]).all()
        assert outcome.final_loss == history[outcome.steps - 1]


def test_what_stayed_finite_says_ok_and_all_its_steps(run):
    for row in run.rows[:4] + run.rows[8:]:
        outcome = row.outcome
        assert (outcome.status, outcome.steps) == ("ok", STEPS)
        assert outcome.final_loss == losses(row)[-1]
        assert 0 <= outcome.train_accuracy <= 1
        assert outcome.val_accuracy == outcome.history.val_accuracy[-1]
        # Shares of 110 training and 40 validation images.
        assert outcome.train_accuracy * 110 == pytest.approx(round(outcome.train_accuracy * 110))
        assert outcome.val_accuracy * 40 == pytest.approx(round(outcome.val_accuracy * 40))
        assert outcome.history.evaluated[-1] == STEPS


def test_the_table_on_disk_is_the_table(run):
    with (run.folder / "results.csv").open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    settings = [name for name in run.rows[0].settings if name != "seed"]
    outcome = ["steps", "final_loss", "train_accuracy", "val_accuracy", "status"]
    assert reader.fieldnames == ["id", *settings, "seed", *outcome]
    assert {"learning_rate", "l2", "hidden", "batch_size", "optimizer"} <= set(settings)
    assert len(rows) == len(run.rows)
    for line, row in zip(rows, run.rows, strict=True):
        assert int(line["id"]) == row.id
        assert line["hidden"] == "-".join(map(str, row.settings["hidden"]))
        assert float(line["learning_rate"]) == row.settings["learning_rate"]
        assert line["activation"] == row.settings["activation"]
        assert line["components"] == ""
        assert int(line["seed"]) == row.settings["seed"]
        assert int(line["steps"]) == row.outcome.steps
        assert line["status"] == row.outcome.status
        for name in ("final_loss", "train_accuracy", "val_accuracy"):
            expected = getattr(row.outcome, name)
            assert line[name] == "" if math.isnan(expected) else float(line[name]) == expected


def test_the_database_holds_the_same(run):
    with Store(run.folder / "sweep.db") as store:
        assert [json.dumps(dataclasses.asdict(row)) for row in store.rows()] == outcomes(run)


def test_the_folder_holds_everything_and_nothing_half(run):
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "accuracy.png",
        "best.safetensors",
        "config.json",
        "curves.png",
        "results.csv",
        "summary.json",
        "sweep.db",
        "weights.png",
    ]
    for picture in run.folder.glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG")
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["complete"] is True
    assert (summary["configurations"], summary["diverged"]) == (12, 4)
    assert summary["best"]["id"] == run.best.id
    assert summary["test_accuracy"] == run.test_accuracy


def forward(network, images):
    """Scores by NumPy in float64, from the saved arrays alone."""
    arrays = network.preprocessing.to_arrays()
    x = images.reshape(len(images), -1).astype(np.float64) - arrays["mean"]
    x = x * arrays.get("scale", 1.0)
    for layer in range(1, len(network.hidden) + 2):
        weights = network.params[f"affine_{layer}"]
        x = x @ weights["w"].astype(np.float64) + weights["b"]
        x = np.maximum(x, 0) if layer <= len(network.hidden) else x
    return x


def test_the_accuracies_are_those_of_the_saved_network(run, data):
    """An oracle that shares no code with the training: file, NumPy, raw images."""
    network = Network.load(run.folder / "best.safetensors")
    right = forward(network, data.test_images).argmax(axis=1) == data.test_labels
    assert run.test_accuracy == pytest.approx(right.mean(), abs=1e-12)
    splits = data.split(40)
    for part, said in (
        (splits.train, run.best.outcome.train_accuracy),
        (splits.validation, run.best.outcome.val_accuracy),
    ):
        right = forward(network, part.images).argmax(axis=1) == part.labels
        assert said == pytest.approx(right.mean(), abs=1e-12)


def test_the_saved_network_is_the_one_returned(run, data):
    loaded = Network.load(run.folder / "best.safetensors")
    assert loaded.settings == run.best.settings == run.network.settings
    assert loaded.hidden == tuple(run.best.settings["hidden"])
    assert (loaded.class_names, loaded.input_shape) == (("a", "b", "c"), (4, 3, 1))
    scores = [network.scores(data.test_images) for network in (loaded, run.network)]
    np.testing.assert_array_equal(*scores)


def test_the_configuration_tells_how_to_run_it_again(run, data):
    config = json.loads((run.folder / "config.json").read_text())
    assert config["data"] == {"name": "arrays", "fingerprint": data.fingerprint}
    assert config["versions"]["jax"] == jax.__version__
    assert config["versions"]["numpy"] == np.__version__
    assert {"jaxnet", "jaxlib", "optax"} <= set(config["versions"])
    assert {"python", "system", "device"} <= set(config["machine"])
    job = read_job(run.folder / "config.json")
    assert (job.steps, job.validation) == (STEPS, 40)
    assert job.settings == {"batch_size": 10}
    assert outcomes(run_job(job, data)) == outcomes(run)


def test_a_finished_run_resumed_is_the_same_and_trains_nothing(run, data, monkeypatch):
    def fail(*arguments, **settings):
        raise AssertionError("trained again")

    monkeypatch.setattr(sweeps_module, "train_chunk", fail)
    job = read_job(run.folder / "config.json")
    again = run_job(job, data, out=run.folder, resume=True)
    assert outcomes(again) == outcomes(run)
    assert again.test_accuracy == run.test_accuracy


# What a row depends on, and what not


def rates(values, data, **settings):
    settings = {"steps": STEPS, "batch_size": 10, "hidden": [[5]], **settings}
    hidden = settings.pop("hidden")
    return sweep(grid(learning_rate=values, hidden=hidden), data, **settings)


RATES = [3e-1, 1e-1, 3e-2, 1e-2, 1e-3]

# Other batch shapes sum in another order: some ulps a step, which training amplifies slowly at
# first (style.md: 6e-7 after 100 steps, 2e-3 after 300).
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def five(data):
    return rates(RATES, data)


def assert_same_runs(one, other):
    """Equal up to rounding: losses by `ROUNDING`, accuracies by one image at most."""
    np.testing.assert_allclose(losses(one), losses(other), rtol=ROUNDING)
    assert one.outcome.status == other.outcome.status
    assert one.outcome.val_accuracy == pytest.approx(other.outcome.val_accuracy, abs=1.01 / 37)
    assert one.outcome.train_accuracy == pytest.approx(other.outcome.train_accuracy, abs=1.01 / 113)


@pytest.mark.parametrize("hidden", [[5], [4, 3]], ids=str)
def test_a_member_equals_its_solo_run(data, hidden):
    settings = {"steps": 20, "batch_size": 10, "l2": 0.1}
    together = rates(RATES, data, hidden=[hidden], **{k: v for k, v in settings.items()})
    for row in (together.rows[0], together.rows[3]):
        rate = row.settings["learning_rate"]
        (alone,) = train(data, hidden=hidden, learning_rate=rate, **settings).rows
        assert alone.settings == row.settings
        assert len(losses(alone)) == 20
        assert_same_runs(row, alone)
        # The first loss is made of the same weights and images: nothing to amplify yet.
        np.testing.assert_allclose(losses(row)[0], losses(alone)[0], rtol=1e-6)


def test_the_comparison_of_runs_can_fail(five, data):
    """A rate off by one percent, another seed, one image more in the batch: all are seen."""
    for change in ({"learning_rate": 0.303}, {"seed": 1}, {"batch_size": 11}, {"l2": 0.01}):
        settings = {"learning_rate": 0.3, "hidden": [5], "batch_size": 10, **change}
        (other,) = train(data, steps=STEPS, **settings).rows
        with pytest.raises(AssertionError):
            assert_same_runs(five.rows[0], other)


def test_train_is_a_sweep_of_one(data):
    settings = {"learning_rate": 0.1, "hidden": [5], "batch_size": 10, "steps": STEPS, "seed": 3}
    one = train(data, **settings)
    other = sweep([{}], data, **settings)
    assert outcomes(one) == outcomes(other)
    assert one.network is not None
    assert one.test_accuracy == other.test_accuracy


def test_the_order_of_configurations_is_no_matter(five, data):
    turned = rates(RATES[::-1], data)
    for one, other in zip(five.rows, turned.rows[::-1], strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)


@pytest.mark.parametrize("networks", [1, 2])
def test_the_size_of_chunks_is_no_matter(five, data, memory_for, monkeypatch, networks):
    sizes = []
    real = sweeps_module.train_chunk

    def counted(configurations, *arguments, **settings):
        sizes.append(len(configurations))
        return real(configurations, *arguments, **settings)

    monkeypatch.setattr(sweeps_module, "train_chunk", counted)
    memory_for(networks, sweeps_structure())
    chunked = rates(RATES, data)
    assert sizes == {1: [1] * 5, 2: [2] * 3}[networks]  # the last one padded
    for one, other in zip(five.rows, chunked.rows, strict=True):
        assert_same_runs(one, other)
    assert chunked.best.id == five.best.id


def sweeps_structure(**settings):
    from jaxnet import configure

    return configure(hidden=[5], batch_size=10, **settings).structure


def test_a_diverging_neighbour_changes_no_bit(five, data):
    """The same program with one rate exchanged."""
    beside = rates([3e-1, 1e-1, 1e9, 1e-2, 1e-3], data)
    assert [row.id for row in beside.diverged] == [2]
    for i in (0, 1, 3, 4):
        assert outcomes(beside)[i] == outcomes(five)[i]
    assert beside.best.id != 2


def test_without_the_diverging_neighbour_the_rows_are_the_same(data):
    beside, without = rates([3e-1, 1e9, 1e-2], data), rates([3e-1, 1e-2], data)
    for one, other in ((beside.rows[0], without.rows[0]), (beside.rows[2], without.rows[1])):
        np.testing.assert_allclose(losses(one), losses(other), rtol=1e-5)


def test_a_diverged_run_never_wins_even_against_the_worst(data):
    # At 1e9 the first batches may be fitted by luck; rate 0 learns nothing.
    result = rates([1e9, 0.0], data)
    assert result.best.id == 1
    assert [row.id for row in result.ranked] == [1, 0]
    assert result.network.settings["learning_rate"] == 0.0


def test_when_all_diverge_there_is_no_best(data, tmp_path):
    result = rates([1e9, 1e10], data, out=tmp_path / "run")
    assert result.best is result.network is result.test_accuracy is None
    assert len(result.diverged) == 2
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 3
    again = rates([1e9, 1e10], data, out=tmp_path / "run", resume=True)
    assert outcomes(again) == outcomes(result)


def test_the_same_again_gives_every_bit(five, data):
    assert outcomes(rates(RATES, data)) == outcomes(five)


def test_replicates_differ_by_their_seed(data):
    result = sweep(grid(seed=[0, 1, 0, 2**32 - 1]), data, steps=5, hidden=[5], batch_size=10)
    first, second, third, last = (losses(row) for row in result.rows)
    np.testing.assert_allclose(first, third, rtol=ROUNDING)
    for one, other in ((first, second), (first, last), (second, last)):
        assert abs(one[0] - other[0]) > 1e-3  # other weights, other images


@pytest.fixture
def compilations():
    """Count what XLA compiles from now on."""
    seen = []

    def listen(event, seconds, **more):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_second_sweep_with_other_values_compiles_nothing(data, make_data, compilations, tmp_path):
    """Rates, penalties, seeds, steps, the numbers of the optimizer, and the images themselves."""

    def run(data, steps, **values):
        space = grid(learning_rate=[0.1, values.pop("rate")], l2=[0, values.pop("l2")])
        common = {"hidden": [6], "batch_size": 10, "optimizer": "momentum"}
        return sweep(space, data, steps=steps, **common, **values)

    run(data, 15, rate=0.01, l2=0.1, seed=0)
    assert compilations  # the counter counts
    before = len(compilations)
    run(data, 15, rate=0.02, l2=0.3, seed=0)
    run(data, 23, rate=0.5, l2=0.0, seed=5, momentum=0.5, init_scale=0.1)
    run(make_data(seed=9), 15, rate=0.02, l2=0.3, seed=0)
    assert len(compilations) == before
    run(data, 15, rate=0.01, l2=0.1, seed=0, activation="tanh")
    assert len(compilations) > before


def test_the_full_convention_of_l2_is_the_half_one_with_twice_the_strength(data):
    """l2·Σ‖W‖² = (2·l2)/2·Σ‖W‖²; with the same number they differ."""

    def final(convention, l2):
        settings = {"hidden": [5], "batch_size": 10, "learning_rate": 0.1}
        (row,) = train(data, steps=20, l2=l2, l2_convention=convention, **settings).rows
        return losses(row)

    np.testing.assert_allclose(final("full", 0.25), final("half", 0.5), rtol=ROUNDING)
    difference = final("full", 0.25)[0] - final("half", 0.25)[0]
    # At the start the difference is l2/2·Σ‖W‖², and E‖W‖² of he is 2·outputs: Σ ≈ 2·(5 + 3).
    assert difference == pytest.approx(0.25 / 2 * 2 * (5 + 3), rel=0.5)


def test_float64_trains_in_float64(data):
    settings = {"steps": STEPS, "hidden": [5], "batch_size": 10, "learning_rate": 0.1}
    double = train(data, precision="float64", **settings)
    assert {leaf.dtype for leaf in jax.tree.leaves(double.network.params)} == {np.dtype("float64")}
    assert not jax.config.jax_enable_x64  # and leaves the rest of the session as it was
    # The sum of squares etc. agree with themselves far beyond float32.
    again = train(data, precision="float64", backward="autodiff", **settings)
    np.testing.assert_allclose(
        double.rows[0].outcome.final_loss, again.rows[0].outcome.final_loss, rtol=1e-12
    )
    right = forward(double.network, data.test_images).argmax(axis=1) == data.test_labels
    assert double.test_accuracy == pytest.approx(right.mean(), abs=1e-12)


def test_both_backward_passes_train_the_same(data):
    settings = {"steps": 20, "batch_size": 10, "learning_rate": 0.1, "hidden": [4, 3], "l2": 0.1}
    one, other = (train(data, backward=way, **settings).rows[0] for way in ("manual", "autodiff"))
    np.testing.assert_allclose(losses(one), losses(other), rtol=ROUNDING)


def clipped(learning_rate, numbers):
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=numbers["momentum"])
    )


@pytest.mark.parametrize(
    ("foreign", "own"),
    [
        (
            {"optimizer": optax.adam(0.01)},
            {"optimizer": "adam", "learning_rate": 0.01},
        ),
        (
            {
                "optimizer": lambda rate, numbers: optax.sgd(rate, numbers["momentum"]),
                "momentum": 0.8,
                "learning_rate": 0.05,
            },
            {"optimizer": "momentum", "momentum": 0.8, "learning_rate": 0.05},
        ),
    ],
    ids=["adam", "function"],
)
def test_an_optimizer_of_optax_trains_as_ours(data, foreign, own):
    common = {"steps": 20, "hidden": [5], "batch_size": 10}
    one, other = (train(data, **common, **s).rows[0] for s in (foreign, own))
    # optax computes with Python numbers where ours are float32 arrays (style.md).
    np.testing.assert_allclose(losses(one), losses(other), rtol=1e-3)


def test_a_function_as_optimizer_is_swept_and_kept(data, tmp_path):
    space = grid(learning_rate=[0.1, 0.01], momentum=[0.5, 0.9])
    out = tmp_path / "run"
    result = sweep(space, data, steps=5, hidden=[5], batch_size=10, optimizer=clipped, out=out)
    assert {row.settings["optimizer"] for row in result.rows} == {"clipped"}
    assert len({row.outcome.final_loss for row in result.rows}) == 4
    config = json.loads((out / "config.json").read_text())
    assert config["job"]["settings"]["optimizer"] == "clipped"


def test_a_random_space_is_trained_as_it_was_drawn(data):
    space = random_draws(6, learning_rate=log_uniform(1e-3, 1), hidden=choice([5], [4, 3]))
    result = sweep(space, data, steps=5, seed=2, batch_size=10)
    drawn = space.settings(2)
    assert [row.settings["learning_rate"] for row in result.rows] == [
        s["learning_rate"] for s in drawn
    ]
    assert [row.settings["hidden"] for row in result.rows] == [s["hidden"] for s in drawn]


def test_rules_with_numbers_of_their_own_side_by_side(data, tmp_path):
    """Not every row has every setting, and the settings that vary may be such ones."""
    space = [
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "momentum": 0.5},
        {"optimizer": "momentum", "momentum": 0.9},
        {"optimizer": "adam", "schedule": "cosine"},
    ]
    result = sweep(
        space, data, steps=5, hidden=[5], batch_size=10, learning_rate=0.1, out=tmp_path / "run"
    )
    assert [row.status for row in map(lambda r: r.outcome, result.rows)] == ["ok"] * 4
    with (tmp_path / "run" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [line["momentum"] for line in rows] == ["", "0.5", "0.9", ""]
    assert [line["beta1"] for line in rows] == ["", "", "", "0.9"]
    assert (tmp_path / "run" / "accuracy.png").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"preprocessing": "none", "init_scale": 0.01},
        {"preprocessing": "zca"},
        {"preprocessing": "pca", "components": 3},
        {"preprocessing": "pca", "variance": 0.9},
    ],
    ids=str,
)
def test_every_preprocessing_reaches_the_device_and_the_file(data, tmp_path, settings):
    out = tmp_path / "run"
    common = {"steps": 5, "hidden": [], "batch_size": 10, "learning_rate": 0.01}
    result = train(data, out=out, validation=40, **common, **settings)
    network = Network.load(out / "best.safetensors")
    splits = data.split(40)
    # What the device scored during training is what the saved network scores from raw images.
    assert network.accuracy(splits.train) == pytest.approx(result.rows[0].outcome.train_accuracy)
    assert network.accuracy(splits.validation) == pytest.approx(result.rows[0].outcome.val_accuracy)


def test_images_of_float32_in_any_shape(make_data):
    images = make_data("float32")
    flat = DataSet.from_arrays(
        images.train_images.reshape(150, 12),
        images.train_labels,
        images.test_images.reshape(77, 12),
        images.test_labels,
    )
    one, other = (rates([0.3, 0.1], data) for data in (images, flat))
    assert [losses(row).tolist() for row in one.rows] == [
        losses(row).tolist() for row in other.rows
    ]
    assert one.best.outcome.val_accuracy > 0.6
    right = forward(one.network, images.test_images).argmax(axis=1) == images.test_labels
    assert one.test_accuracy == pytest.approx(right.mean(), abs=1e-12)


@pytest.mark.parametrize("shape", [(3, 2, 2), (12, 1), (2, 2, 3, 1)], ids=str)
def test_images_that_are_no_pictures_are_trained_on_and_not_drawn(data, tmp_path, shape):
    """Two channels, one dimension or four: there are no weights to show as images."""
    shaped = DataSet.from_arrays(
        data.train_images.reshape(150, *shape),
        data.train_labels,
        data.test_images.reshape(77, *shape),
        data.test_labels,
    )
    out = tmp_path / "run"
    settings = {"hidden": [], "batch_size": 10, "learning_rate": 0.01}
    assert train(shaped, steps=3, out=out, **settings).best is not None
    assert (out / "curves.png").exists()
    assert not (out / "weights.png").exists()


def test_norms_and_dropout_in_a_sweep(data):
    space = grid(dropout=[0.1, 0.5], norm=["batch", "layer"])
    result = sweep(space, data, steps=40, hidden=[8], batch_size=20, learning_rate=0.3)
    assert all(row.ok for row in result.rows)
    assert all(row.outcome.val_accuracy > 0.5 for row in result.rows)
    # The running statistics are part of the network.
    if result.best.settings["norm"] == "batch":
        assert np.abs(result.network.state["batchnorm_1"]["running_mean"]).max() > 0


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 600])
def test_lengths_of_runs(data, steps):
    result = train(data, steps=steps, hidden=[], batch_size=10, learning_rate=0.01)
    outcome = result.rows[0].outcome
    assert outcome.steps == steps
    stride = math.ceil(steps / 500)
    assert outcome.history.steps == list(range(0, steps, stride))
    assert np.isfinite(losses(result.rows[0])).all()
    assert outcome.history.evaluated[-1] == steps
    assert len(outcome.history.evaluated) == min(steps, 10)
    assert np.isfinite(outcome.history.val_accuracy).all()
    assert all(0 <= a <= 1 for a in outcome.history.train_accuracy)


# Interruptions


def job_of(data, **more):
    """Six rates in three chunks when two fit, then a net of another structure."""
    space = grid(hidden=[[5], [4, 3]], learning_rate=[3e-1, 1e9, 3e-2, 1e-1, 1e-2, 1e-3])
    return Job(space, "arrays", STEPS, settings={"batch_size": 10}, **more)


@pytest.fixture
def two_at_once(memory_for):
    memory_for(2, sweeps_structure())


@pytest.fixture
def uninterrupted(data, two_at_once):
    return run_job(job_of(data), data)


class Interrupt:
    """Raise KeyboardInterrupt before the call of that number, or after it has done its work."""

    def __init__(self, monkeypatch, owner, name, at, after=False):
        real, self.calls = getattr(owner, name), 0

        def interrupted(*arguments, **settings):
            self.calls += 1
            if self.calls == at and not after:
                raise KeyboardInterrupt
            result = real(*arguments, **settings)
            if self.calls == at and after:
                raise KeyboardInterrupt
            return result

        monkeypatch.setattr(owner, name, interrupted)


@pytest.mark.parametrize(
    ("owner", "name", "at", "after"),
    [
        (Store, "add", 1, False),
        (Store, "add", 2, False),
        (Store, "add", 3, True),
        (Network, "save", 1, True),
        (sweeps_module, "train_chunk", 4, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_interrupted_between_chunks_and_resumed(
    data, tmp_path, monkeypatch, uninterrupted, owner, name, at, after
):
    out, job = tmp_path / "run", job_of(data)
    with monkeypatch.context() as patch:
        patch.setattr(sweeps_module, "Checkpoint", lambda path: Checkpoint(path, interval=0.0))
        Interrupt(patch, owner, name, at, after)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, data, out=out)
    with Store(out / "sweep.db") as store:
        kept = store.rows()
    assert len(kept) < 12
    resumed = run_job(job, data, out=out, resume=True)
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert resumed.test_accuracy == uninterrupted.test_accuracy
    # Nothing of the interruption is left.
    assert not list(out.glob("checkpoint*"))
    assert not list(out.glob("*.partial"))
    best = Network.load(out / "best.safetensors")
    assert best.settings == uninterrupted.best.settings
    for name in ("results.csv", "curves.png"):
        assert (out / name).exists()


@pytest.mark.parametrize(
    ("owner", "name", "at", "after", "count"),
    [(sweeps_module, "train_chunk", 3, False, 4), (Store, "add", 1, True, 2)],
    ids=["before a chunk", "just committed"],
)
def test_what_finished_is_readable_after_an_interruption(
    data, tmp_path, monkeypatch, two_at_once, owner, name, at, after, count
):
    """The table, and the weights of the best in it: without resuming."""
    out, job = tmp_path / "run", job_of(data)
    with monkeypatch.context() as patch:
        Interrupt(patch, owner, name, at, after)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, data, out=out)
    with (out / "results.csv").open(newline="") as file:
        assert [int(line["id"]) for line in csv.DictReader(file)] == list(range(count))
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["configurations"]) == (False, count)
    rate = summary["best"]["learning_rate"]
    assert Network.load(out / "best.safetensors").settings["learning_rate"] == rate


@pytest.mark.parametrize("at", [1, 2, 25, 35])
def test_interrupted_within_a_chunk_and_resumed_from_its_checkpoint(
    data, tmp_path, monkeypatch, uninterrupted, at
):
    """Stored after every call, cut at some of them: the table is the same in every bit."""
    out, job = tmp_path / "run", job_of(data)
    started = []
    monkeypatch.setattr(sweeps_module, "Checkpoint", lambda path: Checkpoint(path, interval=0.0))
    with monkeypatch.context() as patch:
        Interrupt(patch, Checkpoint, "save", at, after=True)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, data, out=out)
    assert len(list(out.glob("checkpoint-*.safetensors"))) == 1
    real_load = Checkpoint.load

    def load(self, like):
        state = real_load(self, like)
        started.append(int(state[0].step))
        return state

    monkeypatch.setattr(Checkpoint, "load", load)
    resumed = run_job(job, data, out=out, resume=True)
    assert started[0] > 0  # it did go on, and not begin again
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert not list(out.glob("checkpoint*"))


@pytest.mark.parametrize(("at", "committed"), [(5, 0), (35, 2)])
def test_resumed_with_another_memory_every_row_is_there_once(
    data, tmp_path, monkeypatch, memory_for, uninterrupted, at, committed
):
    """On another machine the chunks are others: some are half done, and so is what is stored."""
    out, job = tmp_path / "run", job_of(data)
    monkeypatch.setattr(sweeps_module, "Checkpoint", lambda path: Checkpoint(path, interval=0.0))
    with monkeypatch.context() as patch:
        Interrupt(patch, Checkpoint, "save", at, after=True)
        with pytest.raises(KeyboardInterrupt):
            run_job(job, data, out=out)
    with Store(out / "sweep.db") as store:
        assert len(store.rows()) == committed  # of the six of the first structure
    memory_for(3, sweeps_structure())
    resumed = run_job(job, data, out=out, resume=True)
    assert [row.id for row in resumed.rows] == list(range(12))
    for one, other in zip(resumed.rows, uninterrupted.rows, strict=True):
        np.testing.assert_allclose(losses(one), losses(other), rtol=ROUNDING)
    with (out / "results.csv").open(newline="") as file:
        assert [int(line["id"]) for line in csv.DictReader(file)] == list(range(12))
    assert not list(out.glob("checkpoint*"))


TOML = """
steps = 40
validation = 50
train = 100
[grid]
seed = {seeds}
learning_rate = [1e-3, 1e9]
hidden = [[4]]
batch_size = [10]
"""


def wait_for_rows(database, process, rows=1, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if database.exists():
            connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
            try:
                (found,) = connection.execute("SELECT count(*) FROM results").fetchone()
                if found >= rows:
                    return
            except sqlite3.OperationalError:
                pass  # not there yet
            finally:
                connection.close()
        time.sleep(0.01)
    raise AssertionError("no row was committed in time")


def test_killed_and_resumed(tmp_path, capsys, monkeypatch):
    """kill -9 of a real process, after its first commit; a later one goes on."""
    monkeypatch.setattr(chunk_module, "SECONDS_PER_CALL", 0.5)
    job, out = tmp_path / "job.toml", tmp_path / "run"
    job.write_text(TOML.format(seeds=list(range(50))))
    command = [sys.executable, "-m", "jaxnet", "sweep", str(job), "--out", str(out), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for_rows(out / "sweep.db", process)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with Store(out / "sweep.db") as store:
        kept = store.rows()
    assert 0 < len(kept) < 100
    assert main(["sweep", str(job), "--out", str(out), "--resume", "--quiet"]) == 0
    with Store(out / "sweep.db") as store:
        rows = [json.dumps(dataclasses.asdict(row)) for row in store.rows()]
    assert rows[: len(kept)] == [json.dumps(dataclasses.asdict(row)) for row in kept]
    whole = run_job(read_job(job), load("fashion-mnist-mini"))
    assert rows == outcomes(whole)
    assert not list(out.glob("checkpoint*"))


# Folders


@pytest.fixture
def small(data):
    """A job of one configuration that is compiled already."""
    return Job(grid(learning_rate=[0.1]), "arrays", 3, settings={"hidden": [], "batch_size": 10})


def test_a_new_run_never_touches_an_old_one(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(RunFolderError, match=r"exists and is not an empty folder.*--resume"):
        run_job(small, data, out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_of_something_else_is_not_touched(data, small, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="exists and is not an empty folder"):
            run_job(small, data, out=tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_and_one_that_is_not_there_are_taken(data, small, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "er"):
        assert run_job(small, data, out=str(out)).folder == out


def test_a_file_in_place_of_the_folder(data, small, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for resume in (False, True):
        with pytest.raises(RunFolderError, match="exists and is not an empty folder"):
            run_job(small, data, out=file, resume=resume)
        with pytest.raises(RunFolderError, match=r"cannot write the run folder .*Not a directory"):
            run_job(small, data, out=file / "below", resume=resume)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 4}, "job.steps was 3, now is 4"),
        ({"seed": 1}, "job.seed was 0, now is 1"),
        ({"validation": 30}, "job.validation was None, now is 30"),
        (
            {"space": grid(learning_rate=[0.2])},
            r"job.grid.learning_rate was \[0.1\], now is \[0.2\]",
        ),
        ({"space": grid(l2=[0.2])}, "job.grid"),
        (
            {"settings": {"hidden": [], "batch_size": 11}},
            "job.settings.batch_size was 10, now is 11",
        ),
        ({"settings": {"hidden": []}}, "job.settings.batch_size was 10, now is None"),
    ],
    ids=str,
)
def test_a_run_of_another_job_is_not_resumed(data, small, tmp_path, change, named):
    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        Interrupt(patch, sweeps_module, "train_chunk", 1)
        with pytest.raises(KeyboardInterrupt):
            run_job(small, data, out=out)
    with pytest.raises(RunFolderError, match=f"holds another run: {named}"):
        run_job(dataclasses.replace(small, **change), data, out=out, resume=True)


def test_a_run_on_other_images_is_not_resumed(data, make_data, small, tmp_path):
    run_job(small, data, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"holds another run: data.fingerprint was "):
        run_job(small, make_data(seed=2), out=tmp_path / "run", resume=True)


def test_a_run_of_another_version_is_not_resumed(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    config = json.loads((out / "config.json").read_text())
    config["versions"]["jax"] = "0.1"
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunFolderError, match=r"holds another run: versions\.jax was '0\.1'"):
        run_job(small, data, out=out, resume=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"job": {}}'])
def test_a_run_with_a_broken_configuration_is_not_resumed(data, small, tmp_path, text):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    (out / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"config.json|holds another run"):
        run_job(small, data, out=out, resume=True)


def test_a_broken_database_is_said_to_be_one(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    (out / "sweep.db").write_bytes(b"no database at all, whatever its name says" * 30)
    with pytest.raises(RunFolderError, match=r"cannot open .*sweep\.db .*not a database"):
        run_job(small, data, out=out, resume=True)


# What cannot be, before anything is trained or written


@pytest.mark.parametrize(
    ("space", "settings", "error"),
    [
        ([], {}, "empty"),
        (grid(l2=[0, -1]), {}, "configuration 1: l2: expected a value"),
        (grid(l2=[0]), {"l2": 1}, "l2 is an axis of the space and a setting"),
        (grid(l2=[0]), {"optimiser": "adam"}, "unknown setting 'optimiser'.*'optimizer'"),
        (grid(l2=[0]), {"validation": 150}, "cannot split arrays into 0 training"),
        (grid(l2=[0]), {"train": 140, "validation": 20}, "cannot split arrays into 140"),
        (grid(l2=[0]), {"steps": 0}, "steps: expected a whole number from 1 up"),
        (
            grid(preprocessing=["none", "pca"]),
            {"components": 13},
            "components",
        ),
        ([{}, {"preprocessing": "pca", "components": 13}], {}, r"components must be in 1\.\.12"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_come_before_anything_is_compiled_or_written(
    data, tmp_path, compilations, space, settings, error
):
    out = tmp_path / "run"
    with pytest.raises(ConfigurationError, match=error):
        sweep(space, data, out=out, **{"steps": 3, **settings})
    assert not out.exists()
    assert not compilations


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown data set 'fashion'"):
        sweep([{}], "fashion", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Presets

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
    assert set(PRESETS) == set(ISSUE)


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
