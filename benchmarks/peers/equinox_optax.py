"""equinox and optax: a training function of one network as their tutorials have it."""

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import optax
from jax import lax

from benchmarks.tasks import Task, Weights


class EquinoxOptax:
    """The one network of a task; without a penalty."""

    def __init__(self, task: Task):
        if len(task.configurations) != 1 or task.l2.any():
            raise ValueError("one network without a penalty")
        rules = {"sgd": optax.sgd, "adam": optax.adam}
        optimizer = rules[task.rule](float(task.rates[0]))
        layers = []
        for w, b in task.start:
            layer = eqx.nn.Linear(*w.shape, key=jax.random.key(0))
            ours = (jnp.asarray(w.T), jnp.asarray(b))
            layers += [eqx.tree_at(lambda at: (at.weight, at.bias), layer, ours)]
            layers += [eqx.nn.Lambda(jax.nn.relu)]
        self.net, static = eqx.partition(eqx.nn.Sequential(layers[:-1]), eqx.is_inexact_array)
        self.state = optimizer.init(self.net)

        def loss(net, x, y):
            scores = jax.vmap(eqx.combine(net, static))(x)
            return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

        @jax.jit
        def train(net, state, inputs, labels, rows):
            def step(carry, batch):
                net, state = carry
                value, grads = jax.value_and_grad(loss)(net, inputs[batch], labels[batch])
                updates, state = optimizer.update(grads, state, net)
                return (eqx.apply_updates(net, updates), state), value

            return lax.scan(step, (net, state), rows)

        self.train = train
        self.arguments = [
            jnp.asarray(array) for array in (task.images.inputs, task.images.labels, task.rows)
        ]

    def run(self) -> object:
        """Make the task's updates."""
        (self.net, self.state), losses = self.train(self.net, self.state, *self.arguments)
        return losses

    def weights(self) -> list[Weights]:
        """Return the weights of the network."""
        layers = [layer for layer in self.net.layers if isinstance(layer, eqx.nn.Linear)]
        return [[(jax.device_get(layer.weight).T, jax.device_get(layer.bias)) for layer in layers]]
