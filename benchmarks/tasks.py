"""What jaxnet and its peers are given alike, and whether they then did the same.

A task is K networks of one shape on one stream of minibatches: the same images, already
preprocessed for who wants them so, the same rows at each step, the same weights to start from, the
same update rule and penalty. `judge` looks at the weights that came out.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.training.layout import take_member
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.numerics import numerics
from jaxnet.training.program import Program
from jaxnet.training.settings import Configuration, Shapes
from jaxnet.training.step import DeviceData

Weights = list[tuple[np.ndarray, np.ndarray]]  # of each affine layer: w [inputs, outputs], b

JUDGED = 256
"""Examples of which the final loss is taken."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled rows of features: as they lie on disk, and preprocessed."""

    raw: np.ndarray  # [examples, features], uint8 or float32
    labels: np.ndarray  # [examples], int32
    mean: np.ndarray | None  # [features], float32
    scale: np.ndarray | None
    classes: int

    @property
    def shapes(self) -> Shapes:
        """Return what a network for them is built for."""
        return Shapes(self.raw.shape[1:], self.classes)

    @functools.cached_property
    def inputs(self) -> np.ndarray:
        """Return (raw − mean)·scale in float32: what peers are given, at no cost to them."""
        x = self.raw.astype(np.float32)
        x = x if self.mean is None else x - self.mean
        return x if self.scale is None else x * self.scale

    @functools.cached_property
    def inputs64(self) -> np.ndarray:
        """Return the same in float64, as the course loads images."""
        return self.inputs.astype(np.float64)

    @functools.cached_property
    def on_device(self) -> DeviceData:
        """Return what jaxnet trains on: it preprocesses the rows of each minibatch."""
        mean = None if self.mean is None else jnp.asarray(self.mean)
        scale = None if self.scale is None else jnp.asarray(self.scale)
        return DeviceData(jnp.asarray(self.raw), jnp.asarray(self.labels), mean, scale)


class Task(NamedTuple):
    """K networks that differ in learning rate and penalty."""

    configurations: Sequence[Configuration]
    images: Images
    rows: np.ndarray  # [steps, batch]
    start: Weights  # of every network: they share a seed

    @property
    def rates(self) -> np.ndarray:
        """Return the learning rate of each network, float32."""
        return self._numbers("learning_rate")

    @property
    def l2(self) -> np.ndarray:
        """Return the penalty ½·l2·Σ‖W‖² of each network, float32."""
        return self._numbers("l2")

    def _numbers(self, name: str) -> np.ndarray:
        return np.asarray([c.numbers[name] for c in self.configurations], np.float32)

    @property
    def steps(self) -> int:
        """Return how many updates each network makes."""
        return len(self.rows)

    @property
    def rule(self) -> str:
        """Return the update rule, "sgd" or "adam"."""
        return str(self.configurations[0].structure.optimizer)

    def first(self, count: int) -> "Task":
        """Return the task of the first networks alone."""
        return self._replace(configurations=self.configurations[:count])


def make_task(configurations: Sequence[Configuration], images: Images, steps: int) -> Task:
    """Return the task of configurations of one structure and seed; jaxnet draws rows and weights.

    An epoch is longer than the task, so that no schedule by epochs is felt.
    """
    structure, seed = configurations[0].structure, configurations[0].seed
    batch, examples = structure.batch_size, len(images.raw)
    if steps * batch > examples:
        raise ValueError(f"{steps} steps of batch {batch} exceed an epoch of {examples} examples")
    with numerics("float32"):
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 1)  # as in training.py
        rows = [
            jax.random.randint(jax.random.fold_in(key, step), (batch,), 0, examples, jnp.int32)
            for step in range(steps)
        ]
        program = Program(structure, images.shapes)
        given = Hyperparameters.of(configurations[:1])
        start = weights_of(program.init(given, jnp.uint32(seed)).members, 0)
    return Task(configurations, images, np.asarray(rows), start)


def weights_of(members, index: int) -> Weights:
    """Return the affine layers of one network of a stack."""
    params = take_member(members, index).params
    depth = sum(name.startswith("affine_") for name in params)
    layers = [params[f"affine_{i}"] for i in range(1, depth + 1)]
    return [(np.asarray(layer["w"]), np.asarray(layer["b"])) for layer in layers]


class Verdict(NamedTuple):
    """What training came to: losses, and how far the worst network lies from the reference."""

    mean_loss: float
    loss_error: float  # largest difference of a final loss
    update_error: float  # largest ‖change − reference's change‖ / ‖reference's change‖


def judge(task: Task, found: Sequence[Weights], reference: Sequence[Weights]) -> Verdict:
    """Compare networks with those of the reference, in float64, as many as both have.

    Losses alone would not do: over a few steps some networks change little, and then equal losses
    say nothing. The change of all weights tells other minibatches, rates and penalties apart.
    """
    count = min(len(found), len(reference))
    losses, expected = (_losses(task, networks[:count]) for networks in (found, reference))
    # Normalization takes a bias before it away: its gradient is rounding, which Adam blows up.
    parts = 2 if task.configurations[0].structure.norm == "none" else 1
    start = _flat(task.start, parts)
    updates = []
    for one, other in zip(found[:count], reference[:count], strict=True):
        change = _flat(other, parts) - start
        updates.append(np.linalg.norm(_flat(one, parts) - start - change) / np.linalg.norm(change))
    return Verdict(
        float(_losses(task, found).mean()),
        float(np.abs(losses - expected).max()),
        float(np.max(updates)),
    )


def _flat(weights: Weights, parts: int) -> np.ndarray:
    """Return w, and b as the second part, of all layers."""
    arrays = [array for layer in weights for array in layer[:parts]]
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])


def _losses(task: Task, networks: Sequence[Weights]) -> np.ndarray:
    """Return the softmax loss with penalty of each network on the first JUDGED examples."""
    x, y = task.images.inputs[:JUDGED].astype(np.float64), task.images.labels[:JUDGED]
    out = []
    for weights, l2 in zip(networks, task.l2, strict=False):
        h = x
        for i, (w, b) in enumerate(weights):
            h = (np.maximum(h, 0) if i else h) @ w.astype(np.float64) + b
        h -= h.max(axis=1, keepdims=True)
        log_p = h - np.log(np.exp(h).sum(axis=1, keepdims=True))
        penalty = sum(np.square(w, dtype=np.float64).sum() for w, _ in weights)
        out.append(-log_p[np.arange(len(y)), y].mean() + 0.5 * float(l2) * penalty)
    return np.asarray(out)


def picture_like(features: int, classes: int, examples: int) -> Images:
    """Return random bytes around a prototype of each class, which a net learns in a few steps.

    Scaled so that a row has about length 10: the largest rates of the grids then stay finite, and
    no time is that of infinities.
    """
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, examples, dtype=np.int32)
    prototypes = generator.integers(64, 192, (classes, features))
    noise = generator.integers(-64, 64, (examples, features), dtype=np.int16)
    raw = (prototypes[labels] + noise).astype(np.uint8)
    mean = raw.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.full(features, 10 / (52 * features**0.5), np.float32)
    return Images(raw, labels, mean, scale, classes)


def rings(examples: int) -> Images:
    """Return points of the plane, inside a circle or outside."""
    points = np.random.default_rng(0).normal(size=(examples, 2)).astype(np.float32)
    labels = (np.linalg.norm(points, axis=1) > 1.2).astype(np.int32)
    return Images(points, labels, None, None, 2)
