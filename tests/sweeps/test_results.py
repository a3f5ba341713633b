"""What a sweep hands back and leaves in its folder is true, complete, and one thing only."""

import csv
import json
import math

import jax
import numpy as np
import pytest

from jaxnet import Network
from jaxnet.errors import RunFolderError
from jaxnet.sweeps import grid, read_job
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.results.sweep_result import network_file
from jaxnet.verbs import run_job, sweep, train

STEPS = 30


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
    assert len({row.key for row in run.rows}) == 12


def test_rows_are_ranked_by_validation_accuracy_of_those_that_stayed_finite(run):
    assert {row.id for row in run.ranked} == set(range(12))
    accuracies = [row.outcome.val_accuracy for row in run.ranked if row.ok]
    assert len(accuracies) == 8
    assert accuracies == sorted(accuracies, reverse=True)


def test_the_best_is_the_middle_seed_of_the_setting_with_the_highest_mean(run):
    """Two seeds of a setting stand side by side; of two the middle one is the lower."""
    means = [
        (run.rows[i].outcome.val_accuracy + run.rows[i + 1].outcome.val_accuracy) / 2
        for i in range(0, 12, 2)
    ]
    i = 2 * int(np.nanargmax(means))
    assert {row.id for row in run.winner.rows} == {i, i + 1}
    pair = run.rows[i : i + 2]
    assert run.best in pair
    assert run.best.outcome.val_accuracy == min(row.outcome.val_accuracy for row in pair)
    assert run.best.outcome.val_accuracy > 0.6  # three classes: it has learnt


def test_what_diverged_is_reported_and_ranked_last(run, losses):
    assert [row.id for row in run.diverged] == [4, 5, 6, 7]
    assert {row.id for row in run.ranked[-4:]} == {4, 5, 6, 7}
    for row in run.diverged:
        outcome = row.outcome
        assert not row.ok
        assert (outcome.kind, outcome.status) == ("diverged", f"diverged@{outcome.steps}")
        assert 0 < outcome.steps < STEPS
        assert math.isnan(outcome.train_accuracy)
        assert math.isnan(outcome.val_accuracy)
        # `steps` updates were made, each from a finite loss; the last of those is the final one.
        history = losses(row)
        assert np.isfinite(history[: outcome.steps]).all()
        assert np.isnan(history[outcome.steps :]).all()
        assert outcome.final_loss == history[outcome.steps - 1]
        late = outcome.history.evaluated > outcome.steps
        assert np.isnan(outcome.history.val_accuracy[late]).all()
        assert np.isnan(outcome.history.train_accuracy[late]).all()


def test_what_stayed_finite_says_ok_and_all_its_steps(run, losses):
    for row in run.rows[:4] + run.rows[8:]:
        outcome = row.outcome
        assert row.ok
        assert row.whole
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


def test_the_database_holds_the_same(run, said):
    with Store(run.folder / "sweep.db") as store:
        kept = {said(result.settings): said(result.outcome) for result in store.results()}
    assert kept == {said(row.settings): said(row.outcome) for row in run.rows}
    assert len(kept) == 12


def test_the_folder_holds_everything_and_nothing_half(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "best.safetensors",
        "config.json",
        "networks",
        "replicates.csv",
        "results.csv",
        "summary.json",
        "sweep.db",
    }
    assert not [name for name in names if "partial" in name or name.startswith("stack-")]
    pictures = list(run.folder.glob("*.png"))
    assert len(pictures) >= 3
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["complete"] is True
    assert (summary["configurations"], summary["diverged"]) == (12, 4)
    assert summary["best"]["id"] == run.best.id
    assert summary["test_accuracy"] == run.test_accuracy


def test_only_the_networks_of_the_best_setting_are_kept(run, data):
    kept = {path.name for path in (run.folder / "networks").iterdir()}
    assert kept == {f"{row.key}.safetensors" for row in run.winner.rows}
    assert len(kept) == 2
    splits = data.split(40)
    for row in run.winner.rows:
        network = run.network_of(row.id)
        assert network.settings == row.settings
        assert network.accuracy(splits.validation) == row.outcome.val_accuracy
    other = next(row for row in run.rows if row.ok and row not in run.winner.rows)
    with pytest.raises(RunFolderError, match=rf"configuration {other.id} was not kept.*keep=None"):
        run.network_of(other.id)
    with pytest.raises(RunFolderError, match="no configuration 12"):
        run.network_of(12)


