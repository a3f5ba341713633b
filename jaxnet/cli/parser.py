"""The command line: what it takes. `jaxnet COMMAND --help` loads no JAX.

Exit codes: 0 done; 2 an input that cannot be; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnet.cli import commands
from jaxnet.errors import DataWarning, JaxnetError
from jaxnet.host.terminal import plain_output

# The settings of a run but its seed: name, kind and help. `settings_page` writes them from the
# table, which this module cannot read: it loads JAX.
TRAIN_OPTIONS = Path(__file__).with_name("train_options.json")
KINDS: dict[str, dict[str, Any]] = {
    "str": {"type": str},
    "float": {"type": float},
    "int": {"type": int},
    "tuple": {"type": int, "nargs": "*", "metavar": "WIDTH"},
    # A switch that is not given leaves the default to `configure`, as other options do.
    "bool": {"action": "store_const", "const": True},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    plain_output()
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DataWarning)
            warnings.showwarning = _show_warning
            return options.run(options)
    except JaxnetError as error:
        print(f"jaxnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxnet: interrupted", file=sys.stderr)
        return 130


def _show_warning(message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Print a warning of ours in one line, others as Python does."""
    text = warnings.formatwarning(message, category, *where[:2])
    print(f"jaxnet: {message}" if category is DataWarning else text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxnet", description="Train whole grids of fully-connected networks at once."
    )
    kinds = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sweep = kinds.add_parser(
        "sweep",
        help="train every configuration of a space and rank them",
        description="Without arguments: the course's 144 configurations on the embedded images.",
    )
    sweep.add_argument("job", nargs="?", type=Path, help="a TOML file, or a config.json of a run")
    sweep.add_argument(
        "--preset",
        help="default, cifar10-144, cifar10-45, cifar10-24, cifar10-first, fashion-inception or "
        "fashion-inception-better",
    )
    sweep.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting for all configurations, such as optimizer=adam; may be repeated",
    )
    sweep.add_argument(
        "--plan", action="store_true", help="print what would be trained together, and stop"
    )
    sweep.add_argument(
        "--trial",
        type=int,
        metavar="STEPS",
        help="with --plan: train all for so many steps, to count what diverges out of the time",
    )
    sweep.add_argument(
        "--replicates", type=int, metavar="N", help="train each configuration with N seeds"
    )
    sweep.add_argument(
        "--select", default="mean", help="rank settings by the mean or the median over seeds"
    )
    sweep.add_argument(
        "--halving",
        type=float,
        metavar="ETA",
        help="train all a little, then the best 1/ETA for ETA times as long, and so on",
    )
    sweep.add_argument(
        "--hyperband", type=float, metavar="ETA", help="halving in brackets that begin later"
    )
    sweep.add_argument(
        "--devices",
        type=int,
        metavar="N",
        help="divide the networks among N devices of this process (default: all accelerators; CPU "
        "devices, of which there is one a core, only where that is faster)",
    )
    sweep.add_argument(
        "--on",
        metavar="CLUSTER",
        help="train on a Ray cluster: ray (RAY_ADDRESS, one that runs here, or a new one on this "
        "machine) or ray://HOST:PORT; needs jaxnet[ray]",
    )
    sweep.add_argument(
        "--task-cpus", type=int, default=1, metavar="N", help="cores of each task of --on"
    )
    sweep.add_argument(
        "--task-gpus",
        type=int,
        metavar="N",
        help="GPUs of each task of --on (default: 1 if the cluster has any)",
    )
    _add_run_options(sweep)
    sweep.set_defaults(run=commands.sweep)

    train = kinds.add_parser("train", help="train one network")
    rows = json.loads(TRAIN_OPTIONS.read_text(encoding="utf-8"))
    for name, kind, text in rows:
        flags = [f"--{name.replace('_', '-')}"] + (["--lr"] if name == "learning_rate" else [])
        train.add_argument(*flags, dest=name, help=text, **KINDS[kind])
    train.add_argument("--epochs", type=float, help="train this many epochs instead of --steps")
    _add_run_options(train)
    train.set_defaults(run=commands.train, settings=[name for name, *_ in rows])

    report = kinds.add_parser("report", help="write the report of a run, or of several")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write it (default: report.html in the run's folder; of several, here)",
    )
    report.set_defaults(run=commands.report)

    diagnosis = kinds.add_parser("diagnose", help="say what is wrong with a run")
    diagnosis.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    diagnosis.set_defaults(run=commands.diagnose)

    predict = kinds.add_parser("predict", help="classify images with saved weights")
    predict.add_argument("weights", type=Path, help="a run folder, or its best.safetensors")
    predict.add_argument(
        "--id", type=int, help="of a run folder, the network of this configuration, if it was kept"
    )
    predict.add_argument("--data", help="a data set (default: the one of the run)")
    predict.add_argument("--split", default="test", help="test or train (default: test)")
    predict.add_argument("--images", type=Path, help="a .npy file of images instead of --data")
    predict.add_argument("--out", type=Path, help="write the predictions as CSV")
    _add_data_directory(predict)
    predict.set_defaults(run=commands.predict)

    data = kinds.add_parser("data", help="the data sets: list, fetch, info")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is known and what is here")
    fetch = actions.add_parser("fetch", help="download a data set into the data directory")
    info = actions.add_parser("info", help="describe a data set that is here")
    for action in (fetch, info):
        action.add_argument("name")
    for action, run in (
        (listing, commands.data_list),
        (fetch, commands.data_fetch),
        (info, commands.data_info),
    ):
        _add_data_directory(action)
        action.set_defaults(run=run)

    gradcheck = kinds.add_parser(
        "gradcheck",
        help="prove every gradient of jaxnet, or check one of yours",
        description="Without a function: every layer, loss, net and update rule of jaxnet. "
        "Exit code 0 if all hold, 1 if not.",
    )
    gradcheck.add_argument(
        "function",
        nargs="?",
        metavar="MODULE:FUNCTION",
        help="check this one, several as MODULE:FUNCTION,FUNCTION, or MODULE alone for all that "
        "its check_args() has arguments for, a dict by function",
    )
    for option, what in (
        ("grad", "its gradient by hand, of a scalar function"),
        ("backward", "its backward pass by hand, where it returns (out, cache)"),
        ("reference", "a plain function of the same values, for a custom rule"),
    ):
        gradcheck.add_argument(f"--{option}", metavar="[MODULE:]NAME", help=what)
    gradcheck.add_argument(
        "--args",
        metavar="SPEC",
        help='its arguments, such as "x=f64[3,4] y=i32[3]<10 key rate=0.5": random floats, '
        "integers below 10, a random key, a number; or a tuple such as '([0.5, 2.0], 3)'; or "
        "MODULE:NAME of a tuple or of a function that returns one (default: what the module's "
        "check_args() returns, a tuple, or a dict with args and options of check_grads)",
    )
    gradcheck.add_argument("--only", metavar="PATTERN", help="only rows of the table with this")
    gradcheck.add_argument("--seed", type=int, default=0, help="of arguments and directions")
    gradcheck.add_argument("--json", type=Path, metavar="FILE", help="write all reports as JSON")
    gradcheck.set_defaults(run=commands.gradcheck)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="fashion-mnist-mini (embedded), fashion-mnist or cifar10")
    parser.add_argument("--steps", type=int, help="updates of each network")
    parser.add_argument("--seed", type=int, help="of weights, minibatches and random spaces")
    parser.add_argument("--validation", type=int, help="training images held out to judge by")
    parser.add_argument("--train", type=int, help="training images to use (default: all others)")
    parser.add_argument(
        "--split", help="which images are held out: stratified, drawn by class, or tail, the last"
    )
    parser.add_argument("--split-seed", type=int, help="of the draw of --split stratified")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/COMMAND-NNN)")
    parser.add_argument(
        "--beside",
        action="store_true",
        help="where --out holds another run, use FOLDER-2, FOLDER-3, ...: the first that is free, "
        "or that this run extends",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, whatever it was"
    )
    parser.add_argument(
        "--stop",
        action=_Stop,
        metavar="RULE=VALUE",
        help="stop a network by its validation accuracies, such as patience=4: when they have not "
        "risen for 4 evaluations; --stop help lists the rules",
    )
    parser.add_argument("--evaluations", type=int, help="how many, evenly over the steps")
    parser.add_argument("--history", type=int, help="most losses kept of a network")
    parser.add_argument(
        "--keep", type=_count, default=1, help="networks of how many settings to keep, or all"
    )
    parser.add_argument(
        "--memory",
        type=_bytes,
        metavar="SIZE",
        help="for what trains together, such as 500MB or 4GiB (default: a quarter of the host's, "
        "half of an accelerator's)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    _add_data_directory(parser)


class _Stop(argparse.Action):
    """Take a stopping rule; for `help`, print all rules and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == "help":
            from jaxnet.sweeps.space.stopping import stopping_help

            print(stopping_help())
            parser.exit()
        setattr(namespace, self.dest, values)


def _add_data_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, help="where the data are (default: JAXNET_DATA_DIR, else a cache)"
    )


_UNITS = {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(text: str) -> float:
    number = text.upper().rstrip("KMGIB")
    unit = text.upper()[len(number) :] or "B"
    try:
        size = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        size = 0.0
    if not 0 < size < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a size such as 500MB or 4GiB, got {text!r}")
    return size


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 up, or all, got {text!r}")
    return int(text)
