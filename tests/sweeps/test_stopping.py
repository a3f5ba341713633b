"""What ends a run before its last step: a rule, a callback, divergence; the rest do not notice.

With `small_programs` a stack is cut down as soon as half of its networks have ended: the results
are those of the whole stack.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jaxnet.arguments import checks
from jaxnet.cli.parser import main
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import Halving, Job, grid, job_from_dict, read_job
from jaxnet.sweeps.folder.checkpoint import Checkpoint
from jaxnet.sweeps.folder.extension import AnotherRun
from jaxnet.sweeps.folder.identity import identify
from jaxnet.sweeps.folder.recorded import read_run
from jaxnet.sweeps.space.stopping import STOPPING_RULES, Patience
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.verbs import run_job, sweep

STEPS = 60
# The first learns all there is in some evaluations, the last nothing at all.
RATES = [3e-1, 1e-1, 1e-2, 1e-6]
SETTINGS = {"steps": STEPS, "batch_size": 10, "hidden": [5], "evaluations": 20}
EVERY = 3  # steps between two evaluations


def rates(values, data, **settings):
    return sweep(grid(learning_rate=values), data, **{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def whole(data):
    """All four to their last step, and their networks."""
    return rates(RATES, data, keep=None)


def expected_stop(series, patience):
    """Return the evaluation after which the accuracy has not risen for `patience` evaluations."""
    best, since = -1.0, 0
    for i, accuracy in enumerate(series):
        since = 0 if accuracy > best else since + 1
        best = max(best, accuracy)
        if since == patience:
            return i
    return None


def assert_begins_like(row, other, losses):
    """Everything up to the end of the first is bit by bit that of the second."""
    ours, theirs, last = row.outcome.history, other.outcome.history, row.outcome.steps
    np.testing.assert_array_equal(losses(row)[:last], losses(other)[:last])
    assert np.isnan(losses(row)[last:]).all()
    known = ours.evaluated <= last
    np.testing.assert_array_equal(ours.evaluated, theirs.evaluated)
    for name in ("val_accuracy", "train_accuracy"):
        np.testing.assert_array_equal(getattr(ours, name)[known], getattr(theirs, name)[known])
        assert np.isnan(getattr(ours, name)[~known]).all()
    assert row.outcome.final_loss == losses(other)[last - 1]
    assert row.outcome.val_accuracy == theirs.val_accuracy[known][-1]


# Patience


@pytest.mark.parametrize("patience", [1, 4])
def test_a_run_stops_when_its_accuracy_has_not_risen(data, whole, losses, said, patience):
    stopped = rates(RATES, data, stop=Patience(patience), keep=None)
    kinds = []
    for row, other in zip(stopped.rows, whole.rows, strict=True):
        series = other.outcome.history.val_accuracy
        at = expected_stop(series, patience)
        if at is None or at == len(series) - 1:
            assert row.outcome.status == "ok"
            assert said(row.outcome) == said(other.outcome)
            kinds.append("ok")
            continue
        last = EVERY * (at + 1)
        assert row.outcome.status == f"stopped@{last}"
        assert (row.outcome.kind, row.ok, row.whole) == ("stopped", True, True)
        assert row.outcome.steps == last
        assert_begins_like(row, other, losses)
        # The network is the one of that step.
        splits, network = data.split(37), stopped.network_of(row.id)
        assert network.accuracy(splits.validation) == row.outcome.val_accuracy
        assert network.accuracy(splits.train) == row.outcome.train_accuracy
        kinds.append("stopped")
    assert kinds[-1] == "stopped"  # it learns nothing
    assert kinds.count("stopped") >= 2


def test_one_that_rises_to_the_end_is_not_stopped(data):
    """More patience than there are evaluations: as without."""
    found = rates(RATES, data, stop=Patience(20))
    assert [row.outcome.status for row in found.rows] == ["ok"] * 4


def test_what_stopped_is_not_trained_again(data, tmp_path, trained, outcomes):
    out = tmp_path / "run"
    first = rates(RATES, data, stop={"patience": 4}, out=out)
    trained.clear()
    again = rates(RATES, data, stop={"patience": 4}, out=out)
    assert trained == []
    assert outcomes(again) == outcomes(first)
    assert all("stopped@" in line or "ok" in line for line in lines(out)[1:])
    # Without the rule it is another run, to the last step.
    with pytest.raises(AnotherRun, match=r"stop was \{'patience': .* 4\}\}, now is None"):
        rates(RATES, data, out=out)
    rates(RATES, data, out=out, beside=True)
    assert sum(one.networks for one in trained) == 4


def lines(out):
    return (out / "results.csv").read_text().splitlines()


def test_the_lost_network_of_one_that_stopped_is_trained_again(data, tmp_path, trained):
    """To the same step, and it is still one that stopped."""
    out = tmp_path / "run"
    first = rates([3e-1, 1e-6], data, stop={"patience": 4}, out=out)
    assert first.best.outcome.kind == "stopped"
    for file in (out / "networks").iterdir():
        file.unlink()
    again = rates([3e-1, 1e-6], data, stop={"patience": 4}, out=out)
    assert [row.outcome.status for row in again.rows] == [row.outcome.status for row in first.rows]
    assert not list(out.glob("stack-*"))


def test_evaluations_before_a_rung_of_a_halving_count(data, trained):
    """The networks of a rung are a new stack, which knows the accuracies before."""
    found, late = rates(RATES, data, stop=Patience(4), halving=Halving(1.2, first=9)), 0
    for row in found.rows:
        if row.outcome.kind == "stopped":
            history = row.outcome.history
            at = expected_stop(history.val_accuracy, 4)
            best, last = history.evaluated[[at - 4, at]]
            assert row.outcome.steps == last
            late += any(best < one.begin < last for one in trained)
    assert late


def test_pasts_of_several_lengths_are_judged_each_by_its_own():
    late = np.array([[np.nan, 0.1], [np.nan, 0.5], [0.3, 0.3], [0.2, 0.2]])
    assert Patience(2).stops(late).tolist() == [False, True]
    assert Patience(1).stops(late).tolist() == [True, True]


# A rule of one's own


@dataclass(frozen=True)
class Threshold:
    """Stop a network whose validation accuracy has reached a height.

    All that a new rule takes: this class, and its row in the table.
    """

    accuracy: float
    evaluations: int = 1

    def __post_init__(self):
        checks.number("threshold: accuracy", self.accuracy, 0, 1)
        checks.whole("threshold: evaluations", self.evaluations, 1)

    def stops(self, accuracies):
        return (accuracies >= self.accuracy).sum(axis=0) >= self.evaluations


@pytest.fixture
def threshold(monkeypatch):
    monkeypatch.setitem(STOPPING_RULES, "threshold", Threshold)


HEIGHT = 0.7


@pytest.fixture(scope="module")
def expected(whole):
    """The status of each network that stops once it was so high for two evaluations."""
    found = []
    for row in whole.rows:
        high = np.flatnonzero(row.outcome.history.val_accuracy >= HEIGHT)
        last = EVERY * (high[1] + 1) if len(high) > 1 else STEPS
        found.append("ok" if last == STEPS else f"stopped@{last}")
    assert len(set(found)) >= 3  # several steps, and some that never stop
    return found


def statuses(result):
    return [row.outcome.status for row in result.rows]


TABLE = {"threshold": {"accuracy": HEIGHT, "evaluations": 2}}


@pytest.mark.usefixtures("threshold")
def test_a_new_rule_stops_a_sweep_in_memory_and_one_in_a_folder(
    data, tmp_path, expected, outcomes, trained
):
    found = rates(RATES, data, stop=Threshold(HEIGHT, 2))
    assert statuses(found) == expected
    out = tmp_path / "run"
    assert outcomes(rates(RATES, data, stop=TABLE, out=out)) == outcomes(found)
    assert json.loads((out / "config.json").read_text())["job"]["stop"] == TABLE
    trained.clear()
    assert outcomes(rates(RATES, data, stop=TABLE, out=out)) == outcomes(found)
    assert not trained
    with pytest.raises(AnotherRun, match=r"stop\.threshold\.accuracy was 0\.7, now is 0\.8"):
        rates(RATES, data, stop=Threshold(0.8, 2), out=out)
    # A number alone is the first field; this rule stops earlier.
    assert statuses(rates(RATES, data, stop={"threshold": HEIGHT})) != expected


@pytest.mark.usefixtures("threshold", "kept_each_call")
@pytest.mark.parametrize("at", [9, 30])
def test_a_killed_run_goes_on_to_stop_the_same_by_a_new_rule(data, tmp_path, outcomes, trained, at):
    undisturbed, out = rates(RATES, data, stop=TABLE), tmp_path / "run"

    def fail(evaluation):
        if evaluation.step == at:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        rates(RATES, data, stop=TABLE, out=out, callback=fail)
    trained.clear()
    assert outcomes(rates(RATES, data, stop=TABLE, out=out)) == outcomes(undisturbed)
    assert [one.start > 0 for one in trained] == [True]


@pytest.mark.usefixtures("threshold")
def test_a_new_rule_in_a_job_file_and_in_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = "steps = 6\nvalidation = 50\n{}\n[grid]\nlearning_rate = [0.1]\nhidden = [[]]"
    Path("job.toml").write_text(text.format("stop = {threshold = 0}"))
    Path("plain.toml").write_text(text.format(""))
    assert read_job("job.toml").stop == Threshold(0)
    short = ["--evaluations", "3", "--quiet"]
    commands = {
        "stopped@2": ["job.toml"],
        "stopped@4": ["plain.toml", "--stop", "threshold={accuracy = 0, evaluations = 2}"],
        "ok": ["job.toml", "--stop", "threshold=1"],  # instead of the file's
    }
    for i, (status, words) in enumerate(commands.items()):
        assert main(["sweep", *words, *short, "--out", f"run-{i}"]) == 0
        assert [row.outcome.status for row in read_run(Path(f"run-{i}")).rows] == [status]
    assert main(["sweep", "--resume", "--out", "run-1", "--quiet"]) == 0  # as config.json has it
    for wrong, error in {
        "treshold=1": "unknown stopping rule 'treshold': did you mean 'threshold'?",
        "threshold=2": "threshold: accuracy: expected a number from 0 to 1, got 2",
        "threshold": "--stop expects NAME=VALUE, got 'threshold'",
    }.items():
        assert main(["sweep", "plain.toml", "--stop", wrong]) == 2
        assert error in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sweep", "--stop", "help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "patience=EVALUATIONS"
    assert lines[2:] == [
        "threshold={accuracy=ACCURACY, evaluations=EVALUATIONS}",
        "    Stop a network whose validation accuracy has reached a height.",
    ]


@pytest.mark.usefixtures("threshold")
def test_every_field_of_a_rule_is_in_the_key_and_survives_json():
    rules = [None, Patience(1), Patience(2), *(Threshold(a, n) for a in (0.5, 0.6) for n in (1, 2))]
    jobs = [Job(grid(l2=[0]), stop=rule) for rule in rules]
    assert len({identify(job)[0].key for job in jobs}) == len(jobs)
    assert len({identify(job)[0].name for job in jobs}) == len(jobs)
    for job in jobs:
        read = job_from_dict(json.loads(json.dumps(job.to_dict())))
        assert read == job
        assert identify(read) == identify(job)


def test_a_rule_that_the_table_lacks_is_refused():
    with pytest.raises(ConfigurationError, match=r"stop: expected one rule, .* got Threshold"):
        Job(grid(l2=[0]), stop=Threshold(0.5))


# Callbacks


def test_a_callback_sees_every_evaluation(data, whole, losses, outcomes):
    seen = []
    told = rates(RATES, data, callback=seen.append, keep=None)
    assert outcomes(told) == outcomes(whole)  # to look changes nothing
    assert [one.step for one in seen] == list(range(EVERY, STEPS + 1, EVERY))
    for k, one in enumerate(seen):
        assert (one.ids, one.steps) == ([0, 1, 2, 3], STEPS)
        assert [s["learning_rate"] for s in one.settings] == RATES
        assert one.loss == [losses(row)[one.step - 1] for row in whole.rows]
        assert one.val_accuracy == [row.outcome.history.val_accuracy[k] for row in whole.rows]


def test_a_callback_is_told_nothing_of_what_diverged(data):
    seen = []
    found = rates([3e-1, 1e9, 1e-2], data, callback=seen.append)
    (diverged,) = found.diverged
    assert diverged.id == 1
    for one in seen:
        assert one.ids == ([0, 1, 2] if one.step <= diverged.outcome.steps else [0, 2])


def test_a_callback_cuts(data, whole, losses, outcomes):
    def cut(evaluation):
        return {12: [1, 99], 30: [3, 1]}.get(evaluation.step)

    found = rates(RATES, data, callback=cut, keep=None)
    statuses = [row.outcome.status for row in found.rows]
    assert statuses == ["ok", "cut@12", "ok", "cut@30"]
    assert [row.whole for row in found.rows] == [True, False, True, False]
    for i in (1, 3):
        assert_begins_like(found.rows[i], whole.rows[i], losses)
        network = found.network_of(i)
        accuracy = network.accuracy(data.split(37).validation)
        assert accuracy == found.rows[i].outcome.val_accuracy
    for i in (0, 2):
        assert outcomes(found)[i] == outcomes(whole)[i]
    assert found.best.id in (0, 2)
    assert [row.id for row in found.ranked[-2:]] == [3, 1]  # by how long they were trained


def test_what_was_cut_goes_on_in_the_next_call(data, whole, tmp_path, trained, losses):
    out = tmp_path / "run"
    cut = rates(RATES, data, out=out, keep=None, callback=lambda e: [1] if e.step == 12 else ())
    assert cut.rows[1].outcome.status == "cut@12"
    trained.clear()
    found = rates(RATES, data, out=out, keep=None)
    assert [(one.networks, one.begin, one.end) for one in trained] == [(1, 12, STEPS)]
    assert [row.outcome.status for row in found.rows] == ["ok"] * 4
    # Alone, where it was one of four: see ROUNDING in conftest.py.
    np.testing.assert_allclose(losses(found.rows[1]), losses(whole.rows[1]), rtol=1e-4)


def test_all_may_be_cut(data, tmp_path):
    found = rates(RATES, data, callback=lambda e: e.ids, out=tmp_path / "run")
    assert [row.outcome.status for row in found.rows] == [f"cut@{EVERY}"] * 4
    assert found.best is not None
    assert found.network is not None
    assert found.test_accuracy == found.network.accuracy(data.split(37).test)


def test_an_error_in_a_callback_leaves_what_is_committed(
    data, tmp_path, memory_for, trained, outcomes
):
    out = tmp_path / "run"
    memory_for(2)
    undisturbed = rates(RATES, data)

    def fail(evaluation):
        if evaluation.ids == [2, 3] and evaluation.step == 30:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        rates(RATES, data, out=out, callback=fail)
    assert len(lines(out)) == 3
    assert json.loads((out / "summary.json").read_text())["complete"] is False
    trained.clear()
    assert outcomes(rates(RATES, data, out=out)) == outcomes(undisturbed)
    assert [one.networks for one in trained] == [2]


# A stack that shrinks

MANY = [3e-1, 1e9, 1e9 + 1e5, 1e-1, 1e10, 1e11, 1e12, 1e-2]


@pytest.fixture
def sizes(monkeypatch):
    """How many places each call of the program had."""
    seen, real = [], Stack._advance

    def advance(self, *arguments):
        seen.append(len(self.columns))
        return real(self, *arguments)

    monkeypatch.setattr(Stack, "_advance", advance)
    return seen


def test_when_half_has_diverged_the_rest_goes_on_in_a_smaller_program(
    data, sizes, monkeypatch, small_programs, assert_same_runs
):
    found = rates(MANY, data, keep=None)
    assert set(sizes) == {8, 4}
    assert sizes == sorted(sizes, reverse=True)
    assert [row.id for row in found.diverged] == [1, 2, 4, 5, 6]
    with monkeypatch.context() as patch:
        patch.setattr("jaxnet.sweeps.stacks.stack.fitting_size", lambda networks, size, flops: size)
        sizes.clear()
        unshrunk = rates(MANY, data, keep=None)
    assert set(sizes) == {8}
    for one, other in zip(found.rows, unshrunk.rows, strict=True):
        assert_same_runs(one, other)
        assert one.outcome.steps == other.outcome.steps
    for row in found.rows:
        if row.ok:
            accuracy = found.network_of(row.id).accuracy(data.split(37).validation)
            assert accuracy == row.outcome.val_accuracy


def test_it_is_left_as_it_is_where_a_smaller_program_is_not_worth_it(data, sizes):
    """Compiling would take longer than these few steps."""
    rates(MANY, data)
    assert set(sizes) == {8}


def test_shrunk_alike_neighbours_change_no_bit(data, small_programs, sizes, outcomes):
    """Others diverge, at the same time: those that stay are the same in every bit."""
    one = rates(MANY, data)
    shrunk = list(sizes)
    other = rates([rate * 2 if rate > 1 else rate for rate in MANY], data)
    assert sizes[len(shrunk) :] == shrunk
    for i in (0, 3, 7):
        assert outcomes(one)[i] == outcomes(other)[i]


def test_the_stopped_and_the_cut_leave_a_stack_as_they_are(
    data, whole, small_programs, sizes, losses, assert_same_runs
):
    """They take their networks and accuracies with them."""
    found = rates(RATES, data, keep=None, callback=lambda e: [1, 3] if e.step == 12 else ())
    assert set(sizes) == {4, 2}
    assert [row.outcome.status for row in found.rows] == ["ok", "cut@12", "ok", "cut@12"]
    splits = data.split(37)
    for i in (1, 3):
        assert_begins_like(found.rows[i], whole.rows[i], losses)
        network, outcome = found.network_of(i), found.rows[i].outcome
        assert network.accuracy(splits.validation) == outcome.val_accuracy
        assert network.accuracy(splits.train) == outcome.train_accuracy
    for i in (0, 2):
        assert_same_runs(found.rows[i], whole.rows[i])


@pytest.mark.usefixtures("kept_each_call")
@pytest.mark.parametrize("at", [2, 10, 30])
def test_a_shrunk_stack_is_gone_on_with(
    data, tmp_path, small_programs, sizes, interrupt, outcomes, at
):
    """What is kept is the small stack, with the records, the ends and the networks of all."""
    job = Job(
        grid(learning_rate=[*MANY, *RATES]),
        "arrays",
        STEPS,
        settings={"batch_size": 10, "hidden": [5]},
        stop=Patience(6),
        evaluations=20,
    )
    undisturbed, out = run_job(job, data, keep=None), tmp_path / "run"
    assert len(set(sizes)) > 1
    with interrupt(Checkpoint, "save", at, after=True):
        run_job(job, data, out=out, keep=None)
    before = sizes[-1]
    sizes.clear()
    found = run_job(job, data, out=out, keep=None)
    assert sizes[0] <= before
    assert outcomes(found) == outcomes(undisturbed)
    assert {row.outcome.kind for row in found.rows} >= {"diverged", "stopped"}
    for row in found.rows:
        if row.ok:
            ours, theirs = (run.network_of(row.id) for run in (found, undisturbed))
            for name in ours.params:
                np.testing.assert_array_equal(ours.params[name]["w"], theirs.params[name]["w"])


def test_a_rule_may_be_asked_for_by_its_name_alone(data):
    assert job_from_dict({"grid": {"l2": [0.0]}, "patience": 4}).stop == Patience(4)
    assert job_from_dict({"grid": {"l2": [0.0]}, "patience": None}).stop is None
    space, settings = grid(learning_rate=[0.1]), {"steps": 10, "batch_size": 10, "hidden": [4]}
    ways = ({"patience": 3}, {"stop": Patience(3)}, {})
    short, long, without = ([r.key for r in sweep(space, data, **settings, **w).rows] for w in ways)
    assert short == long != without
    with pytest.raises(ConfigurationError, match="patience and stop each give a stopping rule"):
        sweep(space, data, patience=3, stop=Patience(2), **settings)
