"""Every setting and every shape of data reaches the run, and what the run says of it."""

import csv
import json
import math

import numpy as np
import optax
import pytest

from jaxnet import Network
from jaxnet.data import DataSet
from jaxnet.sweeps import choice, grid, log_uniform, random_draws
from jaxnet.verbs import sweep, train


def clipped(learning_rate, numbers):
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.sgd(learning_rate, momentum=numbers["momentum"])
    )


def test_a_function_as_optimizer_is_swept_and_kept(data, tmp_path, trained):
    space = grid(learning_rate=[0.1, 0.01], momentum=[0.5, 0.9])
    settings = {"steps": 5, "hidden": [5], "batch_size": 10, "out": tmp_path / "run"}
    result = sweep(space, data, optimizer=clipped, **settings)
    assert {row.settings["optimizer"] for row in result.rows} == {"clipped"}
    assert len({row.outcome.final_loss for row in result.rows}) == 4
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["job"]["settings"]["optimizer"] == "clipped"
    trained.clear()
    sweep(space, data, optimizer=clipped, **settings)
    assert trained == []


def test_another_function_of_the_same_name_is_another_optimizer(data, tmp_path, trained):
    """What it is, is its text: a result of the one is none of the other."""
    settings = {"steps": 5, "hidden": [5], "batch_size": 10, "out": tmp_path / "run"}

    def ours():
        def rule(rate, numbers):
            return optax.sgd(rate)

        return rule

    def theirs():
        def rule(rate, numbers):
            return optax.sgd(rate / 10)

        return rule

    one, other = (train(data, optimizer=rule(), beside=True, **settings) for rule in (ours, theirs))
    assert [row.settings["optimizer"] for row in one.rows + other.rows] == ["rule"] * 2
    assert [one.networks for one in trained] == [1, 1]
    assert one.rows[0].outcome.final_loss != other.rows[0].outcome.final_loss


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
    assert [row.outcome.status for row in result.rows] == ["ok"] * 4
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


def test_images_of_float32_in_any_shape(make_data, losses, numpy_scores):
    images = make_data("float32")
    flat = DataSet.from_arrays(
        images.train_images.reshape(150, 12),
        images.train_labels,
        images.test_images.reshape(77, 12),
        images.test_labels,
    )
    space = grid(learning_rate=[0.3, 0.1])
    settings = {"steps": 30, "hidden": [5], "batch_size": 10}
    one, other = (sweep(space, data, **settings) for data in (images, flat))
    assert [losses(row).tolist() for row in one.rows] == [
        losses(row).tolist() for row in other.rows
    ]
    assert one.best.outcome.val_accuracy > 0.6
    right = numpy_scores(one.network, images.test_images).argmax(axis=1) == images.test_labels
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
def test_lengths_of_runs(data, losses, steps):
    result = train(data, steps=steps, hidden=[], batch_size=10, learning_rate=0.01)
    outcome = result.rows[0].outcome
    assert outcome.steps == steps
    stride = math.ceil(steps / 500)
    assert outcome.history.steps.tolist() == list(range(0, steps, stride))
    assert np.isfinite(losses(result.rows[0])).all()
    assert outcome.history.evaluated[-1] == steps
    assert len(outcome.history.evaluated) == min(steps, 10)
    assert np.isfinite(outcome.history.val_accuracy).all()
    assert all(0 <= a <= 1 for a in outcome.history.train_accuracy)


def test_how_much_is_noted_of_a_run_changes_nothing_else(data, losses):
    """Fewer losses and more evaluations: the losses kept are the same, and so is the end."""
    settings = {"steps": 30, "hidden": [], "batch_size": 10, "learning_rate": 0.01}
    one, other = train(data, **settings), train(data, evaluations=30, history=7, **settings)
    usual, sparse = one.rows[0].outcome, other.rows[0].outcome
    assert sparse.history.steps.tolist() == [0, 5, 10, 15, 20, 25]
    assert sparse.history.loss.tolist() == usual.history.loss[::5].tolist()
    assert sparse.history.evaluated.tolist() == list(range(1, 31))
    at = np.isin(sparse.history.evaluated, usual.history.evaluated)
    assert sparse.history.val_accuracy[at].tolist() == usual.history.val_accuracy.tolist()
    for name in ("steps", "final_loss", "train_accuracy", "val_accuracy", "status"):
        assert getattr(sparse, name) == getattr(usual, name)
    # The accuracy on minibatches is over those since the evaluation before.
    windows = sparse.history.train_accuracy.reshape(10, 3).mean(axis=1)
    np.testing.assert_allclose(windows, usual.history.train_accuracy, rtol=1e-6)  # of float32 sums