def test_all_networks_are_kept_when_asked_with_and_without_a_folder(data, tmp_path):
    """All but the diverged; each scores what its row says, read back or not."""
    space = grid(learning_rate=[3e-1, 1e9, 1e-2], hidden=[[5]])
    settings = {"steps": STEPS, "batch_size": 10, "validation": 40, "keep": None}
    for out in (None, tmp_path / "run"):
        result = sweep(space, data, out=out, **settings)
        assert [row.id for row in result.diverged] == [1]
        splits = data.split(40)
        for row in (result.rows[0], result.rows[2]):
            network = result.network_of(row.id)
            assert network.settings == row.settings
            assert network.accuracy(splits.validation) == row.outcome.val_accuracy
            assert network.accuracy(splits.train) == row.outcome.train_accuracy
        with pytest.raises(RunFolderError, match="configuration 1 was not kept"):
            result.network_of(1)
        if out is not None:
            files = {network_file(out, row.key).name for row in result.rows if row.ok}
            assert {path.name for path in (out / "networks").iterdir()} == files


def test_the_accuracies_are_those_of_the_saved_network(run, data, numpy_scores):
    """An oracle that shares no code with the training: file, NumPy, raw images."""
    network = Network.load(run.folder / "best.safetensors")
    right = numpy_scores(network, data.test_images).argmax(axis=1) == data.test_labels
    assert run.test_accuracy == pytest.approx(right.mean(), abs=1e-12)
    splits = data.split(40)
    for part, share in (
        (splits.train, run.best.outcome.train_accuracy),
        (splits.validation, run.best.outcome.val_accuracy),
    ):
        right = numpy_scores(network, part.images).argmax(axis=1) == part.labels
        assert share == pytest.approx(right.mean(), abs=1e-12)


def test_the_saved_network_is_the_one_returned(run, data):
    loaded = Network.load(run.folder / "best.safetensors")
    assert loaded.settings == run.best.settings == run.network.settings
    assert loaded.net.hidden == tuple(run.best.settings["hidden"])
    assert (loaded.class_names, loaded.input_shape) == (("a", "b", "c"), (4, 3, 1))
    scores = [network.scores(data.test_images) for network in (loaded, run.network)]
    np.testing.assert_array_equal(*scores)


def test_the_configuration_tells_how_to_run_it_again(run, data, outcomes):
    config = json.loads((run.folder / "config.json").read_text())
    assert config["data"] == {
        "name": "arrays",
        "fingerprint": data.fingerprint,
        "validation": 40,
        "train": 110,
        "split": "stratified",
        "split_seed": 0,
    }
    assert config["versions"]["jax"] == jax.__version__
    assert config["versions"]["numpy"] == np.__version__
    assert {"jaxnet", "jaxlib", "optax"} <= set(config["versions"])
    assert {"python", "system", "device"} <= set(config["machine"])
    job = read_job(run.folder / "config.json")
    assert (job.steps, job.validation) == (STEPS, 40)
    assert job.settings == {"batch_size": 10}
    assert outcomes(run_job(job, data)) == outcomes(run)


def test_a_finished_run_again_is_the_same_and_trains_nothing(run, data, outcomes, trained):
    job = read_job(run.folder / "config.json")
    before = {path: path.read_bytes() for path in (run.folder / "networks").iterdir()}
    again = run_job(job, data, out=run.folder)
    assert trained == []
    assert outcomes(again) == outcomes(run)
    assert again.test_accuracy == run.test_accuracy
    assert {path: path.read_bytes() for path in (run.folder / "networks").iterdir()} == before


def test_train_is_a_sweep_of_one(data, outcomes):
    settings = {"learning_rate": 0.1, "hidden": [5], "batch_size": 10, "steps": STEPS, "seed": 3}
    one = train(data, **settings)
    other = sweep([{}], data, **settings)
    assert outcomes(one) == outcomes(other)
    assert one.network is not None
    assert one.test_accuracy == other.test_accuracy


def test_when_all_diverge_there_is_no_best(data, tmp_path):
    space = grid(learning_rate=[1e9, 1e10], hidden=[[5]])
    result = sweep(space, data, steps=STEPS, batch_size=10, out=tmp_path / "run")
    assert [row.ok for row in result.rows] == [False, False]
    assert (result.best, result.winner, result.network, result.test_accuracy) == (None,) * 4
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["complete"], summary["best"]) == (True, None)
    assert not list(tmp_path.glob("run/**/*.safetensors"))
