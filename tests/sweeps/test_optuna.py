"""Optuna through batches: its studies know what happened, its pruners cut, its plots work."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import optax
import pytest

from jaxnet import named
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import (
    choice,
    grid,
    integers,
    log_integers,
    log_uniform,
    normal,
    random_draws,
    uniform,
)
from jaxnet.sweeps.run.optuna_sampler import OptunaSampler
from jaxnet.verbs import optimize, search

pytestmark = pytest.mark.slow

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

States = optuna.trial.TrialState
RUN = {"steps": 12, "batch_size": 10, "hidden": [4], "evaluations": 3}
SPACE = random_draws(6, learning_rate=log_uniform(1e-3, 1), l2=uniform(0, 0.1))


def make_study(sampler=None, pruner=None, **options):
    sampler = optuna.samplers.RandomSampler(seed=0) if sampler is None else sampler
    pruner = optuna.pruners.NopPruner() if pruner is None else pruner
    options = {"direction": "maximize", **options}
    return optuna.create_study(sampler=sampler, pruner=pruner, **options)


def states(study):
    return [trial.state for trial in study.trials]


# Spaces


def asked(space, count=40):
    study = make_study()
    return study, OptunaSampler(study, space).ask(count)


def test_distributions_become_those_of_optuna():
    space = random_draws(
        1,
        learning_rate=log_uniform(1e-4, 1e-1),
        l2=uniform(0, 2),
        batch_size=integers(10, 20),
        components=log_integers(1, 64),
        optimizer=choice("sgd", "adam"),
        norm="batch",
        hidden=[5, 4],
        seed=3,
    )
    study, settings = asked(space)
    found = study.trials[0].distributions
    kinds = optuna.distributions
    assert found == {
        "learning_rate": kinds.FloatDistribution(1e-4, 1e-1, log=True),
        "l2": kinds.FloatDistribution(0, 2),
        "batch_size": kinds.IntDistribution(10, 20),
        "components": kinds.IntDistribution(1, 64, log=True),
        "optimizer": kinds.CategoricalDistribution(["sgd", "adam"]),
    }
    for trial, one in zip(study.trials, settings, strict=True):
        assert one == {**trial.params, "norm": "batch", "hidden": [5, 4], "seed": 3}
    assert {one["optimizer"] for one in settings} == {"sgd", "adam"}


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([[80], [160, 80], [], 7], ["80", "160-80", "none", "7"]),
        ([None, 0.5, True, "a"], [None, 0.5, True, "a"]),
        ([1, True], ["1", "True"]),  # equal to Python
        ([np.int64(3), np.int64(4)], ["3", "4"]),
        ([optax.adam, optax.sgd], ["adam", "sgd"]),
        ([named("one", optax.sgd(0.1)), named("two", optax.sgd(0.2))], ["one", "two"]),
        ([optax.sgd(0.1), optax.sgd(0.2)], [None, None]),
    ],
)
def test_choices_are_stored_as_text_and_come_back(values, labels):
    study, settings = asked(random_draws(1, axis=choice(*values)))
    found = list(study.trials[0].distributions["axis"].choices)
    assert all(want in (None, got) for got, want in zip(found, labels, strict=True))
    assert len(set(map(repr, found))) == len(values)
    assert all(any(one["axis"] is value for value in values) for one in settings)
    used = {id(one["axis"]) for one in settings}
    assert len(used) == len({id(value) for value in values})


def test_a_choice_that_has_another_content_is_another_in_the_study():
    def labels(rate):
        study, _ = asked(random_draws(1, optimizer=choice(optax.sgd(rate), "adam")))
        return study.trials[0].distributions["optimizer"].choices

    assert labels(0.1) == labels(0.1) != labels(0.2)
    assert labels(0.1)[0].startswith("sgd(0.1) #")


@pytest.mark.parametrize(
    ("space", "error"),
    [
        (random_draws(1, l2=normal(1, 0.5)), r"l2: Optuna has no normal .* uniform\(0, 2\)"),
        (grid(l2=[1]), "OptunaSampler draws from random_draws.*got Grid"),
    ],
)
def test_spaces_that_optuna_cannot_draw_from(space, error, as_a_user):
    with pytest.raises(ConfigurationError, match=error):
        OptunaSampler(make_study(), space)


@pytest.mark.parametrize(
    ("study", "error"),
    [
        (lambda: make_study(direction="minimize"), r"directions are minimize.*='maximize'"),
        (lambda: make_study(direction=None, directions=["maximize"] * 2), "maximize, maximize"),
        (lambda: "study", r"expected optuna.create_study\(direction='maximize'\), got 'study'"),
    ],
)
def test_studies_that_do_not_maximize_one_value(study, error, as_a_user):
    with pytest.raises(ConfigurationError, match=error):
        OptunaSampler(study(), SPACE)


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'jaxnet\[optuna\]'"):
        OptunaSampler(make_study(), SPACE)


# What is told


def test_a_study_is_told_what_became_of_each_trial(data):
    space = random_draws(1, learning_rate=choice(0.3, 1e9), l2=uniform(0, 0.1))
    study = make_study()
    result = search(OptunaSampler(study, space), data, trials=9, batch=3, **RUN)
    assert {States.COMPLETE, States.FAIL} == set(states(study))
    for trial, row in zip(study.trials, result.rows, strict=True):
        attributes = trial.user_attrs
        assert (attributes["id"], attributes["key"]) == (row.id, row.key)
        assert attributes["status"] == row.outcome.status
        assert attributes["settings"] == row.settings
        assert row.settings["l2"] == trial.params["l2"]
        json.dumps(attributes, allow_nan=False)
        if row.ok:
            history = row.outcome.history
            on_the_way = dict(zip(history.evaluated, history.val_accuracy, strict=True))
            assert trial.value == row.outcome.val_accuracy
            assert trial.intermediate_values == on_the_way
        else:
            assert trial.state == States.FAIL
    assert study.best_trial.value == max(r.outcome.val_accuracy for r in result.rows if r.ok)


def test_replicates_are_one_trial(data):
    study = make_study()
    result = optimize(study, SPACE, data, trials=3, batch=3, replicates=2, **RUN)
    means = {one.rows[0].id: one.mean for one in result.replicates}
    assert [trial.value for trial in study.trials] == [means[0], means[2], means[4]]
    assert study.trials[1].user_attrs["status"] == "ok, ok"
    study = make_study(pruner=optuna.pruners.MedianPruner())
    with pytest.raises(ConfigurationError, match=r"pruner=optuna.pruners.NopPruner\(\)"):
        optimize(study, SPACE, data, trials=2, batch=2, replicates=2, **RUN)


def test_what_stopped_early_has_a_value(data):
    study = make_study()
    optimize(
        study, SPACE, data, trials=3, batch=3, stop={"patience": 1}, **{**RUN, "evaluations": 12}
    )
    assert any("stopped" in trial.user_attrs["status"] for trial in study.trials)
    assert set(states(study)) == {States.COMPLETE}


PRUNERS = {
    "threshold": lambda p: p.ThresholdPruner(lower=0.9),
    "median": lambda p: p.MedianPruner(n_startup_trials=1),
    "halving": lambda p: p.SuccessiveHalvingPruner(min_resource=4, reduction_factor=2),
    "hyperband": lambda p: p.HyperbandPruner(4, 12, reduction_factor=2),
    "percentile": lambda p: p.PercentilePruner(50.0, n_startup_trials=1),
}


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_pruned_trials_are_cut(data, name):
    study, own = make_study(pruner=PRUNERS[name](optuna.pruners)), []
    space = random_draws(9, learning_rate=log_uniform(1e-6, 1))
    for rate in (0.6, 0.5, 1e-4, 1e-5, 0.4, 1e-6, 0.3, 2e-5, 3e-4):  # two thirds learn nothing
        study.enqueue_trial({"learning_rate": rate})
    result = optimize(study, space, data, batch=3, callback=own.append, **RUN)
    assert own  # the caller's callback is called, too
    assert States.PRUNED in states(study)
    for trial, row in zip(study.trials, result.rows, strict=True):
        assert (trial.state == States.PRUNED) == (row.outcome.kind == "cut")
        if trial.state == States.PRUNED:
            assert f"cut@{trial.last_step}" == row.outcome.status
            assert trial.value == row.outcome.val_accuracy


def test_the_callers_callback_may_cut(data):
    study = make_study()
    optimize(study, SPACE, data, trials=3, batch=3, callback=lambda evaluation: [1], **RUN)
    assert states(study) == [States.COMPLETE, States.PRUNED, States.COMPLETE]


@pytest.mark.parametrize("name", ["TPESampler", "CmaEsSampler", "QMCSampler"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_samplers_of_optuna(data, name):
    if name == "CmaEsSampler":
        pytest.importorskip("cmaes")
    if name == "QMCSampler":
        pytest.importorskip("scipy")
    options = {"TPESampler": {"n_startup_trials": 3}, "CmaEsSampler": {"n_startup_trials": 1}}
    sampler = getattr(optuna.samplers, name)(seed=0, **options.get(name, {}))
    study = make_study(sampler)
    result = optimize(study, SPACE, data, trials=9, batch=3, **RUN)
    assert len({trial.params["l2"] for trial in study.trials}) == 9  # no two of a batch alike
    assert study.best_value == result.best.outcome.val_accuracy


def test_pictures_of_optuna(data):
    matplotlib = pytest.importorskip("optuna.visualization.matplotlib")
    study = make_study()
    optimize(study, SPACE, data, batch=3, **RUN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        matplotlib.plot_optimization_history(study)
        matplotlib.plot_param_importances(study)
        axes = matplotlib.plot_intermediate_values(study)
    assert len(axes.get_lines()) == 6
    import matplotlib.pyplot as plt

    plt.close("all")


# In a storage


@pytest.fixture
def storage(tmp_path):
    made = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    yield made
    made.remove_session()
    made.engine.dispose()


def reopened(storage):
    sampler = optuna.samplers.RandomSampler()  # one with a seed would draw the same again
    return make_study(sampler, storage=storage, study_name="s", load_if_exists=True)


class Killed(BaseException):
    """Nothing catches it."""


def test_a_search_that_ended_in_an_error_goes_on(data, tmp_path, storage):
    run = {"trials": 9, "batch": 3, "out": tmp_path / "run", **RUN}
    told = []

    def die(evaluation):
        told.append(evaluation)
        if evaluation.ids[0] == 3 and evaluation.step > 4:
            raise Killed

    with pytest.raises(Killed):
        optimize(reopened(storage), SPACE, data, callback=die, **run)
    assert states(reopened(storage)) == (
        [States.COMPLETE] * 3 + [States.FAIL] * 3 + [States.WAITING] * 3
    )
    study, told = reopened(storage), []
    result = optimize(study, SPACE, data, callback=lambda e: told.append(e), **run)
    assert states(study) == [States.COMPLETE] * 3 + [States.FAIL] * 3 + [States.COMPLETE] * 6
    for killed, again in zip(study.trials[3:6], study.trials[6:9], strict=True):
        assert killed.params == again.params
        assert again.user_attrs["retry_of"] == killed.number
    assert {id for evaluation in told for id in evaluation.ids} == set(range(3, 9))
    assert [row.id for row in result.rows] == list(range(9))  # the first three from the folder
    done = [trial for trial in study.trials if trial.state == States.COMPLETE]
    for trial, row in zip(done, result.rows, strict=True):
        assert trial.params["learning_rate"] == row.settings["learning_rate"]
        assert trial.user_attrs["id"] == row.id
    # The same call once more has nothing to do; a larger number extends the study.
    told.clear()
    again = optimize(study, SPACE, data, callback=lambda e: told.append(e), **run)
    assert not told
    assert [row.outcome.val_accuracy for row in again.rows] == [
        row.outcome.val_accuracy for row in result.rows
    ]
    assert len(optimize(study, SPACE, data, **{**run, "trials": 12}).rows) == 12
    with pytest.raises(ConfigurationError, match=r"has 12 trials, and trials=9 counts those"):
        optimize(study, SPACE, data, **{**run, "out": None})


def other_process():
    """The number of a process that is gone."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_trials_of_a_killed_process_are_asked_again(storage):
    study = reopened(storage)
    first = OptunaSampler(study, SPACE)
    settings = first.ask(4)
    node, alive, _ = study.trials[0].user_attrs["jaxnet"]
    owners = [
        [node, other_process(), "x"],  # killed
        [node, alive, "x"],  # killed before this process was given its number
        [node, os.getppid(), "x"],  # at work
        ["elsewhere", other_process(), "x"],  # unknown
    ]
    for trial, owner in zip(first._open, owners, strict=True):
        trial.set_user_attr("jaxnet", owner)
    study.ask()  # the user's own
    study = reopened(storage)
    second = OptunaSampler(study, SPACE)
    assert states(study)[:5] == [States.FAIL] * 2 + [States.RUNNING] * 3
    assert second.ask(2) == settings[:2]
    assert not second.finished


