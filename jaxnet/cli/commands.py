"""The commands: call the library, print, return the exit code. Each imports what it uses alone."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnet.errors import ConfigurationError

if TYPE_CHECKING:
    from jaxnet.sweeps import Job


def sweep(options: Namespace) -> int:
    """Train what a job file or a preset says."""
    from jaxnet.sweeps import find_preset, read_job
    from jaxnet.sweeps.folder.folder import CONFIG, read_config
    from jaxnet.sweeps.machine.devices import cpu_devices

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
    given = dict(_setting(text, "--set") for text in options.set)
    return _run(job, given, options)


def _check_cluster(options: Namespace) -> None:
    """Take in which cluster to train on; this process then computes on its CPU only."""
    import dataclasses

    import jax

    from jaxnet.sweeps.run.cluster import ray_from

    if options.plan:
        raise ConfigurationError("--plan tells of this process: leave out --on")
    cluster = ray_from(options.on)
    assert cluster is not None
    options.cluster = dataclasses.replace(cluster, cpus=options.task_cpus, gpus=options.task_gpus)
    jax.config.update("jax_platforms", "cpu")  # the GPUs are for the tasks


def train(options: Namespace) -> int:
    """Train one network."""
    from jaxnet.sweeps import Job, read_job
    from jaxnet.sweeps.folder.folder import CONFIG, read_config
    from jaxnet.sweeps.space.space import Listed

    given = {n: value for n in options.settings if (value := getattr(options, n)) is not None}
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


def _steps_of(epochs: float, job: Job, options: Namespace) -> int:
    from jaxnet.data import load

    if not 0 < epochs < float("inf"):
        raise ConfigurationError(f"--epochs: expected a number above 0, got {epochs}")
    job = _overridden(job, {}, options)
    examples, _ = job.sizes(load(job.data, data_dir=options.data_dir))
    batch_size = job.configurations()[0].structure.batch_size
    return max(1, round(epochs * max(1, examples // batch_size)))


def _overridden(job: Job, settings: dict[str, Any], options: Namespace) -> Job:
    import dataclasses

    from jaxnet.sweeps.space.halving import ALL, Halving
    from jaxnet.sweeps.space.job import WHOLE
    from jaxnet.sweeps.space.stopping import stopping_from

    given = {
        name: value
        for name in ("data", "split", *WHOLE)
        if (value := getattr(options, name, None)) is not None
    }
    halving, hyperband = (getattr(options, name, None) for name in ("halving", "hyperband"))
    if halving is not None and hyperband is not None:
        raise ConfigurationError("give --halving or --hyperband, not both")
    if halving is not None:
        given["halving"] = Halving(halving)
    if hyperband is not None:
        given["halving"] = Halving(hyperband, brackets=ALL)
    if options.stop is not None:
        given["stop"] = stopping_from(dict([_setting(options.stop, "--stop")]))
    return dataclasses.replace(job, settings={**job.settings, **settings}, **given)


def _run(job: Job, settings: dict[str, Any], options: Namespace) -> int:
    """Run a job into its folder and print what came out."""
    from jaxnet.cli.tables import print_result
    from jaxnet.data import load
    from jaxnet.sweeps.folder.folder import folder_beside, next_run_folder
    from jaxnet.verbs import run_job

    job = _overridden(job, settings, options)
    if getattr(options, "plan", False):
        from jaxnet.cli.estimate import describe, dry_run
        from jaxnet.sweeps import plan_job

        data = load(job.data, data_dir=options.data_dir)
        given = {"memory": options.memory, "devices": options.devices}
        found, rehearsal = plan_job(job, data, **given), None
        if options.trial is not None:
            rehearsal = dry_run(job, data, found, options.trial, **given)
        print(found, describe(found, rehearsal), sep="\n\n")
        return 0
    if getattr(options, "trial", None) is not None:
        raise ConfigurationError("--trial is a part of --plan: give both, or neither")
    count = len(job.configurations())  # an error in them comes before the data are read
    out = _out(options) if options.resume else options.out or next_run_folder(options.command)
    try:
        data = load(job.data, data_dir=options.data_dir)
        if options.beside:
            out = folder_beside(out, job, data)
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


def _out(options: Namespace) -> Path:
    if options.out is None:
        raise ConfigurationError("--resume needs --out FOLDER: the run to go on with")
    return options.out


def _setting(text: str, option: str) -> tuple[str, Any]:
    import tomllib

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"{option} expects NAME=VALUE, got {text!r}")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value  # a bare word


def report(options: Namespace) -> int:
    """Write the report of runs."""
    from jaxnet.report import write_report

    print(write_report(options.runs, options.out))
    return 0


def diagnose(options: Namespace) -> int:
    """Print what is wrong with a run."""
    from jaxnet.diagnosis import diagnose

    print(diagnose(options.folder))
    return 0


def predict(options: Namespace) -> int:
    """Classify images; print the accuracy, or the classes."""
    import numpy as np

    from jaxnet.errors import unknown
    from jaxnet.sweeps.folder.folder import read_config
    from jaxnet.training.network import Network

    folder = options.weights.is_dir()
    if options.id is not None:
        from jaxnet.sweeps.run.run import kept_network

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


def data_list(options: Namespace) -> int:
    """Print what is known and what is here."""
    from jaxnet.data import available

    for name, summary, place in available(options.data_dir):
        print(f"{name:20} {summary}\n{'':20} {place or 'not here: jaxnet data fetch ' + name}")
    return 0


def data_fetch(options: Namespace) -> int:
    """Download a data set."""
    from jaxnet.data import fetch

    print(fetch(options.name, data_dir=options.data_dir, progress=True))
    return 0


def data_info(options: Namespace) -> int:
    """Describe a data set that is here."""
    from jaxnet.data import describe

    for name, value in describe(options.name, options.data_dir).items():
        print(f"{name:14} {value}")
    return 0


def gradcheck(options: Namespace) -> int:
    """Prove jaxnet's gradients, or check a function of the user's."""
    from jaxnet.gradcheck.cli.command import check_functions, prove

    if options.seed < 0:
        raise ConfigurationError(f"--seed expects a number from 0, got {options.seed}")
    by_hand = {name: getattr(options, name) for name in ("grad", "backward", "reference")}
    if options.function is None:
        for name, value in {"args": options.args, **by_hand}.items():
            if value is not None:
                raise ConfigurationError(f"--{name} belongs to a function: give MODULE:FUNCTION")
        return prove(only=options.only, seed=options.seed, json_file=options.json)
    if options.only is not None:
        raise ConfigurationError("--only selects rows of jaxnet's own table: leave it out")
    return check_functions(
        options.function,
        args=options.args,
        by_hand=by_hand,
        seed=options.seed,
        json_file=options.json,
    )
