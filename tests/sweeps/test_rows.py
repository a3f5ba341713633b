"""Rows keep their names: an id of a run folder never means another configuration."""

import csv
import hashlib
import json

import pytest

from jaxnet.cli.parser import main
from jaxnet.errors import RunFolderError
from jaxnet.report import available
from jaxnet.sweeps import grid, log_uniform, random_draws
from jaxnet.sweeps.folder.recorded import read_run
from jaxnet.sweeps.run.local_executor import Local
from jaxnet.sweeps.run.run import kept_network
from jaxnet.verbs import search, sweep

RUN = {"steps": 6, "batch_size": 10, "hidden": []}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def rates_of(folder):
    """Return the learning rate (and seed) under each id, as every reader of the folder has them."""
    with (folder / "results.csv").open(newline="") as file:
        table = {int(line["id"]): line for line in csv.DictReader(file)}
    found = {i: (float(line["learning_rate"]), int(line["seed"])) for i, line in table.items()}
    recorded = {
        row.id: (row.settings["learning_rate"], row.settings["seed"])
        for row in read_run(folder).rows
    }
    assert recorded == found
    for i, expected in found.items():
        settings = kept_network(folder, i).settings
        assert (settings["learning_rate"], settings["seed"]) == expected
    return found


def listed(*rates):
    return [{"learning_rate": rate} for rate in rates]


# Each a series of spaces and options that extend one another.
GROWTHS = {
    "a value before": [(grid(learning_rate=[0.1]), {}), (grid(learning_rate=[0.3, 0.1]), {})],
    "values between": [
        (grid(learning_rate=[0.3, 0.1]), {}),
        (grid(learning_rate=[0.2, 0.1, 0.4, 0.3]), {}),
        (grid(learning_rate=[0.5, 0.2, 0.1, 0.4, 0.3]), {}),
    ],
    "seeds": [
        (grid(learning_rate=[0.1, 0.3]), {}),
        (grid(learning_rate=[0.1, 0.3]), {"replicates": 2}),
        (grid(learning_rate=[0.2, 0.1, 0.3]), {"replicates": 3}),
    ],
    "draws": [
        (random_draws(2, learning_rate=log_uniform(0.01, 1)), {}),
        (random_draws(5, learning_rate=log_uniform(0.01, 1)), {}),
    ],
    "steps and a value": [
        (grid(learning_rate=[0.1, 0.3]), {}),
        (grid(learning_rate=[0.2, 0.3, 0.1]), {"steps": 9}),
    ],
    "a list in another order": [(listed(0.1, 0.3), {}), (listed(0.3, 0.1), {})],
    "the same several times": [
        (listed(0.1, 0.3, 0.1), {}),
        (listed(0.3, 0.3, 0.1, 0.2, 0.1, 0.1), {}),
    ],
    "one network": [(listed(0.1), {}), (grid(learning_rate=[0.2, 0.1]), {})],
    "a schedule over the run": [
        (grid(learning_rate=[0.1, 0.3]), {"schedule": "cosine"}),
        (grid(learning_rate=[0.3, 0.2, 0.1]), {"schedule": "cosine", "steps": 9}),
    ],
}


@pytest.mark.parametrize("growth", GROWTHS)
def test_ids_keep_their_meaning_as_a_folder_grows(data, out, growth):
    before = {}
    for space, options in GROWTHS[growth]:
        result = sweep(space, data, out=out, keep=None, **{**RUN, **options})
        found = rates_of(out)
        assert found.items() >= before.items()
        assert sorted(found) == list(range(len(found))) == [row.id for row in result.rows]
        for row in result.rows:
            assert (row.settings["learning_rate"], row.settings["seed"]) == found[row.id]
            assert result.network_of(row.id).settings["learning_rate"] == found[row.id][0]
        before = found


def test_an_interrupted_extension_keeps_every_row(data, out, interrupt, memory_for):
    """Those that train for longer are as they were, until they are done."""
    memory_for(1)
    options = {**RUN, "keep": None, "out": out, "hidden": [5]}
    sweep(grid(learning_rate=[0.1, 0.3]), data, **options)
    before = rates_of(out)
    larger = grid(learning_rate=[0.2, 0.3, 0.1])
    with interrupt(Local, "_train", 2):
        sweep(larger, data, **{**options, "steps": 9})
    assert rates_of(out).items() >= before.items()
    with (out / "results.csv").open(newline="") as file:
        assert sorted(line["steps"] for line in csv.DictReader(file)) == ["6", "9"]
    sweep(larger, data, **{**options, "steps": 9})
    assert rates_of(out) == {**before, 2: (0.2, 0)}
    with pytest.raises(RunFolderError, match="steps was 9, now is 6"):
        sweep(grid(learning_rate=[0.1, 0.3]), data, **options)


def test_killed_between_config_and_ids_the_same_command_goes_on(data, out, interrupt):
    from jaxnet.sweeps.folder.store import Store

    options = {**RUN, "keep": None, "out": out}
    sweep(grid(learning_rate=[0.1]), data, **options)
    with interrupt(Store, "record", 1):
        sweep(grid(learning_rate=[0.3, 0.1]), data, **options)
    assert rates_of(out) == {0: (0.1, 0)}
    sweep(grid(learning_rate=[0.3, 0.1]), data, **options)
    assert rates_of(out) == {0: (0.1, 0), 1: (0.3, 0)}


