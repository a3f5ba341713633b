"""The learning-rate sweep of the net of convolutions: the source's recipe in Keras, and ours.

Both train on the first 1,000 embedded images of Fashion-MNIST, pixels from 0 to 1 and in a new
order each epoch, and judge on the next 1,000; Keras where it is installed. The seconds are those
of one run of 160 steps with its five evaluations: Keras's with its compilation, ours its share of
a sweep whose programs are compiled before.
"""

import dataclasses
import importlib.util
from typing import Any

import numpy as np

from jaxnet.data import load
from jaxnet.sweeps import Job, find_preset, grid
from jaxnet.verbs import run_job

SEEDS, EPOCHS, ROWS = 8, 5, 1000
SOURCE = {0.001: 0.718, 0.005: 0.741, 0.01: 0.724, 0.05: 0.646, 0.1: 0.325}


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a learning rate: validation accuracies, mean and deviation over seeds."""
    preset = find_preset("fashion-inception")
    seeds, rates = (2, [0.005]) if smoke else (SEEDS, list(SOURCE))
    job = dataclasses.replace(
        preset,
        space=grid(learning_rate=rates),
        replicates=seeds,
    )
    if smoke:
        job = dataclasses.replace(job, steps=4, evaluations=1)
    else:
        run_job(dataclasses.replace(job, steps=2, evaluations=1), load(job.data))  # compile
    return [
        {"learning rate": rate, "source, one run": SOURCE[rate], **ours, **keras}
        for rate, ours, keras in zip(
            rates, _jaxnet(job, rates), _keras(job, rates, seeds, smoke), strict=True
        )
    ]


def _jaxnet(job: Job, rates: list[float]) -> list[dict[str, Any]]:
    result = run_job(job, load(job.data))
    each = result.seconds / len(result.rows)
    found = {rate: [] for rate in rates}
    for row in result.rows:
        found[row.settings["learning_rate"]].append(row.outcome.val_accuracy)
    return [_row("jaxnet", found[rate], each) for rate in rates]


def _keras(job: Job, rates: list[float], seeds: int, smoke: bool) -> list[dict[str, Any]]:
    if importlib.util.find_spec("keras") is None:
        return [{"Keras": "not installed"} for _ in rates]
    from benchmarks.peers.keras_net import train_source_net

    data = load(job.data)
    rows = 64 if smoke else ROWS
    images = data.train_images[: 2 * rows].reshape(2 * rows, 28, 28, 1) / np.float32(255)
    labels = data.train_labels[: 2 * rows]
    judged = (images[rows:], labels[rows:])
    table = []
    for rate in rates:
        runs = [
            train_source_net(
                images[:rows],
                labels[:rows],
                judged,
                rate=rate,
                seed=seed,
                epochs=1 if smoke else EPOCHS,
            )
            for seed in range(seeds)
        ]
        accuracies, seconds = zip(*runs, strict=True)
        table.append(_row("Keras", accuracies, float(np.median(seconds))))
    return table


def _row(name: str, accuracies: Any, seconds: float) -> dict[str, Any]:
    return {
        name: float(np.mean(accuracies)),
        f"{name} deviation": float(np.std(accuracies, ddof=1)),
        f"{name} s a run": seconds,
    }
