"""What is committed is there for good, all of it or nothing; a broken file is said to be one."""

import dataclasses
import json
import math
import sqlite3

import pytest

from jaxnet.configuration import configure
from jaxnet.errors import RunFolderError
from jaxnet.sweeps.chunk import History, Outcome
from jaxnet.sweeps.results import Row
from jaxnet.sweeps.store import Store

NAN = math.nan


def a_row(id, loss=0.5, status="ok", **settings):
    said = json.loads(json.dumps(configure(**settings).to_dict()))
    history = History([0, 2], [1.5, loss], [1, 3], [0.25, NAN], [0.125, 0.1 + 0.2])
    return Row(id, said, Outcome(3, loss, 0.1 + 0.2, 1 / 3, status, history))


DIVERGED = Row(
    7,
    {"hidden": [], "seed": 2**32 - 1, "learning_rate": 1e9},
    Outcome(0, NAN, NAN, NAN, "diverged@0", History([0], [NAN], [1], [NAN], [NAN])),
)


def comparable(rows):
    """NaN is not equal to itself."""
    return [json.dumps(dataclasses.asdict(row)) for row in rows]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sweep.db"


def test_rows_come_back_as_they_were(path):
    rows = [a_row(0), a_row(1, loss=1e-45, hidden=(3, 2), optimizer="adam"), DIVERGED]
    with Store(path) as store:
        store.add(rows)
        assert comparable(store.rows()) == comparable(rows)
    with Store(path) as store:  # opened again: another process
        assert comparable(store.rows()) == comparable(rows)
        found = store.rows()[2].outcome
        assert math.isnan(found.final_loss)
        assert math.isnan(found.history.loss[0])


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_what_is_no_finite_number_is_null_in_the_file(path, value):
    with Store(path) as store:
        store.add([a_row(0, loss=value)])
    with sqlite3.connect(path) as connection:
        query = "SELECT final_loss, json_extract(history, '$.loss[1]') FROM results"
        assert connection.execute(query).fetchall() == [(None, None)]
    connection.close()


def test_others_can_query_the_file(path):
    with Store(path) as store:
        store.add([a_row(0, l2=0.25), a_row(1, l2=0.5)])
    connection = sqlite3.connect(path)
    query = "SELECT id FROM results WHERE json_extract(settings, '$.l2') > 0.3 AND status = 'ok'"
    assert connection.execute(query).fetchall() == [(1,)]
    connection.close()


def test_rows_are_in_the_order_of_ids_whatever_came_first(path):
    with Store(path) as store:
        store.add([a_row(5), a_row(2)])
        store.add([a_row(3)])
        assert [row.id for row in store.rows()] == [2, 3, 5]


def test_a_row_added_again_replaces_the_old_one(path):
    with Store(path) as store:
        store.add([a_row(0, loss=1.0)])
        store.add([a_row(0, loss=2.0)])
        assert [row.outcome.final_loss for row in store.rows()] == [2.0]


def test_one_bad_row_keeps_all_of_its_commit_out(path):
    broken = dataclasses.replace(a_row(2), outcome=a_row(2).outcome)
    object.__setattr__(broken.outcome, "status", None)  # NOT NULL in the file
    with Store(path) as store:
        store.add([a_row(0)])
        with pytest.raises(RunFolderError, match=r"cannot write .*committed before is kept"):
            store.add([a_row(1), broken])
        assert [row.id for row in store.rows()] == [0]
        store.add([a_row(1)])  # and the file goes on
    with Store(path) as store:
        assert [row.id for row in store.rows()] == [0, 1]


def test_what_is_committed_is_there_before_the_file_is_closed(path):
    with Store(path) as store:
        store.add([a_row(0)])
        reader = sqlite3.connect(path)
        assert reader.execute("SELECT count(*) FROM results").fetchone() == (1,)
        reader.close()


def test_a_full_disk(path):
    with Store(path) as store:
        store.add([a_row(0)])
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(RunFolderError, match=r"cannot write .*sweep\.db .*full.*then resume"):
            store.add([a_row(i) for i in range(1, 200)])
        assert [row.id for row in store.rows()] == [0]
    with Store(path) as store:
        assert [row.id for row in store.rows()] == [0]


def test_a_file_that_became_read_only(path):
    with Store(path) as store:
        store.add([a_row(0)])
        store._connection.execute("PRAGMA query_only = 1")
        with pytest.raises(RunFolderError, match=r"cannot write .*readonly"):
            store.add([a_row(1)])
        assert [row.id for row in store.rows()] == [0]


@pytest.mark.parametrize(
    "content", [b"this is no database, but long enough to tell" * 20, b"PK" * 9]
)
def test_a_file_that_is_no_database(path, content):
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"cannot open .*sweep\.db .*not a database"):
        Store(path)
    assert path.read_bytes() == content  # not ours to change


def test_a_database_of_something_else(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE results (name TEXT)")
    connection.execute("INSERT INTO results VALUES ('mine')")
    connection.commit()
    connection.close()
    with pytest.raises(RunFolderError, match=r"sweep\.db"), Store(path) as store:
        store.rows()


def test_a_database_cut_short(path):
    with Store(path) as store:
        store.add([a_row(i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:6000])
    with (
        pytest.raises(RunFolderError, match=r"cannot (open|read) .*sweep\.db"),
        Store(path) as store,
    ):
        store.rows()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunFolderError, match=r"cannot open .*unable to open database file"):
        Store(tmp_path / "gone" / "sweep.db")


def test_a_folder_in_place_of_the_file(path):
    path.mkdir()
    with pytest.raises(RunFolderError, match="cannot open"):
        Store(path)
