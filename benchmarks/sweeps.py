"""A sweep by jaxnet and by what users would take instead, beside the machine's product rate.

Each trains the same networks: same weights to start from, minibatches, update rule and penalty, as
the trained weights show: a row whose update lies too far from float64's is not equal work and
counts as failed. The products do as many operations as the sweep's step has in its products, at the
shape of the first layer of all networks of a group.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.peers import MIXED, OURS, PEERS, REFERENCE, Peer, Trainer
from benchmarks.products import Product, dtype_of, products
from benchmarks.tasks import Task, Weights, judge, make_task, picture_like, rings
from benchmarks.timing import Timing, rounds, seconds
from jaxnet.sweeps import find_preset
from jaxnet.sweeps.machine.cost import step_flops
from jaxnet.training.settings import Configuration, configure

EXAMPLES, SMOKE = 5000, "cifar10-45"
STEPS = {"cifar10-45": 20, "cifar10-24": 10, "cifar10-144": 2}
"""Updates of each network in a timed call, within an epoch of EXAMPLES."""

GRID_ROUNDS = 3

TINY, MANY, TINY_STEPS, TINY_BATCH = 500, 10_000, 500, 32
TINY_ROUNDS = 3
ONE_BY_ONE = 4  # of the tiny networks, where they train one after the other

COLUMNS = (
    "networks",
    "configurations/s",
    "GFLOP/s",
    "of product",  # the fastest of its operands' dtype
    "jaxnet is",  # times faster, in float32
    "mixed is",
    "first s",
    "mean loss",
    "loss differs",
    "update differs",
    "equal work",
)


def measure_grid(grid: str, *, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a product and a way of training, for one of the CIFAR-10 presets."""
    if smoke and grid != SMOKE:
        return []  # the same code again
    images = picture_like(96 if smoke else 3072, 10, EXAMPLES)
    groups: dict[Any, list[Configuration]] = {}
    for given in find_preset(grid).configurations():
        configuration = _learning_fast(given)
        groups.setdefault(configuration.structure, []).append(configuration)
    few = [members[:2] for members in groups.values()][:1]
    steps = 2 if smoke else STEPS[grid]
    tasks = [make_task(g, images, steps) for g in (few if smoke else groups.values())]
    return measure_tasks(tasks, repeats=1 if smoke else GRID_ROUNDS)


def _learning_fast(configuration: Configuration) -> Configuration:
    """Return it with larger weights to start from: a few steps then change the loss."""
    structure = dataclasses.replace(configuration.structure, init="he")
    numbers = {**configuration.numbers, "init_scale": 0.5}
    return dataclasses.replace(configuration, structure=structure, numbers=numbers)


