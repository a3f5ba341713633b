"""How the rows that judge are drawn: a setting of every verb, and what is said of sorted rows."""

import dataclasses

import numpy as np
import pytest

import jaxnet
from jaxnet.cli.parser import main
from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError, DataError, DataWarning, RunFolderError
from jaxnet.sweeps import Job, find_preset, grid, read_job
from jaxnet.sweeps.results.judged import Judged
from jaxnet.sweeps.space.job import job_from_dict
from jaxnet.verbs import plan, run_job, sweep

SMALL = {"hidden": [], "batch_size": 10}


@pytest.fixture
def job():
    return Job(grid(learning_rate=[0.1]), "arrays", 3, settings=SMALL)


@pytest.fixture
def in_order(data):
    """The same rows, sorted by class."""
    order = np.argsort(data.train_labels, kind="stable")
    return dataclasses.replace(
        data, train_images=data.train_images[order], train_labels=data.train_labels[order]
    )


def judged_labels(folder):
    return Judged.load(folder / "judged.safetensors").labels.tolist()


def test_your_own_data_are_split_within_each_class(data, in_order, job, tmp_path):
    result = run_job(job, in_order, out=tmp_path / "run")
    assert np.bincount(judged_labels(tmp_path / "run")).tolist() == [13, 12, 12]
    assert result.validation == 37


def test_presets_keep_the_last_rows(monkeypatch):
    mini = jaxnet.data.load("fashion-mnist-mini")
    splits = find_preset("fashion-inception").splits(mini)
    np.testing.assert_array_equal(splits.train.images, mini.train_images[:1000])
    np.testing.assert_array_equal(splits.validation.images, mini.train_images[1000:])
    for name in ("cifar10-144", "cifar10-45", "cifar10-24", "cifar10-first"):
        assert find_preset(name).split is None  # that of CIFAR-10: its reader says tail
        assert find_preset(name).validation == 1000


@pytest.mark.parametrize("split", [{}, {"split": "tail"}, {"split_seed": 5}], ids=str)
def test_every_verb_takes_it(data, tmp_path, split):
    """Each holds out the rows that the data set's own method does."""
    how = {"kind": split.get("split"), "seed": split.get("split_seed", 0)}
    expected = data.split(37, 60, **how).validation.labels.tolist()
    options = {"steps": 2, "validation": 37, "train": 60, **split, **SMALL}
    jaxnet.train(data, out=tmp_path / "train", **options)
    sweep([{}], data, out=tmp_path / "sweep", **options)
    sampler = jaxnet.RandomSearch(
        jaxnet.random_draws(1, learning_rate=jaxnet.log_uniform(1e-2, 1e-1))
    )
    jaxnet.search(sampler, data, trials=1, batch=1, out=tmp_path / "search", **options)
    for verb in ("train", "sweep", "search"):
        assert judged_labels(tmp_path / verb) == expected
        assert read_job(tmp_path / verb / "config.json").splits(
            data
        ).validation.labels.tolist() == (expected)
    assert plan([{}], data, **options).flops > 0
    with pytest.raises(ConfigurationError, match="unknown split 'stratifed': did you mean"):
        plan([{}], data, **{**options, "split": "stratifed"})


def test_optuna_takes_it(data, tmp_path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = jaxnet.random_draws(2, learning_rate=jaxnet.log_uniform(1e-2, 1e-1))
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    options = {"steps": 2, "validation": 37, "split_seed": 5, **SMALL}
    jaxnet.sweeps.optimize(study, space, data, batch=2, out=tmp_path, **options)
    assert judged_labels(tmp_path) == data.split(37, seed=5).validation.labels.tolist()


def test_the_seed_moves_rows_and_the_same_seed_none(data, job):
    one, same, other = (
        run_job(dataclasses.replace(job, split_seed=seed), data).rows[0].outcome.history.loss
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"split": "tail"}, "data.split was 'stratified', now is 'tail'"),
        ({"split_seed": 1}, "data.split_seed was 0, now is 1"),
    ],
    ids=str,
)
def test_a_folder_of_other_rows_is_refused(data, job, tmp_path, change, named):
    run_job(job, data, out=tmp_path / "run")
    with pytest.raises(RunFolderError, match=f"holds another run: {named}"):
        run_job(dataclasses.replace(job, **change), data, out=tmp_path / "run")


def test_the_default_asked_for_by_name_is_the_same_run(data, job, tmp_path, trained):
    run_job(job, data, out=tmp_path / "run")
    trained.clear()
    run_job(dataclasses.replace(job, split="stratified"), data, out=tmp_path / "run")
    assert not trained