def test_settings_come_back_from_a_storage(storage):
    space = random_draws(1, learning_rate=log_uniform(1e-3, 1), hidden=choice([3], [2, 2]), l2=0)
    asked = OptunaSampler(reopened(storage), space).ask(4)
    again = reopened(storage)
    assert [OptunaSampler(again, space).settings_of(t.params) for t in again.trials] == asked


def test_what_cannot_be_is_refused_before_a_trial_is_asked_for(data, tmp_path):
    study = make_study()
    space = random_draws(2, learning_rat=log_uniform(1e-3, 1))
    with pytest.raises(ConfigurationError, match="unknown setting 'learning_rat'"):
        optimize(study, space, data, batch=2, out=tmp_path / "run", **RUN)
    assert not study.trials
    assert not (tmp_path / "run").exists()


# Samplers that end, and studies of other parameters


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", ["GridSampler", "BruteForceSampler"])
@pytest.mark.parametrize("batch", [2, 3])
def test_a_sampler_without_more_points_ends_the_search(data, kind, batch):
    rates = [0.1, 0.2, 0.3, 0.4]
    space = random_draws(1, learning_rate=choice(*rates))
    arguments = ({"learning_rate": rates},) if kind == "GridSampler" else ()
    study = make_study(getattr(optuna.samplers, kind)(*arguments, seed=0))
    result = optimize(study, space, data, trials=20, batch=batch, **RUN)
    assert {row.settings["learning_rate"] for row in result.rows} == set(rates)
    assert len(result.rows) < 20
    assert set(states(study)) == {States.COMPLETE}
    with pytest.raises(RuntimeError):
        study.stop()  # Optuna's own again


