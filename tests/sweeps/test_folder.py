"""The folder of a run: what it may be, whose it is, and what is refused before it is touched."""

import dataclasses
import json
import re

import pytest

from jaxnet.errors import ConfigurationError, RunFolderError
from jaxnet.sweeps import Halving, Job, grid, read_job
from jaxnet.sweeps.folder.folder import folder_beside
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.space.stopping import Patience
from jaxnet.verbs import run_job, sweep


@pytest.fixture
def small():
    """A job of one configuration that is compiled already."""
    return Job(grid(learning_rate=[0.1]), "arrays", 3, settings={"hidden": [], "batch_size": 10})


def contents(folder):
    """Every file but SQLite's own, which any reader may touch."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("sweep.")
    }


def test_a_folder_of_something_else_is_not_touched(data, small, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(RunFolderError, match=r"is neither an empty folder nor a run's: choose"):
        run_job(small, data, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_and_one_that_is_not_there_are_taken(data, small, tmp_path):
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "deep" / "er"):
        assert run_job(small, data, out=str(out)).folder == out


def test_a_file_in_place_of_the_folder(data, small, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RunFolderError, match=r"is neither an empty folder nor a run's"):
        run_job(small, data, out=file)
    with pytest.raises(RunFolderError, match=r"cannot write the run folder .*Not a directory"):
        run_job(small, data, out=file / "below")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "trains"),
    [
        ({"steps": 4}, 1),
        ({"space": grid(learning_rate=[0.2, 0.1])}, 1),
        ({"replicates": 2}, 1),
        # Equal in all that decides the result, however it is written down.
        ({"space": grid(learning_rate=[0.1], hidden=[[]]), "settings": {"batch_size": 10}}, 0),
        ({"validation": 37}, 0),
        ({"evaluations": 1}, 0),
    ],
    ids=str,
)
def test_a_larger_job_adds_what_is_missing(data, small, tmp_path, trained, said, change, trains):
    """The results of both stay in the file; the tables are those of the larger."""
    out = tmp_path / "run"
    first = run_job(small, data, out=out)
    trained.clear()
    other = dataclasses.replace(small, **change)
    second = run_job(other, data, out=out)
    assert sum(one.networks for one in trained) == trains
    with Store(out / "sweep.db") as store:
        kept = [said(one.outcome) for one in store.results()]
    assert kept[0] == said(first.rows[0].outcome)
    assert kept[-1] == said(second.rows[-1].outcome)
    assert read_job(out / "config.json").to_dict() == other.to_dict()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"validation": 30}, "data.validation was 37, now is 30"),
        ({"train": 50}, "data.train was 113, now is 50"),
        ({"steps": 2}, "steps was 3, now is 2"),
        ({"stop": Patience(2)}, r"stop was None, now is \{'patience': \{'evaluations': 2\}\}"),
        ({"steps": 6, "halving": Halving(2)}, r"halving was None, now is \{'eta': 2.*\}"),
        (
            {"space": grid(learning_rate=[0.3])},
            r"its configuration 0 \(learning_rate 0\.1\) is not in this one, nor are 1 more",
        ),
        ({"space": grid(learning_rate=[0.1])}, "its configuration 1 .learning_rate 0.2. is not in"),
        ({"space": grid(l2=[0.2])}, r"its configuration 0 \(learning_rate 0\.1, l2 0\.0\) is not"),
        ({"seed": 1}, r"its configuration 0 \(seed 0\) is not"),
        ({"settings": {"hidden": [], "batch_size": 11}}, r"its configuration 0 \(batch_size 10\)"),
    ],
    ids=str,
)
def test_a_run_that_is_no_extension_is_refused(data, small, tmp_path, trained, change, named):
    """Nothing is lost and nothing touched; beside it there is room."""
    out = tmp_path / "run"
    small = dataclasses.replace(small, space=grid(learning_rate=[0.1, 0.2]))
    run_job(small, data, out=out)
    before = contents(out)
    other = dataclasses.replace(small, **change)
    trained.clear()
    with pytest.raises(RunFolderError, match=f"holds another run: {named}.* Choose another folder"):
        run_job(other, data, out=out)
    assert contents(out) == before
    assert not trained
    assert folder_beside(out, small, data) == out
    assert folder_beside(out, other, data) == tmp_path / "run-2"


def test_a_run_on_other_images_is_refused(data, make_data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    before = contents(out)
    with pytest.raises(RunFolderError, match=r"holds another run: data.fingerprint was "):
        run_job(small, make_data(seed=2), out=out)
    assert contents(out) == before


def test_a_run_of_another_version_is_refused(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    config = json.loads((out / "config.json").read_text())
    config["versions"]["jax"] = "0.1"
    (out / "config.json").write_text(json.dumps(config))
    before = contents(out)
    with pytest.raises(RunFolderError, match=r"holds another run: versions\.jax was '0\.1'"):
        run_job(small, data, out=out)
    assert contents(out) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"job": {}}'])
def test_a_run_with_a_broken_configuration_is_refused(data, small, tmp_path, text):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    (out / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"config.json|holds another run"):
        run_job(small, data, out=out)
    assert (out / "config.json").read_text() == text


def test_a_broken_database_is_said_to_be_one(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    (out / "sweep.db").write_bytes(b"no database at all, whatever its name says" * 30)
    with pytest.raises(RunFolderError, match=r"cannot open .*sweep\.db .*not a database"):
        run_job(small, data, out=out)


def test_a_folder_in_use_is_refused_and_free_again_afterwards(data, small, tmp_path, trained):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    trained.clear()
    with Store(out / "sweep.db"):
        text = re.escape(f"{out} is in use by another process: wait until it is done")
        with pytest.raises(RunFolderError, match=text):
            run_job(dataclasses.replace(small, steps=4), data, out=out)
    assert trained == []
    run_job(dataclasses.replace(small, steps=4), data, out=out)
    assert len(trained) == 1


def test_a_folder_in_use_keeps_the_configuration_of_its_owner(data, small, tmp_path):
    out = tmp_path / "run"
    run_job(small, data, out=out)
    before = contents(out)
    with Store(out / "sweep.db"), pytest.raises(RunFolderError, match="in use"):
        run_job(dataclasses.replace(small, steps=4), data, out=out)
    assert contents(out) == before


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
        (grid(l2=[0]), {"replicates": 0}, "replicates: expected a whole number from 1 up"),
        (
            grid(l2=[0]),
            {"stop": {"patience": 0}},
            "patience: evaluations: expected a whole number from 1 up",
        ),
        (grid(l2=[0]), {"evaluations": 0}, "evaluations: expected a whole number from 1 up"),
        (grid(l2=[0]), {"history": 0}, "history: expected a whole number from 1 up"),
        (grid(l2=[0]), {"keep": 0}, "keep: expected a whole number from 1 up, got 0"),
        (grid(seed=[0]), {"replicates": 2}, "seed is an axis or a setting too"),
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
