"""What is committed is there for good, all of it or nothing; a broken file is said to be one."""

import dataclasses
import json
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from jaxnet.errors import RunFolderError
from jaxnet.sweeps.folder.store import Result, RowId, Store, read_store
from jaxnet.sweeps.results.record import History, Outcome
from jaxnet.training.settings import configure

NAN = math.nan


def a_history(loss):
    return History(
        steps=np.array([0, 2], np.int64),
        loss=np.array([1.5, loss], np.float32),
        evaluated=np.array([1, 3], np.int64),
        train_accuracy=np.array([0.25, NAN]),
        val_accuracy=np.array([0.125, 0.1 + 0.2]),
    )


def a_result(key, loss=0.5, status="ok", **settings):
    said = json.loads(json.dumps(configure(**settings).to_dict()))
    outcome = Outcome(3, loss, 0.1 + 0.2, 1 / 3, status, a_history(loss))
    return Result(str(key), said, outcome)


DIVERGED = Result(
    "7",
    {"hidden": [], "seed": 2**32 - 1, "learning_rate": 1e9},
    Outcome(0, NAN, NAN, NAN, "diverged@0", a_history(NAN)),
)


def keys(store):
    return [result.key for result in store.results()]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep.db"


def test_results_come_back_as_they_were(path, said):
    results = [a_result(0), a_result(1, loss=1e-45, hidden=(3, 2), optimizer="adam"), DIVERGED]
    with Store(path) as store:
        store.add(results)
        assert [said(one) for one in store.results()] == [said(one) for one in results]
    with Store(path) as store:  # opened again: another process
        found = store.results()
        assert [said(one) for one in found] == [said(one) for one in results]
        assert math.isnan(found[2].outcome.final_loss)
        assert math.isnan(found[2].outcome.history.loss[1])
        assert found[1].outcome.history.loss[1] == np.float32(1e-45) > 0


def test_an_empty_history_comes_back(path, said):
    empty = History(*(np.zeros(0, one.dtype) for one in a_history(0.0).arrays().values()))
    result = dataclasses.replace(DIVERGED, outcome=dataclasses.replace(DIVERGED.outcome))
    object.__setattr__(result.outcome, "history", empty)
    with Store(path) as store:
        store.add([result])
        assert [said(one) for one in store.results()] == [said(result)]


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_what_is_no_finite_number_is_null_in_the_file(path, value):
    with Store(path) as store:
        store.add([a_result(0, loss=value)])
    with sqlite3.connect(path) as connection:
        query = "SELECT final_loss, val_accuracy FROM results"
        assert connection.execute(query).fetchall() == [(None, 1 / 3)]
    connection.close()


def test_others_can_query_the_file(path):
    """Settings are JSON, a history is safetensors; also while the run goes on."""
    with Store(path) as store:
        store.add([a_result("a", l2=0.25), a_result("b", l2=0.5)])
        reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        query = (
            "SELECT key FROM results WHERE json_extract(settings, '$.l2') > 0.3 AND status = 'ok'"
        )
        assert reader.execute(query).fetchall() == [("b",)]
        (blob,) = reader.execute("SELECT history FROM results WHERE key = 'a'").fetchone()
        reader.close()
    from safetensors.numpy import load

    assert load(blob)["loss"].tolist() == [1.5, 0.5]


def test_results_are_in_the_order_of_their_commits(path):
    with Store(path) as store:
        store.add([a_result(5), a_result(2)])
        store.add([a_result(3)])
        assert keys(store) == ["5", "2", "3"]


def test_a_result_added_again_replaces_the_old_one(path):
    with Store(path) as store:
        store.add([a_result(0, loss=1.0), a_result(1)])
        store.add([a_result(0, loss=2.0)])
        found = {result.key: result.outcome.final_loss for result in store.results()}
        assert found == {"0": 2.0, "1": 0.5}


def test_what_a_cut_was_decided_on_is_kept_beside_the_results(path):
    """A later rung replaces the result, and no earlier decision."""
    first = dataclasses.replace(a_result("a").outcome, val_accuracy=0.25)
    with Store(path) as store:
        store.add([dataclasses.replace(a_result("a"), outcome=first), DIVERGED], rung=10)
        store.add([a_result("a")], rung=30)
        store.add([a_result("a")])
    with Store(path) as store:
        rungs = store.rungs()
        assert rungs.keys() == {("a", 10), ("7", 10), ("a", 30)}
        assert (rungs["a", 10], rungs["a", 30]) == (0.25, 1 / 3)
        assert math.isnan(rungs["7", 10])
        assert sorted(keys(store)) == ["7", "a"]