def test_what_a_grid_has_had_before_is_not_asked_again(data):
    space = random_draws(1, learning_rate=choice(0.1, 0.2))
    study = make_study(optuna.samplers.GridSampler({"learning_rate": [0.1, 0.2]}, seed=0))
    optimize(study, space, data, trials=2, batch=2, **RUN)
    assert OptunaSampler(study, space).ask(3) == []


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"l2": uniform(0.0, 1.0)}, "l2: .* without it"),
        ({"l2": uniform(0.0, 1.0)}, {}, "l2: .* that draws it"),
        ({"l2": choice(0.0, 1.0)}, {"l2": choice(0.0, 0.5, 1.0)}, "l2: .* cannot mix"),
        ({"l2": uniform(0.1, 1.0)}, {"l2": log_uniform(0.1, 1.0)}, "l2: .* cannot mix"),
        ({"hidden": choice([4], [5])}, {"hidden": choice([5], [6])}, "hidden: .* cannot mix"),
    ],
)
def test_a_study_of_other_parameters_is_refused_by_name(data, before, after, named):
    study, rate = make_study(), log_uniform(1e-3, 1)
    run = {name: value for name, value in RUN.items() if name not in before}
    optimize(study, random_draws(1, learning_rate=rate, **before), data, trials=1, batch=1, **run)
    with pytest.raises(ConfigurationError, match=named):
        optimize(
            study, random_draws(1, learning_rate=rate, **after), data, trials=2, batch=1, **run
        )
    assert len(study.trials) == 1


def test_another_range_of_a_parameter_goes_on(data):
    study = make_study()
    for trials, highest in ((1, 1.0), (2, 2.0)):
        space = random_draws(1, learning_rate=uniform(0.1, highest))
        optimize(study, space, data, trials=trials, batch=1, **RUN)
    assert states(study) == [States.COMPLETE] * 2