def measure_tiny(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a way of training nets of 2-32-2, batch 32; and one of jaxnet for more."""
    ours = [peer for peer in PEERS if peer.name == OURS]
    if smoke:
        return measure_tasks([_tiny(4, 5)], peers=ours, repeats=1, reference=None, ceiling=False)
    rows = measure_tasks(
        [_tiny(TINY, TINY_STEPS)], repeats=TINY_ROUNDS, most=ONE_BY_ONE, ceiling=False
    )
    many = measure_tasks(
        [_tiny(MANY, TINY_STEPS)],
        peers=[peer._replace(name=f"{peer.name}, {MANY:,}") for peer in ours],
        repeats=2,
        reference=None,
        ceiling=False,
    )
    return [*rows, *many]


def _tiny(count: int, steps: int) -> Task:
    rates = np.geomspace(1e-3, 1e-1, count).tolist()
    space = [
        configure(hidden=[32], learning_rate=rate, l2=1e-3, batch_size=TINY_BATCH) for rate in rates
    ]
    return make_task(space, rings(TINY_BATCH * TINY_STEPS), steps)


def measure_tasks(
    tasks: Sequence[Task],
    *,
    peers: Sequence[Peer] = PEERS,
    repeats: int,
    reference: str | None = REFERENCE,
    most: int | None = None,
    ceiling: bool = True,
) -> list[dict[str, Any]]:
    """Return one row a product and peer; updates are compared with those of the peer `reference`.

    `most` bounds the networks of those that train one after the other.
    """
    limits = _limits(tasks) if ceiling else {}
    first = {name: seconds(call) for name, call in limits.items()}
    training: dict[str, _Training] = {}
    failed: dict[str, str] = {}
    for peer in peers:
        if not peer.installed:
            failed[peer.name] = "not installed"
            continue
        own = [task if peer.together or most is None else task.first(most) for task in tasks]
        try:
            trained = _Training(peer, own)
            first[peer.name] = seconds(trained)
            training[peer.name] = trained
        except Exception as error:  # whatever it cannot do, its row says so and the others go on
            failed[peer.name] = f"{type(error).__name__}: {error}".splitlines()[0][:60]
    timings = rounds(limits | training, first, repeats)
    rows = [
        _row(f"product, {name}", {"GFLOP/s": limit.work / timings[name].median / 1e9})
        for name, limit in limits.items()
    ]
    for peer in peers:
        if peer.name in failed:
            rows.append(_row(peer.name, {"equal work": failed[peer.name]}))
            continue
        found = _speed(peer, training, limits, timings)
        if reference is not None:
            found |= _equality(peer, training[peer.name], training[reference])
        rows.append(_row(peer.name, found))
    return rows


def _speed(
    peer: Peer,
    training: Mapping[str, "_Training"],
    limits: Mapping[str, "_Products"],
    timings: Mapping[str, Timing],
) -> dict[str, Any]:
    its, timing = training[peer.name], timings[peer.name]
    found: dict[str, Any] = {
        "networks": its.networks,
        "configurations/s": its.networks / timing.median,
        "GFLOP/s": its.work / timing.median / 1e9,
        "first s": timing.first,
    }
    alike = [name for name in limits if dtype_of(name) == peer.operands]
    if alike:
        best = min(alike, key=lambda name: timings[name].median / limits[name].work)
        share = its.work / limits[best].work
        found["of product"] = share * timing.times_faster_than(timings[best])
    for column, name in (("jaxnet is", OURS), ("mixed is", MIXED)):
        if name in training:
            share = training[name].work / its.work
            found[column] = share * timings[name].times_faster_than(timing)
    return found


def _equality(peer: Peer, its: "_Training", reference: "_Training") -> dict[str, Any]:
    verdicts = [
        judge(task, mine, theirs)
        for task, mine, theirs in zip(its.tasks, its.found, reference.found, strict=True)
    ]
    error = max(verdict.update_error for verdict in verdicts)
    return {
        "mean loss": statistics.fmean(verdict.mean_loss for verdict in verdicts),
        "loss differs": max(verdict.loss_error for verdict in verdicts),
        "update differs": error,
        "equal work": "yes" if error <= peer.tolerance else "FAILED",
    }


class _Training:
    """A call that trains the networks of all tasks; `found` are their weights after the first."""

    def __init__(self, peer: Peer, tasks: Sequence[Task]):
        self.tasks = tasks
        self.trainers: list[Trainer] = [peer.make(task) for task in tasks]
        self.networks = sum(len(task.configurations) for task in tasks)
        self.work = sum(task.steps * _flops(task) for task in tasks)
        self.found: list[list[Weights]] = []

    def __call__(self) -> object:
        left = [trainer.run() for trainer in self.trainers]
        if not self.found:
            jax.block_until_ready(left)
            self.found = [trainer.weights() for trainer in self.trainers]
        return left


def _row(what: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"what": what, **{name: found.get(name) for name in COLUMNS}}


def _flops(task: Task) -> float:
    """Return the operations in the products of one step of all networks."""
    each = step_flops(task.configurations[0].structure, task.images.shapes)
    return each * len(task.configurations)


class _Products:
    """A call that makes products; `work` are their operations."""

    def __init__(self) -> None:
        self.calls: list[Product] = []
        self.work = 0.0

    def __call__(self) -> object:
        return [call() for call in self.calls]


def _limits(tasks: Sequence[Task]) -> dict[str, _Products]:
    """Return about as many operations as all tasks have, in products at their first layers."""
    limits: dict[str, _Products] = {}
    for task in tasks:
        features, width = task.start[0][0].shape
        batch, columns = task.rows.shape[1], len(task.configurations) * width
        each = 2.0 * batch * features * columns
        count = max(1, round(task.steps * _flops(task) / each))
        for name, product in products(batch, features, columns).items():
            if dtype_of(name) != "float64":
                limit = limits.setdefault(name, _Products())
                limit.calls += [product] * count
                limit.work += count * each
    return limits
