"""Every public function answers a wrong argument with a right result or one line of jaxnet's own.

`tests/manners.py` has the table and says why it is a program of its own.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jaxnet
from jaxnet import data, layers, losses, optimizers, plots, schedules, sweeps

PROGRAM = Path(__file__).with_name("manners.py")

# Public callables without a row, each with the reason.
WITHOUT_ROW = {
    **dict.fromkeys(
        (
            "Configuration",
            "Network",
            "SweepResult",
            "Plan",
            "GradientReport",
            "Diagnosis",
        ),
        "made by functions of ours, its methods have rows",
    ),
    **dict.fromkeys(
        ("ConfigurationError", "DataError", "DataWarning", "JaxnetError", "RunFolderError"),
        "errors",
    ),
    "named": "it takes any value; its names have tests of their own",
    **dict.fromkeys(("sweeps.Row", "data.Splits", "data.Examples", "layers.Layer"), "a record"),
    **dict.fromkeys(("optimize", "sweeps.OptunaSampler"), "of Optuna, which may be missing"),
    "data.Preprocessing": "made by fit",
    "data.data_directory": "it takes nothing",
    "sweeps.Sampler": "a protocol",
}


@pytest.fixture(scope="module")
def answers():
    """What each function does that it should not: {name: [case: what happened]}."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM)],
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found


def test_wrong_arguments_get_a_right_result_or_one_line(answers):
    wrong = [f"{name}: {case}" for name, cases in answers.items() for case in cases]
    assert not wrong, "\n".join(wrong)


def _public():
    """The name of every public callable, with its module but for those of jaxnet itself."""
    for name in jaxnet.__all__:
        if callable(getattr(jaxnet, name)):
            yield name
    for module in (data, layers, losses, optimizers, plots, schedules, sweeps):
        short = module.__name__.removeprefix("jaxnet.")
        listed = getattr(module, "__all__", None) or [
            name
            for name, value in vars(module).items()
            if callable(value)
            and (module in (plots, sweeps) or getattr(value, "__module__", "") == module.__name__)
        ]
        for name in listed:
            value = getattr(module, name)
            if (
                callable(value)
                and not name.startswith("_")
                and getattr(jaxnet, name, 0) is not value
            ):
                yield f"{short}.{name}"


def test_every_public_function_has_a_row(answers):
    helpers = {
        *("losses.ChanceLoss", "optimizers.OptimizerState", "optimizers.OptimizerRule"),
        *("optimizers.lift", "optimizers.weights_only", "optimizers.find_optimizer"),
        *("schedules.scalar", "schedules.numeric_defaults", "schedules.ScheduleRule"),
    }
    rows = {re.sub(",.*", "", name) for name in answers}
    missing = set(_public()) - rows - WITHOUT_ROW.keys() - helpers
    assert not missing


def test_checked_functions_keep_their_signatures():
    assert "steps: int = 200" in str(inspect.signature(jaxnet.sweep))
