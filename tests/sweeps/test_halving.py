"""Halving: who is cut when, and that the others do not notice."""

import contextlib
import itertools
import math
import shutil
import sqlite3

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import Halving, Job, grid, job_from_dict, read_job
from jaxnet.sweeps.folder.store import Store
from jaxnet.sweeps.space.halving import ALL, Bracket, halving_from, plain_work
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.verbs import plan, sweep


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations."""


# Rungs, brackets, survivors


def test_rungs_by_hand():
    assert Halving(3).rungs(2700, 144) == [100, 300, 900, 2700]
    assert Halving(2).rungs(80, 144) == [10, 20, 40, 80]
    assert Halving(2, first=5).rungs(80, 144) == [5, 10, 20, 40, 80]
    assert Halving(2, first=6).rungs(80, 144) == [10, 20, 40, 80]
    assert Halving(10).rungs(100, 50) == [10, 100]  # 50 are worth one cut only
    assert Halving(3).rungs(100, 2) == [100]  # 2 are worth none
    assert Halving(3).rungs(1, 99) == [1]
    assert Halving(1.5).rungs(9, 99) == [3, 4, 6, 9]  # 9/1.5³ = 2.67, 9/1.5² = 4


def test_survivors_by_hand():
    assert [Halving(3).survivors(n) for n in (1, 2, 3, 8, 9, 144)] == [1, 1, 1, 2, 3, 48]
    assert [Halving(1.5).survivors(n) for n in (1, 2, 3, 9)] == [1, 1, 2, 6]


def test_one_bracket_holds_all_in_order():
    assert Halving(3).deal(10, 900, seed=4) == [Bracket((100, 300, 900), tuple(range(10)))]


def test_brackets_by_hand():
    """Weights eta^(rungs − 1 − s)/(rungs − s) of 4/3, 2/2 and 1/1 of ten: 4, 3 and 3."""
    dealt = Halving(2, brackets=ALL, first=10).deal(10, 40, seed=0)
    assert [bracket.rungs for bracket in dealt] == [(10, 20, 40), (20, 40), (40,)]
    assert [len(bracket.ids) for bracket in dealt] == [4, 3, 3]


etas = st.one_of(st.integers(2, 9), st.floats(1.05, 9))


@hypothesis.given(
    etas,
    st.one_of(st.none(), st.integers(1, 300)),
    st.integers(1, 12),
    st.integers(1, 5000),
    st.integers(1, 300),
    st.integers(0, 3),
)
@hypothesis.settings(deadline=None)
def test_every_deal(eta, first, brackets, steps, units, seed):
    halving = Halving(eta, first, brackets)
    if first is not None and first >= steps:
        with pytest.raises(ConfigurationError, match=f"rung of {first} steps should be below"):
            halving.deal(units, steps, seed)
        return
    rungs = halving.rungs(steps, units)
    assert rungs[-1] == steps
    assert all(a < b for a, b in itertools.pairwise(rungs))
    assert all(1 <= (first or 1) <= rung for rung in rungs)
    if first is None:
        assert len(rungs) <= 4
    for count, rung in enumerate(reversed(rungs)):
        assert abs(rung - steps / eta**count) <= 0.5  # eta times as long, to a whole step

    dealt = halving.deal(units, steps, seed)
    assert sorted(i for bracket in dealt for i in bracket.ids) == list(range(units))
    assert 1 <= len(dealt) <= min(brackets, len(rungs))
    for bracket in dealt:
        assert bracket.ids
        assert list(bracket.ids) == sorted(bracket.ids)
        assert bracket.rungs == tuple(rungs[-len(bracket.rungs) :])
    begins = [bracket.rungs[0] for bracket in dealt]
    assert len(set(begins)) == len(begins)
    assert halving.deal(units, steps, seed) == dealt

    for bracket in dealt:
        alive = len(bracket.ids)
        for _ in bracket.rungs:
            left = halving.survivors(alive)
            assert 1 <= left <= alive
            assert left == 1 or left <= alive / eta < left + 1
            alive = left

    # Counted one network and one step at a time, with its own bookkeeping.
    if units * steps < 30_000:
        made = 0
        for bracket in dealt:
            alive = list(bracket.ids)
            for step in range(steps):
                if step in bracket.rungs:
                    alive = alive[: halving.survivors(len(alive))]
                made += len(alive)
        assert plain_work(steps, dealt, halving) == pytest.approx(made / (units * steps))


def test_the_seed_deals_otherwise():
    halving = Halving(3, brackets=3)
    assert halving.deal(50, 900, seed=0) != halving.deal(50, 900, seed=1)


# Errors, and files


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eta": 1}, "eta: expected a number above 1, got 1"),
        ({"eta": 0.5}, "eta: expected a number above 1, got 0.5"),
        ({"eta": math.inf}, "eta: expected a number above 1, got inf"),
        ({"eta": math.nan}, "eta: expected a number above 1, got nan"),
        ({"first": 0}, "first: expected a whole number from 1 up, got 0"),
        ({"brackets": 0}, "brackets: expected a whole number from 1 up, got 0"),
        ({"brackets": -3}, "brackets: expected a whole number from 1 up, got -3"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        Halving(**settings)
    with pytest.raises(ConfigurationError, match=message):
        halving_from(settings)


@pytest.mark.parametrize(
    "settings", [{"eta": True}, {"eta": "3"}, {"first": 2.5}, {"brackets": "2"}]
)
def test_a_wrong_type_in_a_file_is_refused(settings, as_a_user):
    (name,) = settings
    with pytest.raises(ConfigurationError, match=f"halving: {name}: expected a"):
        job_from_dict({"grid": {"l2": [0, 1]}, "halving": settings})


def test_halving_in_a_file(tmp_path, as_a_user):
    path = tmp_path / "job.toml"
    path.write_text("steps = 90\n[grid]\nl2 = [0, 1]\n[halving]\neta = 2\nfirst = 30\n")
    job = read_job(path)
    assert job.halving == Halving(2, first=30)
    assert job_from_dict(job.to_dict()) == job
    assert job_from_dict({"halving": 4, "grid": {"l2": [0]}}).halving == Halving(4)
    path.write_text("[grid]\nl2 = [0, 1]\n[halving]\neta = 2\nbracket = 3\n")
    with pytest.raises(ConfigurationError, match=r"unknown key 'bracket'.*brackets"):
        read_job(path)


@pytest.mark.parametrize("first", [30, 31])
def test_a_first_rung_beyond_the_end_is_refused(data, first):
    with pytest.raises(ConfigurationError, match=f"first rung of {first} steps .* the 30 steps"):
        sweep(grid(l2=[0, 1]), data, steps=30, halving=Halving(2, first=first))


def test_a_first_rung_beyond_the_end_is_refused_before_anything_is_written(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ConfigurationError, match="first rung"):
        sweep(grid(l2=[0, 1]), data, steps=30, halving=Halving(2, first=30), out=out)
    assert not out.exists()


# The sweep

STEPS, ETA = 40, 2
RUNGS = [5, 10, 20, 40]
RATES = [0.3, 1e9, 0.1, 1e-3, 0.03, 1e-4, 0.01, 3.0]
SETTINGS = {
    **{"steps": STEPS, "batch_size": 10, "hidden": [5], "seed": 2},
    **{"evaluations": 8, "keep": None},
}


@pytest.fixture(scope="module")
def full(data):
    """Every configuration to the end, two seeds each."""
    return sweep(grid(learning_rate=RATES), data, replicates=2, **SETTINGS)


@pytest.fixture(scope="module")
def halved(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("halved") / "run"
    spans, real = [], Stack.train

    def train(self, *arguments, **options):
        spans.append((self.record.begin, len(self.configurations), self.record.end))
        return real(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "train", train)
        result = sweep(
            grid(learning_rate=RATES), data, replicates=2, halving=Halving(ETA), out=out, **SETTINGS
        )
    return result, spans, out


def by_setting(result):
    found = {}
    for row in result.rows:
        found.setdefault(row.settings["learning_rate"], []).append(row)
    return found


def accuracy_at(row, step):
    """Of the history of a whole run; 0 from where it diverged."""
    history = row.outcome.history
    value = float(history.val_accuracy[history.evaluated.tolist().index(step)])
    return 0.0 if math.isnan(value) or row.outcome.kind == "diverged" else value


def expected_cuts(full):
    """Return how far each rate is trained, from the histories of the whole runs alone."""
    rows, alive, ends = by_setting(full), list(RATES), {}
    for rung in RUNGS[:-1]:
        mean = {r: np.mean([accuracy_at(row, rung) for row in rows[r]]) for r in alive}
        ranked = sorted(alive, key=lambda r: (-mean[r], RATES.index(r)))
        ends |= dict.fromkeys(ranked[len(alive) // ETA :], rung)
        alive = sorted(ranked[: len(alive) // ETA], key=RATES.index)
    return ends | dict.fromkeys(alive, STEPS)


def test_what_is_cut_is_what_was_worst_by_the_mean_over_seeds(full, halved):
    result, _, _ = halved
    ends = expected_cuts(full)
    assert sorted(ends.values()) == [5] * 4 + [10] * 2 + [20, 40]
    for rate, rows in by_setting(result).items():
        for row in rows:  # replicates are cut together
            if row.outcome.kind != "diverged":
                last = "ok" if ends[rate] == STEPS else f"cut@{ends[rate]}"
                assert (row.outcome.status, row.outcome.steps) == (last, ends[rate])
    # By single seeds other ones would have been cut, or this has not shown the mean.
    singles = [
        {rate: accuracy_at(rows[k], RUNGS[0]) for rate, rows in by_setting(full).items()}
        for k in (0, 1)
    ]
    orders = [sorted(RATES, key=lambda r, s=single: (-s[r], RATES.index(r))) for single in singles]
    assert orders[0] != orders[1]


def test_survivors_and_the_cut_are_as_in_the_full_sweep(full, halved, assert_close):
    result, _, _ = halved
    assert [row.settings for row in result.rows] == [row.settings for row in full.rows]
    for one, other in zip(result.rows, full.rows, strict=True):
        end = one.outcome.steps
        if one.outcome.kind == "diverged":
            assert one.outcome.status == other.outcome.status
            continue
        if one.outcome.kind == "ok":
            assert_close(one, other)  # of other chunk sizes: to rounding
            assert one.outcome.val_accuracy == pytest.approx(other.outcome.val_accuracy, abs=1 / 37)
            continue
        # To the first rung all train together: bit for bit. Later in fewer places.
        history, whole = one.outcome.history, other.outcome.history
        within = whole.steps < end
        np.testing.assert_array_equal(history.steps, whole.steps[within])
        exact = end == RUNGS[0]
        np.testing.assert_allclose(history.loss, whole.loss[within], rtol=0 if exact else 1e-4)
        assert one.outcome.val_accuracy == pytest.approx(
            accuracy_at(other, end), abs=0 if exact else 1.01 / 37
        )


def test_what_diverged_never_survives_a_finite_one(halved):
    result, _, _ = halved
    diverged = [row for row in result.rows if row.outcome.kind == "diverged"]
    assert {row.settings["learning_rate"] for row in diverged} >= {1e9}
    assert all(
        row.outcome.steps <= RUNGS[0] for row in diverged if row.settings["learning_rate"] == 1e9
    )
    assert result.best.outcome.status == "ok"
    assert {row.outcome.kind for row in result.ranked[-len(diverged) :]} == {"diverged"}


def test_the_work_is_what_is_said(data, halved):
    result, spans, _ = halved
    made = sum(networks * (end - begin) for begin, networks, end in spans)
    halving, units = Halving(ETA), len(RATES)
    share = plain_work(STEPS, halving.deal(units, STEPS, seed=2), halving)
    assert made / (len(result.rows) * STEPS) == pytest.approx(share, rel=1e-12)
    assert [span[::2] for span in spans] == [(0, 5), (5, 10), (10, 20), (20, 40)]
    assert [span[1] for span in spans] == [16, 8, 4, 2]
    options = {k: v for k, v in SETTINGS.items() if k not in ("evaluations", "keep")}
    found = plan(grid(learning_rate=RATES), data, replicates=2, halving=ETA, **options)
    whole = plan(grid(learning_rate=RATES), data, replicates=2, **options)
    assert found.flops == pytest.approx(share * whole.flops)


def test_the_rungs_are_in_the_store(halved):
    result, _, out = halved
    with contextlib.closing(sqlite3.connect(out / "sweep.db")) as database:
        rungs = database.execute("SELECT step, val_accuracy FROM rungs").fetchall()
        results = database.execute("SELECT count(*) FROM results").fetchall()
    assert results == [(16,)]
    steps = [step for step, _ in rungs]
    assert [steps.count(rung) for rung in RUNGS] == [16, 8, 4, 0]
    diverged = sum(row.outcome.kind == "diverged" for row in result.rows)
    assert sum(accuracy is None for step, accuracy in rungs if step == 5) == diverged
    for row in result.rows:
        if row.outcome.kind == "cut":
            assert (row.outcome.steps, row.outcome.val_accuracy) in rungs


def test_run_again_nothing_is_trained(data, halved, outcomes, trained):
    result, _, out = halved
    again = sweep(
        grid(learning_rate=RATES), data, replicates=2, halving=Halving(ETA), out=out, **SETTINGS
    )
    assert trained == []
    assert outcomes(again) == outcomes(result)


@pytest.mark.parametrize("at", [1, 3, 6])
@pytest.mark.parametrize("after", [False, True])
def test_interrupted_anywhere_and_resumed_it_is_the_same(
    data, halved, tmp_path, interrupt, kept_each_call, outcomes, at, after
):
    """At a call of a program, of which there are some in each rung, before and after its work."""
    result, _, _ = halved
    arguments = grid(learning_rate=RATES), data
    options = {**SETTINGS, "replicates": 2, "halving": Halving(ETA), "out": tmp_path / "run"}
    with interrupt(Stack, "_advance", at, after=after):
        sweep(*arguments, **options)
    again = sweep(*arguments, **options)
    assert outcomes(again) == outcomes(result)
    assert list((tmp_path / "run").glob("stack-*")) == []


@pytest.mark.parametrize(
    ("rung", "owner", "name"),
    [
        *((rung, Stack, "outcomes") for rung in (0, 2)),
        *((rung, Store, "add") for rung in (0, 1)),
        pytest.param(2, Store, "add"),
        (3, Store, "add"),
    ],
)
def test_interrupted_at_a_rung_and_resumed_it_is_the_same(
    data, halved, tmp_path, interrupt, outcomes, trained, rung, owner, name
):
    """Before a rung is committed, and right after."""
    result, spans, _ = halved
    arguments = grid(learning_rate=RATES), data
    options = {**SETTINGS, "replicates": 2, "halving": Halving(ETA), "out": tmp_path / "run"}
    with interrupt(owner, name, rung + 1, after=True, error=OSError):
        sweep(*arguments, **options)
    trained.clear()
    again = sweep(*arguments, **options)
    assert outcomes(again) == outcomes(result)
    # What a rung before has committed is not trained again.
    left = spans[rung + 1 :] if name == "add" else spans[rung:]
    assert [(one.begin, one.networks, one.end) for one in trained] == left


def test_a_halved_run_is_completed_by_a_whole_one(data, halved, full, tmp_path, assert_close):
    """The same folder without the halving: what was cut goes on to the end."""
    _, _, out = halved
    shutil.copytree(out, tmp_path / "run")
    result = sweep(grid(learning_rate=RATES), data, replicates=2, out=tmp_path / "run", **SETTINGS)
    assert {row.outcome.kind for row in result.rows} <= {"ok", "diverged"}
    for one, other in zip(result.rows, full.rows, strict=True):
        assert one.outcome.status == other.outcome.status
        if one.outcome.kind == "ok":
            assert_close(one, other)


def test_hyperband_is_one_halving_a_bracket(data, full, assert_close):
    halving = Halving(ETA, first=10, brackets=ALL)
    assert halving.rungs(STEPS, len(RATES)) == [10, 20, 40]
    result = sweep(grid(learning_rate=RATES), data, replicates=2, halving=halving, **SETTINGS)
    dealt = halving.deal(len(RATES), STEPS, seed=2)
    assert [bracket.rungs for bracket in dealt] == [(10, 20, 40), (20, 40), (40,)]
    rows, whole = by_setting(result), by_setting(full)
    for bracket in dealt:
        alive = [RATES[i] for i in bracket.ids]
        for rung in bracket.rungs[:-1]:
            mean = {r: np.mean([accuracy_at(row, rung) for row in whole[r]]) for r in alive}
            ranked = sorted(alive, key=lambda r, m=mean: (-m[r], RATES.index(r)))
            left = max(1, len(alive) // ETA)
            for rate in ranked[left:]:
                kinds = {row.outcome.status for row in rows[rate]}
                assert f"cut@{rung}" in kinds or {k.split("@")[0] for k in kinds} == {"diverged"}
            alive = sorted(ranked[:left], key=RATES.index)
        for rate in alive:
            for one, other in zip(rows[rate], whole[rate], strict=True):
                assert one.outcome.status == other.outcome.status
                if one.outcome.kind == "ok":
                    assert_close(one, other)


def test_units_are_settings_without_their_seeds():
    job = Job(grid(l2=[0, 1, 0]), replicates=2, steps=10)
    # Written twice, a setting is one unit.
    assert job.units() == [(0, 1, 4, 5), (2, 3)]
    mixed = Job(grid(seed=[3, 4], l2=[0, 1]), steps=10)
    assert mixed.units() == [(0, 2), (1, 3)]
