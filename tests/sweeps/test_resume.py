"""Cut anywhere, a run goes on by the same call, and comes to the same table."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxnet import Network
from jaxnet.cli.parser import main
from jaxnet.data import load
from jaxnet.sweeps import Halving, Job, grid, read_job
from jaxnet.sweeps.folder import keep
from jaxnet.sweeps.folder.checkpoint import Checkpoint
from jaxnet.sweeps.folder.folder import RunFolder
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.results.sweep_result import network_file
from jaxnet.sweeps.run.local_executor import Local
from jaxnet.verbs import run_job

STEPS = 30


def job_of(**more):
    """Six rates in three chunks when two fit, then a net of another structure."""
    space = grid(hidden=[[5], [4, 3]], learning_rate=[3e-1, 1e9, 3e-2, 1e-1, 1e-2, 1e-3])
    return Job(space, "arrays", STEPS, settings={"batch_size": 10}, **more)


@pytest.fixture
def two_at_once(memory_for):
    memory_for(2)


@pytest.fixture(scope="module")
def expected():
    """The uninterrupted run, once it is made."""
    return {}


@pytest.fixture
def uninterrupted(data, two_at_once, expected):
    if not expected:
        expected["run"] = run_job(job_of(), data)
    return expected["run"]


def committed(out):
    with Store(out / "sweep.db") as store:
        return len(store.results())


def assert_nothing_is_left(out, result):
    """Nothing of an interruption; the networks of the best are there."""
    assert not list(out.glob("stack-*"))
    assert not list(out.glob("**/*.partial"))
    kept = {network_file(out, row.key) for row in result.winner.rows}
    assert set((out / "networks").iterdir()) >= kept


PLACES = {
    "before the first commit": (Store, "add", 1, False),
    "before the second commit": (Store, "add", 2, False),
    "after the third commit": (Store, "add", 3, True),
    "before the network is saved": (keep, "save_trained", 1, False),
    "after the network is saved": (keep, "save_trained", 1, True),
    "before the stack is removed": (Checkpoint, "remove", 2, False),
    "before the fourth chunk": (Local, "_train", 4, False),
    "before the tables": (RunFolder, "finish", 1, False),
}


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize("place", PLACES)
def test_interrupted_between_chunks_and_gone_on(
    data, tmp_path, uninterrupted, interrupt, outcomes, trained, place
):
    out, job = tmp_path / "run", job_of()
    owner, name, at, after = PLACES[place]
    with interrupt(owner, name, at, after=after):
        run_job(job, data, out=out)
    kept = committed(out)
    assert kept < 12 or place == "before the tables"
    trained.clear()
    resumed = run_job(job, data, out=out)
    assert sum(one.networks for one in trained) == 12 - kept
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert resumed.test_accuracy == uninterrupted.test_accuracy
    assert_nothing_is_left(out, resumed)
    best = Network.load(out / "best.safetensors")
    assert best.settings == uninterrupted.best.settings
    for name in ("results.csv", "curves.png"):
        assert (out / name).exists()


@pytest.mark.parametrize(
    ("owner", "name", "at", "after", "count"),
    [(Local, "_train", 3, False, 4), (Store, "add", 1, True, 2)],
    ids=["before a chunk", "just committed"],
)
def test_what_finished_is_readable_after_an_interruption(
    data, tmp_path, two_at_once, interrupt, owner, name, at, after, count
):
    """The table, and the weights of the best in it: without going on."""
    out, job = tmp_path / "run", job_of()
    with interrupt(owner, name, at, after=after):
        run_job(job, data, out=out)
    with (out / "results.csv").open(newline="") as file:
        assert [int(line["id"]) for line in csv.DictReader(file)] == list(range(count))
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["complete"], summary["configurations"]) == (False, count)
    rate = summary["best"]["learning_rate"]
    (kept,) = (out / "networks").iterdir()
    assert Network.load(kept).settings["learning_rate"] == rate


def test_the_networks_kept_are_those_of_an_uninterrupted_run(
    data, tmp_path, uninterrupted, interrupt
):
    out, job = tmp_path / "run", job_of()
    with interrupt(Local, "_train", 2):
        run_job(job, data, out=out)
    resumed = run_job(job, data, out=out)
    assert resumed.best.id == uninterrupted.best.id
    kept = {network_file(out, row.key) for row in resumed.winner.rows}
    assert set((out / "networks").iterdir()) == kept


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize("at", [1, 2, 25, 35])
def test_interrupted_within_a_chunk_and_gone_on_from_where_it_was(
    data, tmp_path, uninterrupted, interrupt, outcomes, trained, at
):
    """Stored after every call, cut at some of them: the table is the same in every bit."""
    out, job = tmp_path / "run", job_of()
    with interrupt(Checkpoint, "save", at, after=True):
        run_job(job, data, out=out)
    (kept,) = out.glob("stack-*.safetensors")
    for path in (kept, out / "networks" / "0123.safetensors"):  # killed while writing them
        path.with_name(path.name + ".partial").write_bytes(b"half of it")
    trained.clear()
    resumed = run_job(job, data, out=out)
    first = trained[0]
    assert first.begin < first.start < first.end == STEPS  # it did go on, and not begin again
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert_nothing_is_left(out, resumed)


@pytest.mark.usefixtures("kept_each_call")
def test_interrupted_again_and_again(data, tmp_path, uninterrupted, interrupt, outcomes):
    out, job = tmp_path / "run", job_of()
    for at in (3, 20, 25, 27, 31):
        with interrupt(Checkpoint, "save", at, after=True):
            run_job(job, data, out=out)
    resumed = run_job(job, data, out=out)
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert_nothing_is_left(out, resumed)


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize("damage", ["cut short", "text", "other arrays"])
def test_a_stack_that_is_damaged_is_trained_again(
    data, tmp_path, uninterrupted, interrupt, outcomes, trained, damage
):
    out, job = tmp_path / "run", job_of()
    with interrupt(Checkpoint, "save", 25, after=True):
        run_job(job, data, out=out)
    (file,) = out.glob("stack-*.safetensors")
    whole = file.read_bytes()
    # The header names each array: another name of the same length is another array.
    contents = {
        "cut short": whole[: len(whole) // 2],
        "text": b"not tensors",
        "other arrays": whole.replace(b'"record[', b'"rekord['),
    }
    assert contents[damage] != whole
    file.write_bytes(contents[damage])
    trained.clear()
    resumed = run_job(job, data, out=out)
    assert trained[0].start == 0
    assert outcomes(resumed) == outcomes(uninterrupted)
    assert_nothing_is_left(out, resumed)


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize(("at", "count"), [(5, 0), (35, 2)])
def test_gone_on_with_another_memory_every_row_is_there_once(
    data, tmp_path, memory_for, uninterrupted, interrupt, assert_close, at, count
):
    """On another machine the chunks are others: some are half done, and so is what is stored."""
    out, job = tmp_path / "run", job_of()
    with interrupt(Checkpoint, "save", at, after=True):
        run_job(job, data, out=out)
    assert committed(out) == count  # of the six of the first structure
    memory_for(3)
    resumed = run_job(job, data, out=out)
    assert [row.id for row in resumed.rows] == list(range(12))
    for one, other in zip(resumed.rows, uninterrupted.rows, strict=True):
        assert_close(one, other)
    with (out / "results.csv").open(newline="") as file:
        assert [int(line["id"]) for line in csv.DictReader(file)] == list(range(12))
    assert_nothing_is_left(out, resumed)


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize("at", [1, 10, 25])
def test_a_halving_is_gone_on_with(data, tmp_path, interrupt, assert_same_runs, trained, at):
    """In the first rung, later in it, and after a cut: the same networks survive."""
    space = grid(hidden=[[5]], learning_rate=[3e-1, 1e9, 3e-2, 1e-1, 1e-2, 1e-3])
    job = Job(space, "arrays", STEPS, settings={"batch_size": 10}, halving=Halving(2))
    whole, out = run_job(job, data), tmp_path / "run"
    work = sum(one.networks * (one.end - one.begin) for one in trained)
    assert work < 6 * STEPS
    with interrupt(Checkpoint, "save", at, after=True):
        run_job(job, data, out=out)
    trained.clear()
    resumed = run_job(job, data, out=out)
    assert sum(one.networks * (one.end - one.start) for one in trained) < work
    for one, other in zip(resumed.rows, whole.rows, strict=True):
        assert_same_runs(one, other)
    assert [row.outcome.status for row in resumed.rows].count("ok") == 1
    assert_nothing_is_left(out, resumed)


@pytest.mark.usefixtures("kept_each_call")
def test_a_halving_is_gone_on_with_to_the_last_bit(data, tmp_path, interrupt, outcomes, trained):
    space = grid(hidden=[[5]], learning_rate=[3e-1, 1e9, 3e-2, 1e-1, 1e-2, 1e-3])
    job = Job(space, "arrays", STEPS, settings={"batch_size": 10}, halving=Halving(2))
    whole, out = run_job(job, data), tmp_path / "run"
    sizes = [one.places for one in trained]
    with interrupt(Checkpoint, "save", 1, after=True):
        run_job(job, data, out=out)
    trained.clear()
    resumed = run_job(job, data, out=out)
    assert [one.places for one in trained] == sizes
    assert outcomes(resumed) == outcomes(whole)


# A real process, and kill -9

TOML = """
steps = 300
validation = 50
train = 100
[settings]
batch_size = 10
[grid]
hidden = [[4], [4, 3]]
seed = [0, 1, 2]
learning_rate = [1e-3, 1e9]
"""

# A command that keeps its stack at each of many short calls, so that there is something to lose.
SCRIPT = """
import sys
from jaxnet.sweeps.stacks import stack
from jaxnet.sweeps.folder import checkpoint
checkpoint.INTERVAL, stack.SECONDS_PER_CALL = 0.0, 1e-9
from jaxnet.cli.parser import main
sys.exit(main(sys.argv[1:]))
"""


def wait_for(happened, process, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if happened():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to it in time")


def rows_in(database):
    if not database.exists():
        return 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM results").fetchone()[0]
    except sqlite3.OperationalError:
        return 0  # no table yet
    finally:
        connection.close()


@pytest.mark.slow
def test_killed_and_gone_on(tmp_path, capsys, trained, outcomes, said):
    """kill -9 after the first commit, with a stack in flight; until then the folder is taken."""
    path, out = tmp_path / "job.toml", tmp_path / "run"
    path.write_text(TOML)
    again = ["sweep", str(path), "--out", str(out), "--quiet"]
    command = [sys.executable, "-c", SCRIPT, *again]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:

        def in_the_second_chunk():
            return rows_in(out / "sweep.db") == 6 and any(out.glob("stack-*.safetensors"))

        try:
            wait_for(in_the_second_chunk, process)
            assert main(again) == 2
            assert "is in use by another process: wait until" in capsys.readouterr().err
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    with Store(out / "sweep.db") as store:  # the dead hold no lock
        kept = store.results()
    assert len(kept) == 6
    assert trained == []
    assert main(again) == 0
    (stack,) = trained
    assert (stack.networks, stack.end) == (6, 300)
    assert stack.start > 0
    with Store(out / "sweep.db") as store:
        results = store.results()
    assert [said(one) for one in results[:6]] == [said(one) for one in kept]
    whole = run_job(read_job(path), load("fashion-mnist-mini"))
    assert {said(one.outcome) for one in results} == {said(row.outcome) for row in whole.rows}
    assert len(results) == len(whole.rows) == 12
    assert not list(out.glob("stack-*"))


# Networks that were lost


@pytest.mark.parametrize("lost", ["network", "both", "damaged"])
def test_the_network_of_the_best_is_trained_again_where_it_is_lost(
    data, tmp_path, uninterrupted, outcomes, trained, lost
):
    out, job = tmp_path / "run", job_of()
    first = run_job(job, data, out=out)
    weights = Network.load(out / "best.safetensors").params
    file = network_file(out, first.best.key)
    if lost == "damaged":
        file.write_bytes(file.read_bytes()[:500])
    else:
        file.unlink()
    if lost == "both":
        (out / "best.safetensors").unlink()
    trained.clear()
    again = run_job(job, data, out=out)
    assert [one.networks for one in trained] == [1]
    assert [row.outcome.status for row in again.rows] == [row.outcome.status for row in first.rows]
    assert again.best.id == first.best.id
    # Alone, where it was one of two: the products may sum in another order, see ROUNDING.
    found = Network.load(out / "best.safetensors").params
    for layer, arrays in weights.items():
        np.testing.assert_allclose(found[layer]["w"], arrays["w"], rtol=1e-3, atol=1e-4)
    assert file.exists()
    assert_nothing_is_left(out, again)
    trained.clear()
    assert outcomes(run_job(job, data, out=out)) == outcomes(again)
    assert trained == []