def test_a_run_that_came_to_no_result_is_no_one_s(data, out, interrupt):
    with interrupt(Local, "_train", 1):
        sweep(grid(learning_rate=[0.1, 0.3]), data, out=out, **RUN)
    sweep(grid(learning_rate=[0.2]), data, out=out, keep=None, **RUN)
    assert rates_of(out) == {0: (0.2, 0)}


# Beside


def test_another_run_stands_beside_by_choice(data, tmp_path, out, trained):
    first = sweep(listed(0.1), data, out=out, **RUN)
    assert sweep(listed(0.1, 0.2), data, out=out, beside=True, **RUN).folder == first.folder == out
    other = sweep(listed(0.3), data, out=out, beside=True, **RUN)
    assert other.folder == tmp_path / "run-2"
    trained.clear()
    assert sweep(listed(0.3), data, out=out, beside=True, **RUN).folder == other.folder
    assert not trained
    third = sweep(listed(0.3), data, out=out, beside=True, validation=30, **RUN)
    assert third.folder == tmp_path / "run-3"
    assert [len(read_run(tmp_path / n).rows) for n in ("run", "run-2", "run-3")] == [2, 1, 1]


def test_beside_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", "--steps", "3", "--hidden", "--quiet"]
    assert main([*command, "--out", str(out)]) == 0
    assert main([*command, "--out", str(out), "--seed", "1"]) == 2
    text = "its configuration 0 (seed 0) is not in this one. Choose another folder, let a sweep"
    assert text in capsys.readouterr().err
    assert main([*command, "--out", str(out), "--seed", "1", "--beside"]) == 0
    assert json.loads((tmp_path / "run-2" / "summary.json").read_text())["complete"]


# The same again


def record_of(folder):
    return {
        path.relative_to(folder): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "options", [{}, {"replicates": 2, "halving": 2}, {"stop": {"patience": 1}}], ids=str
)
def test_a_finished_sweep_again_changes_no_record_of_it(data, out, trained, monkeypatch, options):
    options = {**RUN, "steps": 8, "hidden": [5], **options, "out": out}
    space = grid(learning_rate=[0.1, 1e9, 0.3])
    sweep(space, data, **options)
    before = record_of(out)
    assert (out / "report.html" in out.iterdir()) == available()
    trained.clear()
    monkeypatch.setattr("sys.argv", ["elsewhere"])
    sweep(space, data, **options)
    assert not trained
    assert record_of(out) == before
    (out / "results.csv").unlink()
    sweep(space, data, **options)
    assert {name: digest for name, (digest, _) in record_of(out).items()} == {
        name: digest for name, (digest, _) in before.items()
    }


def test_a_run_began_when_it_began_and_its_seconds_add_up(data, out, interrupt, memory_for):
    memory_for(1)
    options = {**RUN, "hidden": [5], "out": out}
    with interrupt(Local, "_train", 2):
        sweep(listed(0.1, 0.3), data, **options)
    config = json.loads((out / "config.json").read_text())
    assert config["started"]
    config["started"] = "2001-01-01T00:00:00+00:00"
    (out / "config.json").write_text(json.dumps(config))
    first = json.loads((out / "summary.json").read_text())["seconds"]
    second = sweep(listed(0.1, 0.3), data, **options).seconds
    assert json.loads((out / "config.json").read_text()) == config
    total = json.loads((out / "summary.json").read_text())["seconds"]
    assert total == pytest.approx(first + second, rel=0.2)
    assert total > first
    sweep(listed(0.1, 0.3, 0.2), data, **options)
    extended = json.loads((out / "config.json").read_text())
    assert extended["started"] == config["started"]
    assert len(extended["job"]["configuration"]) == 3


# A search


class Asking:
    """Asks for these rates, one after another."""

    def __init__(self, *rates):
        self.rates = list(rates)

    def ask(self, count):
        asked, self.rates = self.rates[:count], self.rates[count:]
        return listed(*asked)

    def tell(self, rows):
        self.told = [row.id for row in rows]


def test_a_search_that_asks_for_others_is_refused(data, out):
    options = {**RUN, "batch": 2, "out": out, "keep": None}
    search(Asking(0.1, 0.2, 0.3, 0.4), data, trials=4, **options)
    before = record_of(out)
    with pytest.raises(RunFolderError, match=r"configuration 2 \(learning_rate 0\.3\) is not what"):
        search(Asking(0.1, 0.2, 0.5, 0.6), data, trials=4, **options)
    with pytest.raises(RunFolderError, match="has 4 configurations, and this search ends after 2"):
        search(Asking(0.1, 0.2), data, trials=2, **options)
    with pytest.raises(RunFolderError, match="has 4 configurations, and this search ends after 3"):
        search(Asking(0.1, 0.2, 0.3), data, trials=6, **options)
    assert record_of(out) == before
    assert rates_of(out) == {i: (rate, 0) for i, rate in enumerate((0.1, 0.2, 0.3, 0.4))}
    search(Asking(0.1, 0.2, 0.3, 0.4, 0.5), data, trials=5, **options)
    assert rates_of(out) == {i: (rate, 0) for i, rate in enumerate((0.1, 0.2, 0.3, 0.4, 0.5))}


def test_a_search_goes_on_from_a_sweep_and_a_sweep_from_a_search(data, out):
    options = {**RUN, "out": out, "keep": None}
    sweep(listed(0.1, 0.2), data, **options)
    search(Asking(0.1, 0.2, 0.3), data, trials=3, batch=3, **options)
    sweep(grid(learning_rate=[0.4, 0.3, 0.2, 0.1]), data, **options)
    assert rates_of(out) == {i: (rate, 0) for i, rate in enumerate((0.1, 0.2, 0.3, 0.4))}
