"""Looks at one network in training: weights, gradients, updates and activations by layer."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.compose import serial
from jaxnet.losses import l2_penalty
from jaxnet.models import fully_connected_layers
from jaxnet.sweeps.results.layer_history import LayerHistory
from jaxnet.sweeps.stacks.prepared import PreparedData
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.training.learner import Batch, Hyperparameters
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.settings import Configuration, Shapes, Structure
from jaxnet.training.step import Clock, Member, update

ROWS = 1000  # of the training images, on which activations are looked at
EDGES = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
NEAR = 0.025  # of the range: how close to an end is saturated


class Watch:
    """Notes what goes on in one network, on the same training rows each time."""

    def __init__(
        self, configuration: Configuration, data: PreparedData, total_steps: int, seed: int = 0
    ) -> None:
        self._configuration, self._data, self._total = configuration, data, total_steps
        structure = configuration.structure
        with numerics(structure.precision):
            dtype = parameter_dtype(structure)
            rows = np.random.default_rng(seed).permutation(data.train)
            batch = np.resize(rows, structure.batch_size)
            self._hyperparameters = jax.tree.map(
                lambda value: value[0], Hyperparameters.of([configuration])
            )
            key = jax.random.key(0, impl="threefry2x32")
            x = data.device.gather(jnp.asarray(batch), dtype)
            self._batch = Batch(x, data.device.labels[batch], key)
            self._many = data.device.gather(jnp.asarray(rows[:ROWS]), dtype)
        self._looks: list[dict[str, np.ndarray]] = []

    def look(self, step: int, member: Member) -> None:
        """Note how the network is after so many updates."""
        structure, data = self._configuration.structure, self._data
        if any(int(look["steps"]) == step for look in self._looks):
            return
        with numerics(structure.precision):
            per_epoch = max(1, data.train // structure.batch_size)
            clock = Clock(jnp.int32(step), jnp.int32(self._total), jnp.int32(per_epoch))
            found = _measure(structure, data.shapes)(
                jax.tree.map(jnp.asarray, member),
                self._hyperparameters,
                self._batch,
                self._many,
                clock,
            )
        self._looks.append({"steps": np.asarray(step, np.int64), **jax.device_get(found)})

    def history(self) -> LayerHistory:
        """Return what was noted so far."""
        return LayerHistory(
            **{name: np.stack([look[name] for look in self._looks]) for name in self._looks[0]}
        )


class Watcher:
    """Watches the one network of a run that has no other, and keeps what it saw."""

    def __init__(self, configuration: Configuration, total_steps: int, before: Path) -> None:
        self._configuration, self._total, self._before = configuration, total_steps, before
        self.seen: LayerHistory | None = None
        self._watch: Watch | None = None

    def begin(self, stack: Stack) -> None:
        """Have a first look at a stack; one that goes on brings what was seen before."""
        if stack.step and self.seen is None and self._before.exists():
            self.seen = LayerHistory.load(self._before)
        self._watch = Watch(self._configuration, stack.data, self._total)
        self.look(stack)

    def look(self, stack: Stack) -> None:
        """Note how the network is now."""
        assert self._watch is not None
        self._watch.look(stack.step, stack.member(0))

    def end(self, stack: Stack) -> None:
        """Have a last look, and join it all to what was seen before."""
        assert self._watch is not None
        self.look(stack)
        found = self._watch.history()
        self.seen = found if self.seen is None else self.seen.then(found)


@lru_cache(maxsize=64)
def _measure(structure: Structure, shapes: Shapes) -> Callable[..., Any]:
    hidden = len(structure.hidden)

    def measure(member, hyperparameters, batch, many, clock):
        params, values = member.params, hyperparameters.values
        found = update(structure, shapes, member, hyperparameters, batch, clock)
        penalty, _ = l2_penalty(params, values["l2"], convention=structure.l2_convention)
        outputs = _activations(structure, shapes, params, member.state, many)
        dead = [jnp.mean(jnp.all(out == 0, axis=0), dtype=out.dtype) for out in outputs]
        saturated = [_saturated(structure.activation, out) for out in outputs]
        none = jnp.full((hidden,), jnp.nan, many.dtype)
        relu, ends = structure.activation == "relu", structure.activation in EDGES
        sizes = {"weight": params, "gradient": found.gradient, "update": found.change}
        return {
            **{
                name: jnp.stack([_size(tree[f"affine_{i + 1}"]["w"]) for i in range(hidden + 1)])
                for name, tree in sizes.items()
            },
            "dead": jnp.stack(dead) if relu and hidden else none,
            "saturated": jnp.stack(saturated) if ends and hidden else none,
            "data_loss": found.metrics.loss - penalty,
            "penalty": penalty,
        }

    return jax.jit(measure)


def _activations(
    structure: Structure, shapes: Shapes, params: Any, state: Any, x: Any
) -> list[jax.Array]:
    """Return the outputs of each hidden layer, without dropout, with the statistics of `x`."""
    layers = fully_connected_layers(
        structure.hidden,
        shapes.classes,
        activation=structure.activation,
        norm=structure.norm,
        dtype=parameter_dtype(structure),
    )
    each = (len(layers) - 1) // max(1, len(structure.hidden))  # affine, norm, activation
    return [
        serial(*layers[: each * (i + 1)]).forward(params, state, x, key=None, train=True)[0]
        for i in range(len(structure.hidden))
    ]


def _saturated(activation: str, out: jax.Array) -> jax.Array:
    low, high = EDGES.get(activation, (0.0, 1.0))
    near = NEAR * (high - low)
    return jnp.mean((out < low + near) | (out > high - near), dtype=out.dtype)


def _size(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