def test_files_say_it(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('split = "stratified"\nsplit_seed = 4\n[grid]\nlearning_rate = [0.1]\n')
    job = read_job(file)
    assert (job.split, job.split_seed) == ("stratified", 4)
    assert job_from_dict(job.to_dict()) == job


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"split": "head"}, "unknown split 'head'"),
        ({"split": 3}, "split: expected a text or None, got 3"),
        ({"split": ["tail"]}, "split: expected a text or None"),
        ({"split_seed": -1}, "split_seed: expected a whole number from 0 up, got -1"),
        ({"split_seed": 2**31}, "split_seed: expected a whole number from 0 to 2,147,483,647"),
        ({"split_seed": True}, "split_seed: expected a whole number"),
        ({"split": "tail", "split_seed": 1}, "split_seed belongs to split='stratified', got 1"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("as_a_user")
def test_what_cannot_be_is_refused_in_files(keys, message):
    with pytest.raises(ConfigurationError, match=message):
        job_from_dict({**keys, "grid": {"learning_rate": [0.1]}})


def test_a_seed_without_effect_is_refused_where_the_data_decide(job):
    mini = jaxnet.data.load("fashion-mnist-mini")
    with pytest.raises(ConfigurationError, match="split_seed belongs to split='stratified', got 2"):
        run_job(dataclasses.replace(job, split_seed=2), mini)


def test_the_command_line_takes_it(tmp_path, capsys):
    out = tmp_path / "run"
    words = ["train", "--hidden", "--steps", "2", "--quiet", "--out", str(out)]
    assert main([*words, "--split", "stratified", "--split-seed", "3"]) == 0
    job = read_job(out / "config.json")
    assert (job.split, job.split_seed) == ("stratified", 3)
    mini = jaxnet.data.load("fashion-mnist-mini")
    expected = mini.split(500, kind="stratified", seed=3).validation.labels.tolist()
    assert judged_labels(out) == expected
    assert main([*words, "--split", "tail"]) == 2
    assert "data.split was 'stratified', now is 'tail'" in capsys.readouterr().err


# Rows sorted by class


def test_a_tail_of_classes_that_are_not_trained_on_is_refused(in_order, job, tmp_path):
    """37 of 150 rows of three classes: all but none are of the third, of which 13 rows train."""
    tail = dataclasses.replace(job, split="tail", validation=50)
    for call in (
        lambda: run_job(tail, in_order, out=tmp_path / "run"),
        lambda: plan([{}], in_order, split="tail", validation=50, **SMALL),
    ):
        with pytest.raises(
            DataError, match=r"100% of the rows belong to .*sorted by class.*'stratified"
        ):
            call()
    assert not (tmp_path / "run").exists()


def test_a_tail_of_one_class_is_warned_of(in_order, job):
    with pytest.warns(DataWarning, match=r"validation labels are distributed differently .*sorted"):
        result = run_job(dataclasses.replace(job, split="tail"), in_order)
    shift = result.label_shifts["validation"]
    assert shift.clear
    assert shift.distance == pytest.approx(1 - 13 / 113)


def test_test_labels_of_other_classes_are_warned_of(in_order, job):
    y = in_order.train_labels
    data = DataSet.from_arrays(
        in_order.train_images[y < 2], y[y < 2], in_order.test_images, in_order.test_labels
    )
    with pytest.warns(DataWarning, match=r"test labels are distributed differently .*: 3[234]% of"):
        run_job(job, data)


def test_nets_of_convolutions_refuse_channels_that_come_first():
    images, labels = np.zeros((40, 3, 16, 16), np.uint8), np.arange(40) % 2
    with pytest.warns(DataWarning, match="channels last"):
        data = DataSet.from_arrays(images, labels, images, labels)
    with pytest.raises(DataError, match="look like 3 channels of 16×16 pixels"):
        sweep([{}], data, steps=1, architecture="inception_resnet")


def test_a_decomposition_beyond_memory_is_refused_before_anything_is_trained(
    data, job, monkeypatch, trained
):
    monkeypatch.setattr("jaxnet.data.preprocessing.host_memory", lambda: 2000)
    for method in ({"preprocessing": "pca", "components": 2}, {"preprocessing": "zca"}):
        with pytest.raises(ConfigurationError, match=r"of 113 images with 12 pixels takes .* GiB"):
            run_job(dataclasses.replace(job, settings={**SMALL, **method}), data)
    assert not trained
