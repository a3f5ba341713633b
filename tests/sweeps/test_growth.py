"""A run that grows in its folder: more values, more seeds, more steps; nothing is trained twice."""

import numpy as np
import pytest

from jaxnet import Network
from jaxnet.sweeps import grid
from jaxnet.sweeps.results.sweep_result import network_file
from jaxnet.verbs import sweep

STEPS = 20
SETTINGS = {"batch_size": 10, "hidden": [5]}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


def rates(values, data, **settings):
    return sweep(grid(learning_rate=values), data, **{"steps": STEPS, **SETTINGS, **settings})


def test_a_wider_space_trains_only_what_is_missing(data, out, trained, outcomes):
    first = rates([0.3, 0.1], data, out=out)
    trained.clear()
    wide = rates([0.03, 0.3, 0.01, 0.1], data, out=out)
    assert [(one.networks, one.begin) for one in trained] == [(2, 0)]
    # What was there is what it was, under the ids that it had.
    assert [row.settings["learning_rate"] for row in wide.rows] == [0.3, 0.1, 0.03, 0.01]
    assert [row.id for row in wide.rows] == [0, 1, 2, 3]
    assert outcomes(wide)[:2] == outcomes(first)
    best = max(wide.rows, key=lambda row: (row.outcome.val_accuracy, -row.outcome.final_loss))
    assert wide.best.id == best.id
    assert Network.load(out / "best.safetensors").settings == best.settings
    assert wide.network.accuracy(data.split(37).validation) == best.outcome.val_accuracy


def test_more_replicates_train_only_the_new_seeds(data, out, trained):
    rates([0.3, 0.1], data, out=out)
    trained.clear()
    more = rates([0.3, 0.1], data, out=out, replicates=3)
    assert sum(one.networks for one in trained) == 4
    assert [row.settings["seed"] for row in more.rows] == [0, 0, 1, 2, 1, 2]
    assert [len(one.rows) for one in more.replicates] == [3, 3]


@pytest.mark.parametrize(
    "more",
    [{"schedule": "constant"}, {"schedule": "exponential", "decay": 0.8}, {"sampling": "shuffled"}],
    ids=str,
)
def test_more_steps_go_on_from_the_networks_that_were_kept(
    data, out, trained, losses, outcomes, more
):
    """As many networks in the same places: the same in every bit as a straight run."""
    rates([0.3, 0.1, 0.01], data, out=out, keep=None, **more)
    trained.clear()
    longer = rates([0.3, 0.1, 0.01], data, out=out, keep=None, steps=50, **more)
    assert [(one.networks, one.begin, one.end) for one in trained] == [(3, STEPS, 50)]
    straight = rates([0.3, 0.1, 0.01], data, steps=50, **more)
    for one, other in zip(longer.rows, straight.rows, strict=True):
        np.testing.assert_array_equal(losses(one), losses(other))
        for name in ("steps", "final_loss", "train_accuracy", "val_accuracy", "status"):
            assert getattr(one.outcome, name) == getattr(other.outcome, name)
        ours, theirs = one.outcome.history, other.outcome.history
        np.testing.assert_array_equal(ours.steps, theirs.steps)
        both = np.intersect1d(ours.evaluated, theirs.evaluated)
        assert len(both) >= 6  # the shorter run was evaluated at other steps
        np.testing.assert_array_equal(
            ours.val_accuracy[np.isin(ours.evaluated, both)],
            theirs.val_accuracy[np.isin(theirs.evaluated, both)],
        )
        network = longer.network_of(one.id)
        assert network.accuracy(data.split(37).validation) == one.outcome.val_accuracy
    trained.clear()
    again = rates([0.3, 0.1, 0.01], data, out=out, keep=None, steps=50, **more)
    assert trained == []
    assert outcomes(again) == outcomes(longer)


def test_more_steps_train_from_the_beginning_what_was_not_kept(data, out, trained, assert_close):
    short = rates([0.3, 1e9, 0.01], data, out=out)
    trained.clear()
    longer = rates([0.3, 1e9, 0.01], data, out=out, steps=50)
    begins = {one.begin: one.networks for one in trained}
    assert begins == {STEPS: 1, 0: 2}  # the best, and the two others
    assert [row.id for row in longer.diverged] == [row.id for row in short.diverged] == [1]
    straight = rates([0.3, 1e9, 0.01], data, steps=50)
    for one, other in zip(longer.rows, straight.rows, strict=True):
        assert_close(one, other)
        assert one.outcome.status == other.outcome.status


def test_a_schedule_over_the_whole_run_starts_again(data, out, trained, outcomes):
    rates([0.3, 0.1], data, out=out, keep=None, schedule="cosine")
    trained.clear()
    longer = rates([0.3, 0.1], data, out=out, keep=None, schedule="cosine", steps=50)
    assert [(one.networks, one.begin, one.end) for one in trained] == [(2, 0, 50)]
    straight = rates([0.3, 0.1], data, keep=None, schedule="cosine", steps=50)
    assert outcomes(longer) == outcomes(straight)


def test_configurations_that_are_the_same_are_trained_once(data, out, trained, said):
    space = [{"l2": 0.0}, {"l2": 0.1}, {"l2": 0}, {}, {"l2": 0.1, "hidden": [5]}]
    for folder in (None, out):
        trained.clear()
        settings = {"steps": STEPS, "batch_size": 10, "learning_rate": 0.1, "out": folder}
        result = sweep([{"hidden": [5], **one} for one in space], data, **settings)
        assert [one.networks for one in trained] == [2]
        assert [row.id for row in result.rows] == [0, 1, 2, 3, 4]
        texts = [said(row.outcome) for row in result.rows]
        assert texts[0] == texts[2] == texts[3] != texts[1] == texts[4]
    assert len((out / "results.csv").read_text().splitlines()) == 6


def test_a_space_that_sets_all_by_itself_is_the_same_run(data, out, trained):
    rates([0.3, 0.1], data, out=out)
    trained.clear()
    space = [{"learning_rate": rate, "hidden": [5], "batch_size": 10} for rate in (0.1, 0.3)]
    sweep(space, data, steps=STEPS, out=out, optimizer="sgd", seed=0)
    assert trained == []


def test_the_networks_of_the_best_settings_are_kept(data, out, memory_for):
    """Also where a later chunk is better than an earlier one."""
    memory_for(1)
    found = rates([0.01, 0.1, 0.001, 0.3], data, out=out, keep=2)
    kept = {network_file(out, one.rows[0].key) for one in found.replicates[:2]}
    assert set((out / "networks").iterdir()) == kept


def test_a_network_that_is_no_longer_among_the_best_is_removed_by_a_later_run(data, out):
    worst = rates([0.001], data, out=out)
    better = rates([0.001, 0.3], data, out=out)
    assert better.best.id == 1
    assert worst.best.key != better.best.key
    assert set((out / "networks").iterdir()) == {network_file(out, better.best.key)}
