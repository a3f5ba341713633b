"""A dry run foretells what a sweep computes in which some configurations diverge."""

import dataclasses
import re

import pytest

from jaxnet.cli.estimate import Machine, describe, dry_run
from jaxnet.cli.parser import main
from jaxnet.data import load
from jaxnet.errors import ConfigurationError
from jaxnet.sweeps import Job, grid, plan_job
from jaxnet.verbs import run_job

STEPS, DRY_STEPS = 300, 20
SPACE = grid(learning_rate=[1e-2, 1e6, 1e9], hidden=[[10], [20]])
JOB = Job(SPACE, steps=STEPS, settings={"batch_size": 20})


@pytest.fixture(scope="module")
def data():
    return load("fashion-mnist-mini")


@pytest.fixture(scope="module")
def rehearsal(data):
    return dry_run(JOB, data, plan_job(JOB, data), DRY_STEPS)


def test_a_dry_run_foretells_the_share_of_steps_that_the_sweep_trains(data, rehearsal):
    rows = run_job(JOB, data).rows
    # First layers are of 10 and 20 units, and their products in proportion but for the head's.
    units = {row.id: row.settings["hidden"][0] for row in rows}
    trained = sum(units[row.id] * row.outcome.steps for row in rows)
    assert rehearsal.share == pytest.approx(trained / (STEPS * sum(units.values())), rel=1e-3)
    assert (rehearsal.steps, rehearsal.configurations, rehearsal.diverged) == (DRY_STEPS, 6, 4)
    assert 1 / 3 < rehearsal.share < 0.4


def test_estimate_is_in_proportion(data, rehearsal, monkeypatch):
    machine = Machine(1e5, 1e5, 1e5)  # so slow that all of the time is products
    monkeypatch.setattr("jaxnet.cli.estimate.measure_machine", lambda: machine)
    plan = plan_job(JOB, data)
    whole, left = describe(plan), describe(plan, dataclasses.replace(rehearsal, share=0.5))
    assert whole.endswith("less where networks diverge or stop early.")
    assert "in 20 steps 4 of 6 diverged, which leaves 50% of the work" in left

    hours = [re.match(r"About (\S+) h on", text)[1] for text in (left, whole)]
    assert float(hours[0]) == pytest.approx(float(hours[1]) / 2, rel=0.06)  # two digits are shown


@pytest.mark.parametrize("steps", [0, -1, STEPS])
def test_a_dry_run_is_shorter_than_the_sweep(data, steps):
    with pytest.raises(ConfigurationError, match=f"between 1 and the sweep's 300, got {steps}"):
        dry_run(JOB, data, plan_job(JOB, data), steps)


def test_command_prints_it(capsys, tmp_path):
    file = tmp_path / "job.toml"
    file.write_text("steps = 30\n[grid]\nlearning_rate = [1e-2, 1e9]\n")
    arguments = ["sweep", str(file), "--trial", "3"]
    assert main([*arguments, "--plan"]) == 0
    assert "in 3 steps 1 of 2 diverged" in capsys.readouterr().out
    assert main(arguments) == 2
    assert "--trial is a part of --plan" in capsys.readouterr().err
