"""The command line: parse, call the library, print. `jaxnet COMMAND --help` loads no JAX.

Exit codes: 0 done; 2 an input that cannot be; 130 interrupted.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnet.errors import ConfigurationError, JaxnetError

if TYPE_CHECKING:
    from jaxnet.sweeps import Job

# The options of `jaxnet train`: every setting of a run but its seed. Names and numbers are checked
# by `jaxnet.configure`; here stands only what --help says.
TRAIN_OPTIONS: dict[str, tuple[type, str]] = {
    "architecture": (str, "fully_connected, or inception_resnet, a net of convolutions"),
    "activation": (str, "relu, leaky_relu, tanh, sigmoid or gelu"),
    "norm": (str, "none, batch or layer"),
    "dropout": (float, "probability to drop a hidden unit"),
    "loss": (str, "softmax, svm or squared_error"),
    "flip": (float, "of inception_resnet: probability to mirror a training image"),
    "shift": (float, "of inception_resnet: most pixels to shift a training image by"),
    "label_smoothing": (float, "share of the target spread over all classes"),
    "l2": (float, "strength of the L2 penalty on weights"),
    "clip_norm": (float, "largest norm of a gradient, 0 for any"),
    "l2_convention": (str, "half: l2/2·Σ‖W‖², or full: l2·Σ‖W‖²"),
    "init": (str, "he, glorot, lecun, or normal (deviation init_scale)"),
    "init_scale": (float, "factor on the initial weights"),
    "optimizer": (str, "sgd, momentum, nesterov, rmsprop, adam, adamw or adagrad"),
    "learning_rate": (float, "learning rate; also --lr"),
    "momentum": (float, "of momentum and nesterov"),
    "rms_decay": (float, "of rmsprop"),
    "beta1": (float, "of adam and adamw"),
    "beta2": (float, "of adam and adamw"),
    "eps": (float, "of rmsprop, adam, adamw and adagrad"),
    "weight_decay": (float, "of adamw"),
    "schedule": (str, "constant, exponential, step, cosine or one_cycle"),
    "decay": (float, "factor of exponential (each epoch) and step"),
    "epochs_per_drop": (float, "of step"),
    "warmup_fraction": (float, "of one_cycle"),
    "initial_fraction": (float, "of one_cycle"),
    "final_fraction": (float, "of cosine and one_cycle"),
    "warmup_steps": (float, "linear warm-up before any schedule"),
    "batch_size": (int, "images of a minibatch"),
    "sampling": (str, "with_replacement, or shuffled: every image once an epoch"),
    "preprocessing": (str, "none, unit_range, mean_image, standardize, pca or zca"),
    "components": (int, "of pca: how many"),
    "variance": (float, "of pca: the share of variance kept"),
    "precision": (str, "float32, tf32, mixed or float64"),
    "backward": (str, "manual (our backward passes) or autodiff"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except JaxnetError as error:
        print(f"jaxnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("jaxnet: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jaxnet", description="Train whole grids of fully-connected networks at once."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sweep = commands.add_parser(
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
    sweep.set_defaults(run=_sweep)

    train = commands.add_parser("train", help="train one network")
    train.add_argument(
        "--hidden", type=int, nargs="*", metavar="WIDTH", help="widths of the hidden layers"
    )
    for name, (kind, text) in TRAIN_OPTIONS.items():
        flags = [f"--{name.replace('_', '-')}"] + (["--lr"] if name == "learning_rate" else [])
        train.add_argument(*flags, type=kind, dest=name, help=text)
    train.add_argument("--epochs", type=float, help="train this many epochs instead of --steps")
    _add_run_options(train)
    train.set_defaults(run=_train)

    report = commands.add_parser("report", help="write the report of a run, or of several")
    report.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to write it (default: report.html in the run's folder; of several, here)",
    )
    report.set_defaults(run=_report)

    diagnosis = commands.add_parser("diagnose", help="say what is wrong with a run")
    diagnosis.add_argument("folder", type=Path, metavar="RUN", help="a run folder")
    diagnosis.set_defaults(run=_diagnose)

    predict = commands.add_parser("predict", help="classify images with saved weights")
    predict.add_argument("weights", type=Path, help="a run folder, or its best.safetensors")
    predict.add_argument(
        "--id", type=int, help="of a run folder, the network of this configuration, if it was kept"
    )
    predict.add_argument("--data", help="a data set (default: the one of the run)")
    predict.add_argument("--split", default="test", help="test or train (default: test)")
    predict.add_argument("--images", type=Path, help="a .npy file of images instead of --data")
    predict.add_argument("--out", type=Path, help="write the predictions as CSV")
    _add_data_directory(predict)
    predict.set_defaults(run=_predict)

    data = commands.add_parser("data", help="the data sets: list, fetch, info")
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is known and what is here")
    fetch = actions.add_parser("fetch", help="download a data set into the data directory")
    info = actions.add_parser("info", help="describe a data set that is here")
    for action in (fetch, info):
        action.add_argument("name")
    for action, run in ((listing, _data_list), (fetch, _data_fetch), (info, _data_info)):
        _add_data_directory(action)
        action.set_defaults(run=run)

    gradcheck = commands.add_parser(
        "gradcheck",
        help="prove every gradient of jaxnet, or check one of yours",
        description="Without MODULE:FUNCTION: every layer, loss, net and update rule of jaxnet. "
        "Exit code 0 if all hold, 1 if not.",
    )
    gradcheck.add_argument("function", nargs="?", metavar="MODULE:FUNCTION", help="check this one")
    gradcheck.add_argument(
        "--args",
        metavar="SPEC",
        help='its arguments, such as "x=f64[3,4] y=i32[3]<10 key rate=0.5": random floats, '
        "integers below 10, a random key, a number (default: what the module's check_args() "
        "returns, a tuple, or a dict with args and options of check_grads)",
    )
    gradcheck.add_argument("--only", metavar="PATTERN", help="only rows of the table with this")
    gradcheck.add_argument("--seed", type=int, default=0, help="of arguments and directions")
    gradcheck.add_argument("--json", type=Path, metavar="FILE", help="write all reports as JSON")
    gradcheck.set_defaults(run=_gradcheck)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", help="fashion-mnist-mini (embedded), fashion-mnist or cifar10")
    parser.add_argument("--steps", type=int, help="updates of each network")
    parser.add_argument("--seed", type=int, help="of weights, minibatches and random spaces")
    parser.add_argument("--validation", type=int, help="training images held out to judge by")
    parser.add_argument("--train", type=int, help="training images to use (default: all others)")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/COMMAND-NNN)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, whatever it was"
    )
    parser.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="stop a network whose validation accuracy has not risen for N evaluations",
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


def _add_data_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, help="where the data are (default: JAXNET_DATA_DIR, else a cache)"
    )


def _sweep(options: argparse.Namespace) -> int:
    from jaxnet.sweeps import find_preset, read_job
    from jaxnet.sweeps.devices import cpu_devices
    from jaxnet.sweeps.folder import CONFIG, read_config

    if options.on is None:
        cpu_devices(options.devices)  # before anything is computed
    else:
        _check_cluster(options)
    if options.job is not None and options.preset is not None:
        raise ConfigurationError("give a job file or --preset, not both")
    if options.job is not None:
        job = read_job(options.job)
    elif options.preset is None and options.resume:
        read_config(_out(options))
        job = read_job(options.out / CONFIG)
    else:
        job = find_preset(options.preset or "default")
    given = dict(_setting(text) for text in options.set)
    return _run(job, given, options)


def _check_cluster(options: argparse.Namespace) -> None:
    """Take in which cluster to train on; this process then computes on its CPU only."""
    import dataclasses

    import jax

    from jaxnet.sweeps.cluster import ray_from

    if options.plan:
        raise ConfigurationError("--plan tells of this process: leave out --on")
    cluster = ray_from(options.on)
    assert cluster is not None
    options.cluster = dataclasses.replace(cluster, cpus=options.task_cpus, gpus=options.task_gpus)
    jax.config.update("jax_platforms", "cpu")  # the GPUs are for the tasks


def _train(options: argparse.Namespace) -> int:
    from jaxnet.sweeps import Job, read_job
    from jaxnet.sweeps.folder import CONFIG, read_config
    from jaxnet.sweeps.space import Listed

    names = ["hidden", *TRAIN_OPTIONS]
    given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    if options.resume and not given:
        read_config(_out(options))
        job = read_job(options.out / CONFIG)
    else:
        job = Job(Listed([given]))
    if options.epochs is not None:
        if options.steps is not None:
            raise ConfigurationError("give --steps or --epochs, not both")
        options.steps = _steps_of(options.epochs, job, options)
    return _run(job, {}, options)


def _steps_of(epochs: float, job: Job, options: argparse.Namespace) -> int:
    from jaxnet.data import load

    if not 0 < epochs < float("inf"):
        raise ConfigurationError(f"--epochs: expected a number above 0, got {epochs}")
    job = _overridden(job, {}, options)
    examples = len(job.split(load(job.data, data_dir=options.data_dir)).train)
    batch_size = job.configurations()[0].structure.batch_size
    return max(1, round(epochs * max(1, examples // batch_size)))


def _overridden(job: Job, settings: dict[str, Any], options: argparse.Namespace) -> Job:
    import dataclasses

    from jaxnet.sweeps.halving import ALL, Halving
    from jaxnet.sweeps.job import WHOLE

    given = {
        name: value
        for name in ("data", *WHOLE)
        if (value := getattr(options, name, None)) is not None
    }
    halving, hyperband = (getattr(options, name, None) for name in ("halving", "hyperband"))
    if halving is not None and hyperband is not None:
        raise ConfigurationError("give --halving or --hyperband, not both")
    if halving is not None:
        given["halving"] = Halving(halving)
    if hyperband is not None:
        given["halving"] = Halving(hyperband, brackets=ALL)
    return dataclasses.replace(job, settings={**job.settings, **settings}, **given)


def _run(job: Job, settings: dict[str, Any], options: argparse.Namespace) -> int:
    """Run a job into its folder and print what came out."""
    from jaxnet.data import load
    from jaxnet.sweeps import run_job
    from jaxnet.sweeps.folder import next_run_folder
    from jaxnet.tables import print_result

    job = _overridden(job, settings, options)
    if getattr(options, "plan", False):
        from jaxnet.sweeps import plan_job
        from jaxnet.sweeps.estimate import describe
        from jaxnet.sweeps.trial import try_job

        data = load(job.data, data_dir=options.data_dir)
        given = {"memory": options.memory, "devices": options.devices}
        found, trial = plan_job(job, data, **given), None
        if options.trial is not None:
            trial = try_job(job, data, found, options.trial, **given)
        print(found, describe(found, trial), sep="\n\n")
        return 0
    if getattr(options, "trial", None) is not None:
        raise ConfigurationError("--trial is a part of --plan: give both, or neither")
    count = len(job.configurations())  # an error in them comes before the data are read
    out = _out(options) if options.resume else options.out or next_run_folder(options.command)
    try:
        data = load(job.data, data_dir=options.data_dir)
        result = run_job(
            job,
            data,
            out=out,
            progress=not options.quiet,
            memory=options.memory,
            keep=options.keep,
            select=getattr(options, "select", "mean"),
            devices=getattr(options, "devices", None),
            on=getattr(options, "cluster", None),
        )
    except KeyboardInterrupt:
        if not (out / "config.json").exists():
            raise
        words = ["jaxnet", options.command, "--resume", "--out", str(out)]
        if options.data_dir is not None:
            words += ["--data-dir", str(options.data_dir)]
        print(
            f"jaxnet: interrupted; what finished is kept in {out}. Go on with: {shlex.join(words)}",
            file=sys.stderr,
        )
        return 130
    print_result(result, count)
    return 0


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


def _out(options: argparse.Namespace) -> Path:
    if options.out is None:
        raise ConfigurationError("--resume needs --out FOLDER: the run to go on with")
    return options.out


def _setting(text: str) -> tuple[str, Any]:
    import tomllib

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--set expects NAME=VALUE, got {text!r}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value  # a bare word


def _report(options: argparse.Namespace) -> int:
    from jaxnet.report import write_report

    print(write_report(options.runs, options.out))
    return 0


def _diagnose(options: argparse.Namespace) -> int:
    from jaxnet.diagnosis import diagnose

    print(diagnose(options.folder))
    return 0


def _predict(options: argparse.Namespace) -> int:
    import numpy as np

    from jaxnet.errors import unknown
    from jaxnet.network import Network
    from jaxnet.sweeps.folder import read_config

    folder = options.weights.is_dir()
    if options.id is not None:
        from jaxnet.sweeps.run import kept_network

        network = kept_network(options.weights, options.id)
    else:
        network = Network.load(options.weights / "best.safetensors" if folder else options.weights)
    labels = None
    if options.images is not None:
        from jaxnet.data.npy import read_npy

        images = read_npy(options.images)
    else:
        from jaxnet.data import load

        if options.split not in ("test", "train"):
            raise ConfigurationError(unknown("split", options.split, ("test", "train")))
        name = options.data
        if name is None:
            if not folder:
                raise ConfigurationError("say what to classify: --data NAME or --images FILE.npy")
            name = read_config(options.weights)["data"]["name"]
        data = load(name, data_dir=options.data_dir)
        test = options.split == "test"
        images = data.test_images if test else data.train_images
        labels = data.test_labels if test else data.train_labels
    predicted = network.predict(images)
    if labels is not None:
        print(f"accuracy {np.mean(predicted == labels):.4f} on {len(labels)} images")
    if options.out is not None:
        _write_predictions(options.out, predicted, labels, network.class_names)
    elif labels is None:
        for number in predicted.tolist():
            print(network.class_names[number])
    return 0


def _write_predictions(path: Path, predicted: Any, labels: Any, names: Sequence[str]) -> None:
    import csv

    from jaxnet.errors import RunFolderError

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "prediction", *(["label"] if labels is not None else [])])
            for row, number in enumerate(predicted.tolist()):
                label = [names[labels[row]]] if labels is not None else []
                writer.writerow([row, names[number], *label])
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}") from error


def _data_list(options: argparse.Namespace) -> int:
    from jaxnet.data import available

    for name, summary, place in available(options.data_dir):
        print(f"{name:20} {summary}\n{'':20} {place or 'not here: jaxnet data fetch ' + name}")
    return 0


def _data_fetch(options: argparse.Namespace) -> int:
    from jaxnet.data import fetch

    print(fetch(options.name, data_dir=options.data_dir, progress=True))
    return 0


def _data_info(options: argparse.Namespace) -> int:
    from jaxnet.data import describe

    for name, value in describe(options.name, options.data_dir).items():
        print(f"{name:14} {value}")
    return 0


def _gradcheck(options: argparse.Namespace) -> int:
    from jaxnet.gradcheck.command import check_function, prove

    if options.seed < 0:
        raise ConfigurationError(f"--seed expects a number from 0, got {options.seed}")
    if options.function is None:
        if options.args is not None:
            raise ConfigurationError("--args belongs to a function: give MODULE:FUNCTION too")
        return prove(only=options.only, seed=options.seed, json_file=options.json)
    if options.only is not None:
        raise ConfigurationError("--only selects rows of jaxnet's own table: leave it out")
    return check_function(
        options.function, spec=options.args, seed=options.seed, json_file=options.json
    )