def test_one_bad_result_keeps_all_of_its_commit_out(path):
    broken = dataclasses.replace(a_result(2))
    object.__setattr__(broken.outcome, "status", None)  # NOT NULL in the file
    with Store(path) as store:
        store.add([a_result(0)])
        with pytest.raises(RunFolderError, match=r"cannot write .*committed before is kept"):
            store.add([a_result(1), broken], rung=3)
        assert keys(store) == ["0"]
        assert store.rungs() == {}
        store.add([a_result(1)])  # and the file goes on
    with Store(path) as store:
        assert keys(store) == ["0", "1"]


def test_what_is_committed_is_there_before_the_file_is_closed(path):
    with Store(path) as store:
        store.add([a_result(0)])
        reader = sqlite3.connect(path)
        assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
        reader.close()


def test_a_full_disk(path):
    with Store(path) as store:
        store.add([a_result(0)])
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            RunFolderError, match=r"cannot write .*sweep\.db .*full.*then run the same command"
        ):
            store.add([a_result(i) for i in range(1, 200)])
        assert keys(store) == ["0"]
    with Store(path) as store:
        assert keys(store) == ["0"]


def test_a_file_that_became_read_only(path):
    with Store(path) as store:
        store.add([a_result(0)])
        store._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(RunFolderError, match=r"cannot write .*readonly"):
            store.add([a_result(1)])
        assert keys(store) == ["0"]


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to tell" * 20, b"PK" * 9]
)
def test_a_file_that_is_no_database(path, content):
    path.write_bytes(content)
    for _ in range(2):  # the first attempt leaves no lock
        with pytest.raises(RunFolderError, match=r"cannot open .*sweep\.db .*not a database"):
            Store(path)
    assert path.read_bytes() == content  # not ours to change


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_database_of_something_else_or_of_another_version(path, version):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE results (name TEXT)")
    connection.execute("INSERT INTO results VALUES ('mine')")
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    content = path.read_bytes()
    for _ in range(2):
        with pytest.raises(
            RunFolderError, match=rf"sweep\.db has tables of version {version}.*in a new folder"
        ):
            Store(path)
    assert path.read_bytes() == content


def test_a_database_cut_short(path):
    with Store(path) as store:
        store.add([a_result(i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:6000])
    with (
        pytest.raises(RunFolderError, match=r"cannot (open|read) .*sweep\.db"),
        Store(path) as store,
    ):
        store.results()


def test_a_history_that_is_damaged(path):
    with Store(path) as store:
        store.add([a_result(0)])
        with store._connection:
            store._connection.execute("UPDATE results SET history = x'00'")
        with pytest.raises(RunFolderError, match=r"cannot read .*sweep\.db"):
            store.results()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot open .*unable to open database file"):
        Store(tmp_path / "gone" / "sweep.db")


def test_a_folder_in_place_of_the_file(path):
    path.mkdir()
    with pytest.raises(RunFolderError, match="cannot open"):
        Store(path)


# One at a time


def test_a_second_store_of_the_folder_is_refused_until_the_first_is_closed(path):
    text = re.escape(f"{path.parent} is in use by another process: wait until it is done")
    with Store(path) as store:
        store.add([a_result(0)])
        for _ in range(2):
            with pytest.raises(RunFolderError, match=text):
                Store(path)
        store.add([a_result(1)])  # the first is not harmed
    with Store(path) as store:
        assert keys(store) == ["0", "1"]


HOLD = """
import sys
from pathlib import Path
from jaxnet.sweeps.folder.store import Store
with Store(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_the_lock_of_another_process_ends_with_it(path, how):
    """Killed or done: no lock is left over."""
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=dict(os.environ)) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunFolderError, match="in use by another process"):
            Store(path)
        if how is not None:
            process.send_signal(how)
        process.stdin.close()
        process.wait(timeout=30)
    with Store(path) as store:
        store.add([a_result(0)])
        assert keys(store) == ["0"]


@pytest.mark.parametrize("column", ["configuration", "job_key", "job_network", "key", "network"])
@pytest.mark.parametrize("value", ["../../mine", "A", "", b"1b"])
def test_an_id_of_what_is_no_digest_is_refused(path, column, value):
    """They become names of files."""
    with Store(path) as store:
        store.record([RowId("0a", "1b", "2c", "1b", "2c")])
        assert store.ids() == read_store(path).ids == [RowId("0a", "1b", "2c", "1b", "2c")]
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE ids SET {column} = ?", (value,))
    connection.commit()
    connection.close()
    with pytest.raises(RunFolderError, match=r"cannot read .*no digest"):
        read_store(path)
