"""The command line as its users meet it: what it prints, what it leaves behind, how it fails."""

import csv
import json
import re
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
from jaxnet.sweeps.machine.cost import network_bytes
from jaxnet.sweeps.run.local_executor import Local
from jaxnet.training.program import Program
from jaxnet.training.settings import Shapes, configure, setting_names

TOML = """
steps = 12
validation = 200
train = 300
[settings]
hidden = [4]
batch_size = 20
[grid]
learning_rate = [1e-2, 1e9]
l2 = [0.0, 0.1]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Every command runs in an empty folder, with no data but the embedded ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXNET_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(TOML)
    return str(path)


@pytest.fixture
def fails(capsys):
    """Run a command that must fail; return its one message."""

    def fails(*arguments, code=2):
        assert main(list(arguments)) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("jaxnet: ")
        assert err.count("jaxnet: ") == 1
        assert "Traceback" not in err
        return err

    return fails


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Sweeps


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished sweep, to look at and not to change."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "job.toml").write_text(TOML)
    run = folder / "run"
    assert main(["sweep", str(folder / "job.toml"), "--out", str(run), "--quiet"]) == 0
    return run


def test_a_sweep_prints_its_table_and_keeps_its_folder(job, tmp_path, capsys):
    assert main(["sweep", job, "--out", "run", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "4 of 4" in out
    words = out.replace("_", " ")
    for column in ("id", "learning rate", "l2", "final loss", "val acc.", "status"):
        assert column in words
    assert "batch size" not in words  # it does not vary
    assert "diverged@" in out
    assert "2 of 4 configurations diverged" in out
    rows = read_csv(tmp_path / "run" / "results.csv")
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["status"] == "ok" for row in rows] == [True, True, False, False]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    best = summary["best"]["id"]
    assert f"test accuracy of the best (id {best}): {summary['test_accuracy']:.4f}" in out
    assert "results in run" in out
    # The best stands first in the table.
    numbers = re.findall(r"^ +(\d+) ", out, re.MULTILINE)
    assert numbers[0] == str(best)
    assert sorted(numbers) == ["0", "1", "2", "3"]


def test_a_plan_is_printed_and_nothing_trained(job, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    assert main(["sweep", job, "--plan", "--memory", "1GiB"]) == 0
    out = capsys.readouterr().out
    assert "4 configurations × 12 steps: 1 group, 1 chunk, 1 program to compile" in out
    assert "of 1074 MB" in out
    assert "learning_rate, l2" in out
    assert sorted(tmp_path.iterdir()) == before


def test_memory_cuts_a_sweep_into_chunks_with_the_same_table(job, tmp_path, capsys):
    structure = configure(hidden=4, batch_size=20).structure
    each = network_bytes(Program(structure, Shapes((784,), 10)))
    # That is an estimate from above; the compiler, asked where memory is short, says less.
    memory = ["--memory", f"{0.4 * each}"]
    assert main(["sweep", job, "--plan", *memory]) == 0
    planned = re.search(r"1 group, (\d) chunks, 1 program", capsys.readouterr().out)
    assert int(planned[1]) > 1
    assert main(["sweep", job, "--quiet", "--out", "whole"]) == 0
    assert main(["sweep", job, "--quiet", "--out", "cut", *memory]) == 0
    whole, cut = (read_csv(tmp_path / run / "results.csv") for run in ("whole", "cut"))
    for one, other in zip(whole, cut, strict=True):
        for name in ("final_loss", "train_accuracy", "val_accuracy"):
            # Products of other shapes sum in another order; 12 steps amplify little of it.
            expected = float(one.pop(name) or "nan")
            assert float(other.pop(name) or "nan") == pytest.approx(expected, 1e-4, nan_ok=True)
        assert one == other


def test_a_memory_that_cannot_be(fails, job, capsys):
    assert "one network of hidden (4,)" in fails("sweep", job, "--memory", "1KB")
    for text in ("much", "-1GB", "4TB", "0"):
        with pytest.raises(SystemExit):
            main(["sweep", job, f"--memory={text}"])
        assert "expected a size such as 500MB or 4GiB" in capsys.readouterr().err


def test_the_bar_is_on_standard_error(job, capsys):
    assert main(["sweep", job, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "100%" in err
    assert re.search(r"4/4 configurations, \d+(\.\d+)?(e\+\d+)?/s, best 0\.", err)
    assert "%" not in out


def test_runs_are_numbered_and_never_overwritten(job, tmp_path):
    for _ in range(2):
        assert main(["sweep", job, "--quiet"]) == 0
    assert main(["train", "--hidden", "4", "--steps", "2", "--batch-size", "20", "--quiet"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "sweep-001",
        "sweep-002",
        "train-001",
    ]


def test_options_go_before_the_file(job, tmp_path):
    options = ["--steps", "3", "--seed", "5", "--validation", "100", "--train", "150"]
    settings = ["--set", "activation=tanh", "--set", "hidden=[3]", "--set", "weight_decay=0.5"]
    settings += ["--set", "optimizer=adamw"]
    assert main(["sweep", job, "--out", "run", "--quiet", *options, *settings]) == 0
    rows = read_csv(tmp_path / "run" / "results.csv")
    assert {row["seed"] for row in rows} == {"5"}
    assert {row["activation"] for row in rows} == {"tanh"}
    assert {row["hidden"] for row in rows} == {"3"}
    assert {row["weight_decay"] for row in rows} == {"0.5"}
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    said = {name: config["job"][name] for name in ("steps", "seed", "validation", "train")}
    assert said == {"steps": 3, "seed": 5, "validation": 100, "train": 150}


def test_a_run_is_run_again_from_its_configuration(finished, tmp_path):
    assert main(["sweep", str(finished / "config.json"), "--out", "again", "--quiet"]) == 0
    assert (tmp_path / "again" / "results.csv").read_text() == (
        finished / "results.csv"
    ).read_text()


def test_without_a_job_the_default_preset_is_trained(monkeypatch):
    """What is handed to the library; the sweep itself is 144 networks."""
    jobs = []
    monkeypatch.setattr(
        "jaxnet.cli.commands._run", lambda job, settings, options: jobs.append((job, settings)) or 0
    )
    from jaxnet.sweeps import find_preset

    assert main(["sweep"]) == 0
    assert main(["sweep", "--preset", "cifar10-45", "--set", "optimizer=adam"]) == 0
    assert jobs == [
        (find_preset("default"), {}),
        (find_preset("cifar10-45"), {"optimizer": "adam"}),
    ]


def test_when_all_diverge_it_is_said(tmp_path, capsys):
    (tmp_path / "job.toml").write_text(TOML.replace("1e-2, 1e9", "1e10, 1e9"))
    assert main(["sweep", "job.toml", "--out", "run", "--quiet"]) == 0
    out, _ = capsys.readouterr()
    assert "4 of 4 configurations diverged" in out
    assert "no configuration stayed finite: lower the learning rate" in out


def test_rules_with_numbers_of_their_own_are_printed(tmp_path, capsys):
    """A setting that varies may be one that a row does not have."""
    (tmp_path / "job.toml").write_text(
        "steps = 2\ntrain = 100\n[settings]\nhidden = [4]\nbatch_size = 20\n"
        '[[configuration]]\noptimizer = "sgd"\n'
        '[[configuration]]\noptimizer = "momentum"\nmomentum = 0.5\n'
        '[[configuration]]\noptimizer = "momentum"\nmomentum = 0.9\n'
    )
    assert main(["sweep", "job.toml", "--out", "run", "--quiet"]) == 0
    out, _ = capsys.readouterr()
    assert "3 of 3" in out
    assert "momentum" in out


# Bad input


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["sweep", "--preset", "cifar-144"],
            "unknown preset 'cifar-144': did you mean 'cifar10-144'",
        ),
        (["sweep", "--data", "cifar-10"], "unknown data set 'cifar-10': did you mean 'cifar10'"),
        (["train", "--data", "fashion-mnst"], "did you mean 'fashion-mnist'"),
        (
            ["sweep", "--set", "optimiser=adam"],
            "unknown setting 'optimiser': did you mean 'optimizer'",
        ),
        (["sweep", "--set", "optimizer=adm"], "unknown optimizer 'adm': did you mean 'adam'"),
        (["sweep", "--set", "optimizer"], "--set expects NAME=VALUE, got 'optimizer'"),
        (["sweep", "--set", "l2=0.1"], "l2 is an axis of the space and a setting for all"),
        (["sweep", "--set", "dropout=-0.1"], "dropout: expected a value in [0, 1), got -0.1"),
        (["sweep", "--steps", "0"], "steps: expected a whole number from 1 up, got 0"),
        (["sweep", "--seed", "-1"], "seed: expected a whole number from 0 up, got -1"),
        (["sweep", "--validation", "2000"], "cannot split fashion-mnist-mini into 0 training"),
        (["sweep", "--train", "5000"], "cannot split fashion-mnist-mini into 5000 training"),
        (["sweep", "none.toml"], "cannot read none.toml: "),
        (["sweep", "--resume"], "--resume needs --out FOLDER"),
        (["train", "--resume"], "--resume needs --out FOLDER"),
        (["sweep", "--data", "cifar10"], "cifar10 is not on this machine"),
        (["train", "--lr", "-0.1"], "learning_rate: expected a value in [0, inf), got -0.1"),
        (["train", "--lr", "nan"], "learning_rate: expected a value in [0, inf), got nan"),
        (["train", "--hidden", "0"], "hidden: expected a whole number from 1 up, got 0"),
        (["train", "--batch-size", "0"], "batch_size: expected a whole number from 1 up, got 0"),
        (["train", "--norm", "bach"], "unknown norm 'bach': did you mean 'batch'"),
        (["train", "--beta1", "0.5"], "beta1 is used by adam, adamw, not by optimizer 'sgd'"),
        (["train", "--loss", "svm", "--label-smoothing", "0.1"], "label_smoothing is used by"),
        (["train", "--epochs", "-1"], "--epochs: expected a number above 0, got -1"),
        (["train", "--epochs", "nan"], "--epochs: expected a number above 0, got nan"),
        (["train", "--epochs", "1", "--steps", "3"], "give --steps or --epochs, not both"),
        (["train", "--preprocessing", "pca"], "'pca' needs components"),
        (
            ["train", "--preprocessing", "pca", "--components", "1000"],
            "components must be in 1..784",
        ),
        (["predict", "none"], "no weights at none"),
        (["data", "info", "fashion-mnst"], "did you mean 'fashion-mnist'"),
        (["data", "fetch", "cifar"], "unknown data set 'cifar': did you mean 'cifar10'"),
        (["data", "info", "cifar10"], "cifar10 is not on this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_message_and_leaves_nothing(fails, tmp_path, arguments, text):
    assert text in fails(*arguments, *(["--quiet"] if arguments[0] in ("sweep", "train") else []))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("stepps = 3\n[grid]\nl2 = [0]", "unknown key 'stepps': did you mean 'steps'"),
        ('data = "fashion-mini"\n[grid]\nl2 = [0]', "did you mean 'fashion-mnist"),
        ("[grid]\nleaning_rate = [0.1]", "unknown setting 'leaning_rate': did you mean 'learning"),
        ('[grid]\noptimizer = ["adm"]', "unknown optimizer 'adm': did you mean 'adam'"),
        ("[grid]", "the grid is empty"),
        ("[grid]\nl2 = []", "the grid is empty: axis l2 has no values"),
        ("[grid]\nlearning_rate = [0.1, -0.1]", "configuration 1: learning_rate: expected a value"),
        ("steps = 3", "expected one of [grid], [random] or [[configuration]]"),
        ("[grid\n", "job.toml is not valid toml"),
        ("", "expected one of [grid]"),
    ],
)
def test_a_file_that_cannot_be_is_one_message(fails, tmp_path, text, error):
    (tmp_path / "job.toml").write_text(text)
    message = fails("sweep", "job.toml", "--quiet")
    assert error in message
    assert "\n" not in message.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["job.toml"]


def test_a_file_of_bytes(fails, tmp_path):
    (tmp_path / "job.toml").write_bytes(bytes(range(256)))
    assert "cannot read job.toml" in fails("sweep", "job.toml")


def test_a_job_and_a_preset(fails, job):
    assert "a job file or --preset, not both" in fails("sweep", job, "--preset", "default")


def test_folders_that_cannot_be_written(fails, job, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (str(tmp_path), "file"):
        message = fails("sweep", job, "--out", out, "--quiet")
        assert "exists and is neither an empty folder nor a run's: choose another" in message
    message = fails("sweep", job, "--out", "file/below", "--quiet")
    assert "cannot write the run folder file/below" in message
    assert (tmp_path / "file").read_text() == "mine"


def test_resuming_what_is_no_run_does_not_start_another(fails, tmp_path):
    """A typing error in --out would otherwise train the 144 networks of the default."""
    for command in ("sweep", "train"):
        message = fails(command, "--resume", "--out", "typo", "--steps", "1", "--quiet")
        assert "typo is not a run folder" in message
    assert not (tmp_path / "typo").exists()


def test_a_run_on_other_images_is_not_added_to(fails, job, finished):
    before = (finished / "config.json").read_text()
    for more in ([], ["--resume"]):
        message = fails(
            "sweep", job, *more, "--out", str(finished), "--validation", "100", "--quiet"
        )
        assert "holds another run: data.validation was 200, now is 100" in message
    assert (finished / "config.json").read_text() == before


@pytest.mark.parametrize(
    "arguments",
    [[], ["swep"], ["sweep", "--stepps", "3"], ["sweep", "--steps", "x"], ["data"], ["predict"]],
    ids=" ".join,
)
def test_usage_errors_exit_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: jaxnet" in capsys.readouterr().err


# Interruptions


def interrupted_after(monkeypatch, calls):
    real, seen = Local._train, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) > calls:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(Local, "_train", interrupted)


# Two groups, and so two chunks.
TWO = TOML.replace("l2 = [0.0, 0.1]", 'activation = ["relu", "tanh"]')


def test_interrupted_it_says_how_to_go_on_and_that_works(tmp_path, monkeypatch, capsys):
    (tmp_path / "job.toml").write_text(TWO)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 1)
        assert main(["sweep", "job.toml", "--out", "my run", "--quiet"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("jaxnet: ") == 1
    assert "interrupted; what finished is kept in my run" in err
    assert len(read_csv(tmp_path / "my run" / "results.csv")) == 2
    # The command is one to paste: the folder has a blank in its name.
    import shlex

    command = shlex.split(err.split("Go on with: ")[1])
    assert command == ["jaxnet", "sweep", "--resume", "--out", "my run"]
    assert main([*command[1:], "--quiet"]) == 0
    assert len(read_csv(tmp_path / "my run" / "results.csv")) == 4
    assert "4 of 4" in capsys.readouterr().out


def test_interrupted_before_there_is_a_folder_nothing_is_promised(
    job, monkeypatch, capsys, tmp_path
):
    def interrupt(*arguments, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxnet.data.load", interrupt)
    assert main(["sweep", job, "--out", "run", "--quiet"]) == 130
    err = capsys.readouterr().err
    assert "interrupted" in err
    assert "kept in" not in err  # there is no folder, and --resume would know nothing of the job
    assert not (tmp_path / "run").exists()


def test_a_real_ctrl_c_keeps_what_finished(tmp_path):
    """Within the second of three groups, each with a program of its own to compile."""
    (tmp_path / "job.toml").write_text(
        TOML.replace("l2 = [0.0, 0.1]", 'activation = ["relu", "tanh", "gelu"]\nseed = [0, 1]')
    )
    command = [sys.executable, "-m", "jaxnet", "sweep", "job.toml", "--out", "run"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if (tmp_path / "run" / "sweep.db").exists():
                connection = sqlite3.connect(tmp_path / "run" / "sweep.db")
                try:
                    (rows,) = connection.execute("SELECT count(*) FROM results").fetchone()
                except sqlite3.OperationalError:
                    rows = 0  # no table yet
                finally:
                    connection.close()
                if rows:
                    break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted; what finished is kept in run" in err
    assert "jaxnet sweep --resume --out run" in err
    kept = read_csv(tmp_path / "run" / "results.csv")
    assert 0 < len(kept) < 12
    assert [int(row["id"]) for row in kept] == sorted(int(row["id"]) for row in kept)
    networks = list((tmp_path / "run" / "networks").glob("*.safetensors"))
    assert {Network.load(path).settings["learning_rate"] for path in networks} == {0.01}


def test_the_same_command_again_adds_what_is_missing(job, tmp_path, capsys):
    """Without --resume too; and with more values of an axis."""
    command = ["sweep", job, "--out", "run", "--quiet"]
    assert main(command) == 0
    before = (tmp_path / "run" / "results.csv").read_text()
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(patch, 0)  # nothing is trained, or it would be interrupted
        assert main(command) == 0
    assert (tmp_path / "run" / "results.csv").read_text() == before
    (tmp_path / "job.toml").write_text(TOML.replace("1e-2, 1e9", "1e-2, 1e-1, 1e9"))
    assert main(command) == 0
    rows = read_csv(tmp_path / "run" / "results.csv")
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    kept = [",".join(list(row.values())[1:]) for row in rows]
    for line in before.splitlines()[1:]:
        assert line.split(",", 1)[1] in kept


def test_replicates_are_a_row_each_in_the_table_printed(job, tmp_path, capsys):
    assert main(["sweep", job, "--out", "run", "--quiet", "--replicates", "3", "--keep", "2"]) == 0
    out = capsys.readouterr().out
    assert "best 4 of 4 settings" in out
    assert "95 % interval" in out
    assert "±" in out
    assert len(read_csv(tmp_path / "run" / "results.csv")) == 12
    assert (tmp_path / "run" / "replicates.csv").exists()
    assert len(list((tmp_path / "run" / "networks").iterdir())) == 6


def test_patience_stops_what_does_not_learn(tmp_path):
    (tmp_path / "job.toml").write_text(TOML.replace("1e-2, 1e9", "1e-1, 0.0"))
    options = ["--stop", "patience=2", "--evaluations", "6", "--keep", "all", "--history", "4"]
    assert main(["sweep", "job.toml", "--out", "run", "--quiet", *options]) == 0
    rows = read_csv(tmp_path / "run" / "results.csv")
    assert [row["status"] for row in rows[2:]] == ["stopped@6"] * 2  # 2, and two more of none
    assert len(list((tmp_path / "run" / "networks").iterdir())) == 4


# One network


def test_train_takes_every_setting_as_an_option(tmp_path, capsys):
    options = {
        "activation": "tanh",
        "norm": "layer",
        "dropout": "0.1",
        "loss": "softmax",
        "label_smoothing": "0.1",
        "l2": "0.01",
        "l2_convention": "full",
        "init": "glorot",
        "init_scale": "0.5",
        "optimizer": "adamw",
        "learning_rate": "0.01",
        "beta1": "0.8",
        "beta2": "0.99",
        "eps": "1e-7",
        "weight_decay": "0.01",
        "schedule": "one_cycle",
        "warmup_fraction": "0.2",
        "initial_fraction": "0.1",
        "final_fraction": "0.01",
        "warmup_steps": "2",
        "batch_size": "20",
        "sampling": "shuffled",
        "preprocessing": "mean_image",
        "precision": "float32",
        "backward": "autodiff",
    }
    switches = ["batch_invariant"]
    assert {*options, *switches} <= set(setting_names())
    flags = [part for n, v in options.items() for part in (f"--{n.replace('_', '-')}", v)]
    flags += [f"--{name.replace('_', '-')}" for name in switches]
    run = ["--steps", "3", "--train", "200", "--seed", "4", "--out", "run", "--quiet"]
    assert main(["train", "--hidden", "4", "3", *flags, *run]) == 0
    (row,) = read_csv(tmp_path / "run" / "results.csv")
    assert row["hidden"] == "4-3"
    assert row["seed"] == "4"
    for name, value in options.items():
        same = row[name] == value or float(row[name]) == float(value)
        assert same, (name, value, row[name])
    assert all(row[name] == "True" for name in switches)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "'batch_invariant': True" in str(config)
    network = Network.load(tmp_path / "run" / "best.safetensors")
    assert network.params["affine_1"]["w"].shape == (784, 4)
    out = capsys.readouterr().out
    assert "1 of 1" not in out
    assert "test accuracy of the best (id 0): 0." in out


def test_lr_is_short_for_the_learning_rate_and_no_hidden_layer_can_be_asked_for(tmp_path):
    run = ["--batch-size", "20", "--steps", "2", "--out", "run", "--quiet"]
    assert main(["train", "--hidden", "--lr", "0.25", *run]) == 0
    (row,) = read_csv(tmp_path / "run" / "results.csv")
    assert float(row["learning_rate"]) == 0.25
    assert Network.load(tmp_path / "run" / "best.safetensors").net.hidden == ()


@pytest.mark.parametrize(("epochs", "steps"), [("2", 20), ("0.5", 5), ("0.001", 1), ("1.26", 13)])
def test_epochs_are_counted_in_steps(monkeypatch, epochs, steps):
    """An epoch of 207 images in batches of 20 is 10 steps."""
    seen = []
    monkeypatch.setattr(
        "jaxnet.cli.commands._run", lambda job, settings, o: seen.append(o.steps) or 0
    )
    options = ["--train", "207", "--batch-size", "20"]
    assert main(["train", "--epochs", epochs, *options]) == 0
    assert seen == [steps]


def test_a_training_run_is_resumed_without_saying_it_again(tmp_path, monkeypatch):
    options = ["--hidden", "4", "--lr", "0.1", "--batch-size", "20", "--steps", "7", "--seed", "3"]
    assert main(["train", *options, "--out", "whole", "--quiet"]) == 0
    with monkeypatch.context() as patch:
        interrupted_after(patch, 0)
        assert main(["train", *options, "--out", "cut", "--quiet"]) == 130
    assert main(["train", "--resume", "--out", "cut", "--quiet"]) == 0
    tables = [(tmp_path / run / "results.csv").read_text() for run in ("whole", "cut")]
    assert tables[0] == tables[1]


# Predictions


def test_predict_on_the_data_of_the_run(finished, capsys):
    assert main(["predict", str(finished)]) == 0
    summary = json.loads((finished / "summary.json").read_text())
    expected = f"accuracy {summary['test_accuracy']:.4f} on 1000 images\n"
    assert capsys.readouterr() == (expected, "")
    assert main(["predict", str(finished), "--split", "train"]) == 0
    assert "on 2000 images" in capsys.readouterr().out
    weights = str(finished / "best.safetensors")
    assert main(["predict", weights, "--data", "fashion-mnist-mini"]) == 0
    assert capsys.readouterr().out == expected


def test_predictions_as_a_table(finished, tmp_path, capsys):
    assert main(["predict", str(finished), "--out", "predictions.csv"]) == 0
    data = load("fashion-mnist-mini")
    network = Network.load(finished / "best.safetensors")
    rows = read_csv(tmp_path / "predictions.csv")
    assert [row["row"] for row in rows] == [str(i) for i in range(1000)]
    names = data.class_names
    assert [row["label"] for row in rows] == [names[i] for i in data.test_labels]
    predicted = network.predict(data.test_images)
    assert [row["prediction"] for row in rows] == [names[i] for i in predicted]
    hits = np.mean([row["prediction"] == row["label"] for row in rows])
    assert f"accuracy {hits:.4f}" in capsys.readouterr().out


def test_predict_images_of_a_file(finished, tmp_path, capsys):
    images = load("fashion-mnist-mini").test_images[:5]
    np.save("images.npy", images)
    network = Network.load(finished / "best.safetensors")
    names = [network.class_names[i] for i in network.predict(images)]
    assert main(["predict", str(finished), "--images", "images.npy"]) == 0
    assert capsys.readouterr().out.splitlines() == names
    assert main(["predict", str(finished), "--images", "images.npy", "--out", "table.csv"]) == 0
    assert capsys.readouterr().out == ""
    rows = read_csv(tmp_path / "table.csv")
    assert [list(row) for row in rows] == [["row", "prediction"]] * 5
    assert [row["prediction"] for row in rows] == names


def test_predictions_that_cannot_be_made(finished, fails, tmp_path):
    run, weights = str(finished), str(finished / "best.safetensors")
    assert "--data NAME or --images FILE.npy" in fails("predict", weights)
    assert "unknown split 'tset': did you mean 'test'" in fails("predict", run, "--split", "tset")
    assert "did you mean 'fashion-mnist" in fails("predict", run, "--data", "fashion-mnst")
    assert "cannot read images from no.npy" in fails("predict", run, "--images", "no.npy")
    (tmp_path / "text.npy").write_text("no array")
    assert "cannot read images from text.npy" in fails("predict", run, "--images", "text.npy")
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "cannot read images from objects.npy" in fails("predict", run, "--images", "objects.npy")
    np.save("shape.npy", np.zeros((2, 28, 28), np.uint8))
    message = fails("predict", run, "--images", "shape.npy")
    assert "expected images of shape [n, 28, 28, 1], got [2, 28, 28]" in message
    np.save("one.npy", np.zeros((28, 28, 1), np.uint8))
    assert "expected images of shape" in fails("predict", run, "--images", "one.npy")
    (tmp_path / "cut.safetensors").write_bytes((finished / "best.safetensors").read_bytes()[:5000])
    message = fails("predict", "cut.safetensors", "--data", "fashion-mnist-mini")
    assert "cut.safetensors is not a whole safetensors file" in message
    assert "no weights at" in fails("predict", str(tmp_path))
    message = fails("predict", weights, "--images", "shape.npy", "--out", "gone/table.csv")
    assert "expected images" in message or "cannot write gone/table.csv" in message


def test_predictions_that_cannot_be_written(finished, tmp_path, capsys):
    np.save("images.npy", load("fashion-mnist-mini").test_images[:2])
    arguments = ["predict", str(finished), "--images", "images.npy", "--out", "gone/table.csv"]
    assert main(arguments) == 2
    _, err = capsys.readouterr()
    assert err.startswith("jaxnet: cannot write gone/table.csv: ")


@pytest.mark.parametrize("kind", ["archive", "texts", "NaN"])
def test_arrays_that_are_no_images(finished, fails, kind):
    images = load("fashion-mnist-mini").test_images[:2]
    if kind == "archive":
        np.savez("images.npz", images=images)
    with open(f"images.{'npz' if kind == 'archive' else 'npy'}", "ab") as file:
        if kind == "texts":
            np.save(file, images.astype(str))
        if kind == "NaN":
            np.save(file, np.full(images.shape, np.nan, np.float32))
    message = fails("predict", str(finished), "--images", file.name)
    assert "images" in message


# Data


def test_the_list_of_data_says_what_is_here(capsys):
    assert main(["data", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in ("fashion-mnist-mini", "fashion-mnist", "cifar10"):
        assert any(line.startswith(name + " ") for line in out.splitlines())
    assert "not here: jaxnet data fetch cifar10" in out
    assert "not here: jaxnet data fetch fashion-mnist-mini" not in out


def test_the_description_of_a_data_set(capsys):
    assert main(["data", "info", "fashion-mnist-mini"]) == 0
    out = capsys.readouterr().out
    data = load("fashion-mnist-mini")
    for text in ("2000", "1000", "(28, 28, 1)", "uint8", "Ankle boot", data.fingerprint, "MIT"):
        assert text in out


# Help


def test_help_loads_no_jax():
    """And nothing else that takes its time; one process for all commands."""
    script = """
import contextlib, io, sys
from jaxnet.cli.parser import main
for command in ([], ["sweep"], ["train"], ["predict"], ["data"], ["data", "list"]):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command, "--help"])
        raise AssertionError("--help did not exit")
    assert text.getvalue().startswith("usage: jaxnet"), text.getvalue()
slow = {"jax", "jaxlib", "numpy", "optax", "matplotlib", "rich", "safetensors", "pooch"}
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_the_help_names_every_preset_and_every_option(capsys):
    from jaxnet.sweeps import PRESETS

    with pytest.raises(SystemExit) as caught:
        main(["sweep", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in PRESETS)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in text for name in {*setting_names()} - {"model"})
