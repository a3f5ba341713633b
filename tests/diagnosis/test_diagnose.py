"""Runs made to have one fault each, on real images; healthy runs must stay clean.

What a run has beside the fault it was made to have is no error: a rate that stands still is rightly
called other names too. Named are those that must be found, and those that would be wrong.
"""

import dataclasses

import jax
import numpy as np
import pytest

import jaxnet
from jaxnet.cli import parser as cli
from jaxnet.data import DataSet
from jaxnet.diagnosis import diagnose
from jaxnet.diagnosis.finding import Observed
from jaxnet.diagnosis.layers import dead_units, layer_gradients, update_ratio
from jaxnet.diagnosis.noise import heavy_penalty
from jaxnet.diagnosis.rate import explosion
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.results.record import History

SMALL = {"hidden": (30,), "batch_size": 50, "steps": 200}
DEEP = {"hidden": (30,) * 4, "batch_size": 50, "steps": 100}

# Runs of one structure share a program: faults are numbers where that can be.
FAULTS = {
    "diverged": (SMALL, {"learning_rate": 1e6}),
    "explosion": (SMALL, {"learning_rate": 0.4}),
    "learning rate too low": (SMALL, {"learning_rate": 1e-4}),
    "loss stands still": (SMALL, {"learning_rate": 1e-7}),
    "regularization dominates": (SMALL, {"learning_rate": 3e-2, "l2": 0.5}),
    "overfitting": (SMALL, {"learning_rate": 1e-1, "steps": 800}),
    "vanishing gradients": (DEEP, {"init_scale": 0.1, "learning_rate": 3e-2}),
    "exploding gradients": (DEEP, {"init_scale": 10.0, "learning_rate": 1e-8}),
    "dead relu units": (SMALL, {"preprocessing": "none", "learning_rate": 1e-2}),
    "initial loss too high": (SMALL, {"preprocessing": "none", "learning_rate": 1e-6}),
    "noisy minibatches": (SMALL, {"batch_size": 2, "learning_rate": 1e-2, "steps": 300}),
    "capacity too low": (SMALL, {"hidden": (1,), "learning_rate": 3e-2, "steps": 1000}),
}
HEALTHY = {
    "sgd": (SMALL, {"learning_rate": 3e-2}),
    "deep": (DEEP, {"learning_rate": 3e-2}),
    "decaying rate": (SMALL, {"schedule": "cosine", "learning_rate": 5e-2, "l2": 1e-3}),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    def train(shape, settings):
        out = tmp_path_factory.mktemp("runs") / "run"
        return jaxnet.train(out=out, keep=1, **{**shape, **settings})

    return train


@pytest.fixture(scope="module")
def tiny():
    """Three noisy shapes of 12 pixels: a sweep of them takes a moment."""
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(0, 1, (3, 12)), np.arange(300) % 3
    images = (centres[labels] + rng.normal(0, 1, (300, 12))).astype(np.float32)
    names = ["a", "b", "c"]
    return DataSet.from_arrays(images[:200], labels[:200], images[200:], labels[200:], names)


@pytest.fixture(scope="module")
def blobs():
    """A function that makes images of ten classes that overlap as much as `noise` has it."""

    def make(noise, shuffled=False):
        rng = np.random.default_rng(0)
        centres, labels = rng.normal(0, 1, (10, 48)), np.arange(4400) % 10
        images = (centres[labels] + rng.normal(0, noise, (4400, 48))).astype(np.float32)
        if shuffled:
            labels = rng.permutation(labels)
        return DataSet.from_arrays(images, labels, images[:100], labels[:100])

    return make


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    """Neither pictures nor reports: they are tested elsewhere, and cost more than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnet.report.figures.draw", lambda *arguments: None)
        patch.setattr("jaxnet.report.publishing.available", lambda: False)
        yield


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_made_to_have_a_fault_has_it(run, fault):
    result = run(*FAULTS[fault])
    found = diagnose(result)
    assert fault in found.names, str(found)
    finding = next(finding for finding in found if finding.name == fault)
    assert finding.evidence
    assert all(isinstance(value, float | int) for value in finding.evidence.values())
    assert finding.change
    assert finding.sentence
    # The folder says the same as the result at hand.
    assert diagnose(result.folder).names == found.names


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_are_clean(run, name):
    assert str(diagnose(run(*HEALTHY[name]))) == "nothing wrong was found"


# On images that overlap, so that no rate learns them by heart; all of one shape.
BLOBS = {"hidden": (30,), "batch_size": 100, "steps": 600, "validation": 400}
FAULTS_ON_BLOBS = {
    # A rate that never falls: with a falling one the same network goes on (see below).
    "plateau": (4.0, {"learning_rate": 0.1, "optimizer": "adam"}),
    # Most of the run is left with a rate of nothing.
    "updates too small": (4.0, {"learning_rate": 0.1, "schedule": "exponential", "decay": 0.1}),
    "updates too large": (4.0, {"learning_rate": 0.6}),
    "no better than chance": (1.0, {"learning_rate": 3e-2}),  # labels in another order
}
HEALTHY_ON_BLOBS = {
    "plateau": (4.0, {"learning_rate": 0.1, "optimizer": "adam", "schedule": "cosine"}),
    "updates too small": (4.0, {"learning_rate": 0.1, "schedule": "exponential", "decay": 0.9}),
    "updates too large": (4.0, {"learning_rate": 0.2}),
    "no better than chance": (1.0, {"learning_rate": 3e-2}),
}


@pytest.mark.parametrize("fault", FAULTS_ON_BLOBS)
def test_a_fault_is_found_and_gone_when_it_is_mended(run, blobs, fault):
    noise, settings = FAULTS_ON_BLOBS[fault]
    shuffled = fault == "no better than chance"
    bad = run({**BLOBS, "data": blobs(noise, shuffled)}, settings)
    found = diagnose(bad)
    assert fault in found.names, str(found)
    assert "capacity too low" not in found.names  # 30 units are enough, as the mended run shows
    noise, settings = HEALTHY_ON_BLOBS[fault]
    good = run({**BLOBS, "data": blobs(noise)}, settings)
    assert fault not in diagnose(good).names, str(diagnose(good))
    assert good.best.outcome.val_accuracy > bad.best.outcome.val_accuracy


def test_a_first_loss_below_guessing(run, tiny):
    """Weights that know the images, and a mean over the classes too: mistakes of a user's model."""
    images, labels = tiny.train_images, tiny.train_labels
    centres = np.stack([images[labels == c].mean(axis=0) for c in range(3)], axis=1)

    def init(key, known=0.0):
        return known * jax.numpy.asarray(centres)

    def loss(params, x, labels, key, scale=1.0):
        scores = x @ params
        picked = jax.nn.log_softmax(scores)[jax.numpy.arange(len(x)), labels]
        return -scale * picked.mean(), scores

    shape = {"data": tiny, "steps": 40, "batch_size": 50, "model": jaxnet.Model(init, loss)}
    told = {"settings": {"loss": "softmax"}}
    healthy = run(shape, {"learning_rate": 0.1})
    assert "initial loss too low" not in diagnose(healthy, **told).names
    for mistake in ({"known": 1.0}, {"scale": 1 / 3}):
        result = run(shape, {"learning_rate": 0.1, **mistake})
        assert "initial loss too low" in diagnose(result, **told).names
        assert "initial loss too low" in diagnose(result.folder, **told).names
        assert "initial loss too low" not in diagnose(result).names  # it may be any loss


def test_what_has_learned_is_no_worse_than_chance(run, blobs):
    """Too large a rate has single minibatches that cost more than guessing; it has learned, yet."""
    result = run({**BLOBS, "data": blobs(2.5), "batch_size": 20}, {"learning_rate": 1.5})
    assert result.best.outcome.val_accuracy > 0.5
    assert "no better than chance" not in diagnose(result).names


def test_saturation(run):
    shape = {"hidden": (30, 30), "activation": "tanh", "steps": 60}
    bad = diagnose(run(shape, {"init_scale": 10.0, "learning_rate": 1e-2}))
    assert "saturated units" in bad.names
    good = diagnose(run(shape, {"init_scale": 0.7, "learning_rate": 1e-2}))  # the same program
    assert "saturated units" not in good.names


def test_divergence_names_the_step(run):
    result = run(*FAULTS["diverged"])
    finding = next(iter(diagnose(result)))
    assert finding.evidence["step"] == float(result.rows[0].outcome.status.split("@")[1])


def test_a_sweep_is_judged_as_a_whole(tiny):
    space = jaxnet.grid(learning_rate=[1e-1, 1e-2, 1e-3, 1e9, 1e10, 1e11], l2=[0.0, 1e-9])
    result = jaxnet.sweep(space, tiny, steps=60, hidden=(5,), batch_size=50)
    found = {finding.name: finding for finding in diagnose(result)}
    assert found["much of the space diverges"].evidence == {
        "diverged": 6,
        "of": 12,
        "highest learning_rate at which most stay finite": 0.1,
    }
    assert "best at the edge" not in found  # beyond the best rate all diverge: no edge
    assert "ranking within noise" in found  # the two penalties are one
    space = jaxnet.grid(learning_rate=[1e-2, 1e-3, 1e-4], hidden=[[5], [6]])
    found = diagnose(jaxnet.sweep(space, tiny, steps=60, batch_size=50))
    edge = next(finding for finding in found if finding.name == "best at the edge")
    assert "higher learning_rate" in edge.change


# --- checks by themselves, on histories made by hand ---------------------------------------------


def history(loss, train=0.5, val=0.5):
    loss = np.asarray(loss, np.float32)
    at = np.array([len(loss)], np.int64)
    steps = np.arange(len(loss), dtype=np.int64)
    return History(steps, loss, at, np.array([train]), np.array([val]))


def test_a_bare_history_says_what_it_can():
    steps = np.arange(100)
    assert diagnose(history(2.3 * np.exp(-steps / 25)), classes=10).names == []
    straight = diagnose(history(2.3 - 0.01 * steps), classes=10)
    assert straight.names == ["learning rate too low"]
    known = diagnose(history(0.5 * np.exp(-steps / 25)), classes=10)
    assert known.names == ["initial loss too low"]
    assert diagnose(history(0.5 * np.exp(-steps / 25))).names == []  # no classes, no expectation


def test_plateau_and_its_opposite():
    steps = np.arange(200)
    flat = history(1 + 1.3 * np.exp(-steps / 10), train=0.7, val=0.5)
    assert "plateau" in diagnose(flat, validation=100).names
    assert "plateau" not in diagnose(flat, settings={"schedule": "cosine"}).names
    assert diagnose(history(2.3 * np.exp(-steps / 60), train=0.7, val=0.66)).names == []


@pytest.mark.parametrize("loss", [[], [2.3], [np.nan] * 30, [2.3] * 5])
def test_short_and_broken_histories_raise_nothing(loss):
    str(diagnose(history(loss), classes=10, settings={"learning_rate": 0.1}))


def test_explosion_names_the_step_from_which():
    loss = np.r_[np.linspace(2.3, 2, 30), np.full(70, 50.0)]
    finding = explosion(Observed(history=history(loss), settings={"learning_rate": 0.3}))
    assert finding is not None
    assert finding.evidence["step"] == 30
    assert "0.1" in finding.change
    assert explosion(Observed(history=history(np.linspace(2.3, 0.1, 100)))) is None


def test_a_loss_that_ends_above_that_of_guessing_is_no_better_than_chance():
    settings = {"learning_rate": 0.3}
    found = diagnose(history(np.linspace(2.3, 2.6, 100)), classes=10, settings=settings)
    assert found.names == ["no better than chance"]
    (finding,) = found
    assert finding.evidence["loss of guessing"] == pytest.approx(np.log(10))
    # The same loss among 100 classes, of which guessing costs 4.6, has been learned.
    again = diagnose(history(np.linspace(4.6, 2.6, 100)), classes=100, settings=settings)
    assert "no better than chance" not in again.names


LAYERS = LayerHistory(
    steps=np.array([0, 100]),
    weight=np.full((2, 3), 0.1),
    gradient=np.full((2, 3), 1e-2),
    update=np.full((2, 3), 1e-4),
    dead=np.zeros((2, 2)),
    saturated=np.full((2, 2), np.nan),
    data_loss=np.array([2.3, 1.0]),
    penalty=np.zeros(2),
)


@pytest.mark.parametrize(
    ("check", "field", "value", "name"),
    [
        (dead_units, "dead", [[0, 0], [0, 0.9]], "dead relu units"),
        (layer_gradients, "gradient", [[1e-6, 1e-4, 1e-2]] * 2, "vanishing gradients"),
        (layer_gradients, "gradient", [[1e2, 1e1, 1e-1]] * 2, "exploding gradients"),
        (update_ratio, "update", np.full((2, 3), 1e-7), "updates too small"),
        (update_ratio, "update", np.full((2, 3), 1e-2), "updates too large"),
        (heavy_penalty, "penalty", [1.0, 2.0], "regularization dominates"),
    ],
)
def test_layers_are_judged(check, field, value, name):
    def observed(layers):
        return Observed(history=history(np.linspace(2.3, 1, 100)), classes=10, layers=layers)

    assert check(observed(LAYERS)) is None
    bad = dataclasses.replace(LAYERS, **{field: np.asarray(value, float)})
    finding = check(observed(bad))
    assert finding is not None
    assert finding.name == name


def test_layer_histories_join_and_come_back(tmp_path):
    later = dataclasses.replace(LAYERS, steps=np.array([100, 200]))
    joined = LAYERS.then(later)
    assert joined.steps.tolist() == [0, 100, 200]
    joined.save(tmp_path / "layers")
    assert LayerHistory.load(tmp_path / "layers").ratio.tolist() == joined.ratio.tolist()


def test_the_command_prints_the_findings(run, capsys):
    result = run(*FAULTS["learning rate too low"])
    assert cli.main(["diagnose", str(result.folder)]) == 0
    assert "learning rate too low: " in capsys.readouterr().out
    assert cli.main(["diagnose", str(result.folder.parent)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
