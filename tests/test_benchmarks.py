"""The benchmarks' own promises: equal work is told from unequal, and times are paired by rounds."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks import house, plots, report, timing
from benchmarks.peers import OURS, PEERS, REFERENCE, Peer
from benchmarks.peers.course_loop import CourseLoop
from benchmarks.peers.ours import Ours
from benchmarks.sweeps import measure_tasks
from benchmarks.tasks import judge, make_task, picture_like
from jaxnet.training.settings import configure

FEATURES, STEPS = 12, 5


@pytest.fixture(scope="module")
def task():
    space = [
        configure(hidden=[7], batch_size=20, learning_rate=rate, l2=l2)
        for rate, l2 in ((0.05, 0.5), (0.1, 0.1))
    ]
    return make_task(space, picture_like(FEATURES, 3, 300), STEPS)


@pytest.fixture(scope="module")
def reference(task):
    loop = CourseLoop(task, dtype=np.float64)
    loop.run()
    return loop.weights()


@pytest.fixture(autouse=True)
def as_peers_are_used_to(monkeypatch):
    """Let the peers promote, and let nobody wait for a quiet machine."""
    monkeypatch.setattr(timing, "PATIENCE", 0.0)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def trained(task, make):
    trainer = make(task)
    jax.block_until_ready(trainer.run())
    return trainer.weights()


@pytest.mark.parametrize(
    "peer", [p for p in PEERS if "compiled" not in p.name], ids=lambda peer: peer.name
)
def test_every_peer_does_equal_work(task, reference, peer):
    if not peer.installed:
        pytest.skip(f"{peer.needs} is not installed")
    try:
        found = trained(task, peer.make)
    except ValueError as error:
        pytest.skip(str(error))
    verdict = judge(task, found, reference)
    assert verdict.update_error <= peer.tolerance
    assert verdict.loss_error < 1e-2


def other_rows(task):
    return task._replace(rows=task.rows[::-1])


def double_penalty(task):
    return changed_numbers(task, l2=2.0)


def larger_rate(task):
    return changed_numbers(task, learning_rate=1.05)


def changed_numbers(task, **factors):
    return task._replace(
        configurations=[
            dataclasses.replace(
                c, numbers={n: v * factors.get(n, 1.0) for n, v in c.numbers.items()}
            )
            for c in task.configurations
        ]
    )


def other_start(task):
    (w, b), *rest = task.start
    return task._replace(start=[(w[::-1], b), *rest])


def one_step_less(task):
    return task._replace(rows=task.rows[:-1])


@pytest.mark.parametrize(
    "fault", [other_rows, double_penalty, larger_rate, other_start, one_step_less]
)
def test_other_work_is_not_equal(task, reference, fault):
    found = trained(fault(task), lambda task: CourseLoop(task, dtype=np.float64))
    assert judge(task, found, reference).update_error > 2e-2  # that of float32's rows


class Clock:
    """A clock that every look moves on by a second: whatever is timed takes one."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now

    def sleep(self, seconds):
        pass


def test_rows_say_who_failed_and_who_is_missing(task, monkeypatch):
    monkeypatch.setattr(timing, "time", Clock())
    peers = [
        Peer(OURS, Ours, True),
        Peer(REFERENCE, lambda task: CourseLoop(task, dtype=np.float64), False, "float64"),
        Peer("cheat", lambda task: CourseLoop(double_penalty(task), dtype=np.float64), False),
        Peer("absent", Ours, True, needs="no_such_package"),
        Peer("broken", lambda task: 1 / 0, True),
    ]
    rows = measure_tasks([task], peers=peers, repeats=2, most=1)
    found = {row["what"]: row for row in rows}
    assert found[OURS]["equal work"] == "yes"
    assert found["cheat"]["equal work"] == "FAILED"
    assert found["absent"]["equal work"] == "not installed"
    assert "ZeroDivisionError" in found["broken"]["equal work"]
    assert (found[OURS]["networks"], found[REFERENCE]["networks"]) == (2, 1)
    assert found[OURS]["jaxnet is"] == 1
    for row in rows:
        assert row.keys() == rows[0].keys()
    # A network's time, not a call's: in the same second the reference trained half as many.
    assert [found[name]["configurations/s"] for name in (OURS, REFERENCE)] == [2, 1]
    assert found[REFERENCE]["jaxnet is"] == 2


def test_ratios_are_of_the_same_round():
    steady = timing.Timing(first=9.0, times=(1.0, 10.0, 3.0))
    twice_as_slow = timing.Timing(first=9.0, times=(2.0, 20.0, 6.0))
    assert steady.times_faster_than(twice_as_slow) == 2
    assert (steady.median, steady.fastest) == (3, 1)


def test_subjects_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0)
    calls = []
    subjects = {name: lambda name=name: calls.append(name) for name in "ab"}
    found = timing.interleave(subjects, repeats=2)
    assert calls == list("ab" * 3)
    assert [len(t.times) for t in found.values()] == [2, 2]


def test_disturbed_calls_are_made_again(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE", 0)
    watched = iter([(2.0, 0.5), (1.0, 0.0), (1.5, 0.05), (3.0, 0.9)])
    monkeypatch.setattr(timing, "_watched", lambda call: next(watched))
    monkeypatch.setattr(timing, "PATIENCE", 60.0)
    timing.disturbed()
    found = timing.rounds({"a": list}, {"a": 9.0}, repeats=2)
    assert found["a"].times == (1.0, 1.5)
    assert timing.disturbed() == 0
    assert timing.rounds({"a": list}, {"a": 9.0}, repeats=1)["a"].times == (3.0,)
    assert timing.disturbed() == 1


def test_results_are_written_with_circumstances_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(plots, "RESULTS", tmp_path)
    cell = {"inputs": 2, "hidden": 8, "batch": 32}
    rows = [
        {**cell, "networks": count, "times faster": faster} for count, faster in ((1, 1.0), (10, 2))
    ]
    content = json.loads(report.write_json("scaling_x", rows, 0.0).read_text())
    assert content["rows"] == rows
    assert {"commit", "dirty", "versions", "machine", "date"} <= content.keys()
    bars = [{"what": "jaxnet", "configurations/s": 3.0}, {"what": "b", "configurations/s": None}]
    for subject, drawn in (("scaling_x", rows), ("sweeps_x", bars)):
        assert plots.draw(subject, drawn).stat().st_size > 1000
    assert plots.draw("course", []) is None


def test_the_house_is_counted(capsys):
    circle = {"a": {"b"}, "b": {"a"}, "c": {"a"}}
    assert (house.circles(circle), house.floors(circle)) == ([{"a", "b"}], None)
    assert house.floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == 3
    assert house.rooms("jaxnet.sweeps")["space"] <= {"results", "machine"}
    assert house.commented_lines('x = 1  # one\ny = "# none"\n') == 1
    house.main()
    assert "| import circles, all packages | 0 |" in capsys.readouterr().out
