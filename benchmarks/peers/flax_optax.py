"""flax and optax: a training function as their tutorials have it, `vmap` of it over networks."""

from collections.abc import Sequence

import flax.linen as nn  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.tasks import Task, Weights


class _Net(nn.Module):
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


class FlaxOptax:
    """All networks of a task under one `vmap`; the minibatch is common to them."""

    def __init__(self, task: Task):
        self.task = task
        net = _Net(tuple(len(b) for _, b in task.start))
        rules = {"sgd": optax.sgd, "adam": optax.adam}

        def loss(params, l2, x, y):
            data = optax.softmax_cross_entropy_with_integer_labels(net.apply(params, x), y).mean()
            kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
            return data + 0.5 * l2 * sum(jnp.square(w).sum() for w in kernels)

        def train(params, state, rate, l2, inputs, labels, rows):
            optimizer = rules[task.rule](rate)

            def step(carry, batch):
                params, state = carry
                value, grads = jax.value_and_grad(loss)(params, l2, inputs[batch], labels[batch])
                updates, state = optimizer.update(grads, state, params)
                return (optax.apply_updates(params, updates), state), value

            return lax.scan(step, (params, state), rows)

        one = {
            "params": {
                f"Dense_{i}": {"kernel": jnp.asarray(w), "bias": jnp.asarray(b)}
                for i, (w, b) in enumerate(task.start)
            }
        }
        count = len(task.configurations)
        params = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], count, axis=0), one)
        state = jax.vmap(lambda params: rules[task.rule](0.0).init(params))(params)
        self.carry = (params, state)
        self.train = jax.jit(jax.vmap(train, in_axes=(0, 0, 0, 0, None, None, None)))
        self.arguments = [
            jnp.asarray(array)
            for array in (task.rates, task.l2, task.images.inputs, task.images.labels, task.rows)
        ]

    def run(self) -> object:
        """Make the task's updates of every network."""
        self.carry, losses = self.train(*self.carry, *self.arguments)
        return self.carry, losses

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        params = jax.device_get(self.carry[0]["params"])
        layers = [params[f"Dense_{i}"] for i in range(len(self.task.start))]
        return [
            [(layer["kernel"][i], layer["bias"][i]) for layer in layers]
            for i in range(len(self.task.configurations))
        ]
