"""Looks at one network in training: weights, gradients, updates and activations by layer."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.compose import serial
from jaxnet.layers.layer import Shape
from jaxnet.losses import l2_penalty
from jaxnet.models import fully_connected_layers, loss_and_grad
from jaxnet.optimizers import clip_by_norm
from jaxnet.schedules import SCHEDULES
from jaxnet.sweeps.layer_history import LayerHistory
from jaxnet.sweeps.prepared import PreparedData
from jaxnet.training.learner import build_model
from jaxnet.training.numerics import numerics, parameter_dtype
from jaxnet.training.program import Member, build_optimizer
from jaxnet.training.settings import Configuration, Structure

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
            self._numbers = {n: jnp.asarray(v, dtype) for n, v in configuration.numbers.items()}
            self._batch, self._many = (
                (data.device.gather(jnp.asarray(some), dtype), data.device.labels[some])
                for some in (batch, rows[:ROWS])
            )
        self._looks: list[dict[str, np.ndarray]] = []

    def look(self, step: int, member: Member) -> None:
        """Note how the network is after so many updates."""
        structure, data = self._configuration.structure, self._data
        if any(int(look["steps"]) == step for look in self._looks):
            return
        with numerics(structure.precision):
            found = _measure(structure, data.input_shape, data.classes)(
                jax.tree.map(jnp.asarray, member),
                self._numbers,
                *self._batch,
                self._many[0],
                jnp.int32(step),
                jnp.int32(self._total),
                jnp.int32(max(1, data.train // structure.batch_size)),
            )
        self._looks.append({"steps": np.asarray(step, np.int64), **jax.device_get(found)})

    def history(self) -> LayerHistory:
        """Return what was noted so far."""
        return LayerHistory(
            **{name: np.stack([look[name] for look in self._looks]) for name in self._looks[0]}
        )


@lru_cache(maxsize=64)
def _measure(structure: Structure, input_shape: Shape, classes: int) -> Callable[..., Any]:
    hidden = len(structure.hidden)

    def measure(member, numbers, x, labels, many, step, total_steps, steps_per_epoch):
        params, key = member.params, jax.random.key(0, impl="threefry2x32")
        loss, gradient, _, _ = loss_and_grad(
            build_model(structure, numbers, input_shape, classes),
            params,
            member.state,
            x,
            labels,
            key=key,
            loss=structure.loss,
            label_smoothing=numbers["label_smoothing"],
            l2=numbers["l2"],
            l2_convention=structure.l2_convention,
            backward=structure.backward,
        )
        if structure.uses_clipping:
            gradient = clip_by_norm(gradient, numbers["clip_norm"])
        schedule = SCHEDULES[structure.schedule].build(
            numbers, total_steps=total_steps, steps_per_epoch=steps_per_epoch
        )
        rule = build_optimizer(structure, schedule(step), numbers)
        update, _ = rule.update(gradient, member.optimizer_state, params)
        penalty, _ = l2_penalty(params, numbers["l2"], convention=structure.l2_convention)
        outputs = _activations(structure, input_shape, classes, params, member.state, many)
        dead = [jnp.mean(jnp.all(out == 0, axis=0), dtype=out.dtype) for out in outputs]
        saturated = [_saturated(structure.activation, out) for out in outputs]
        none = jnp.full((hidden,), jnp.nan, x.dtype)
        relu, ends = structure.activation == "relu", structure.activation in EDGES
        return {
            **{
                name: jnp.stack([_size(tree[f"affine_{i + 1}"]["w"]) for i in range(hidden + 1)])
                for name, tree in [("weight", params), ("gradient", gradient), ("update", update)]
            },
            "dead": jnp.stack(dead) if relu and hidden else none,
            "saturated": jnp.stack(saturated) if ends and hidden else none,
            "data_loss": loss - penalty,
            "penalty": penalty,
        }

    return jax.jit(measure)


def _activations(
    structure: Structure, input_shape: Shape, classes: int, params: Any, state: Any, x: Any
) -> list[jax.Array]:
    """Return the outputs of each hidden layer, without dropout, with the statistics of `x`."""
    layers = fully_connected_layers(
        structure.hidden,
        classes,
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
