"""Train a network of the course with its parameters on the device."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnet.cs231n import optim
from jaxnet.cs231n.arrays import numpy
from jaxnet.cs231n.classifiers.network import Network
from jaxnet.cs231n.classifiers.programs import train_step
from jaxnet.host.interrupt import Interrupt


class Training:
    """A network in training: parameters, update rule and statistics stay on the device.

    `configs` holds the update rule's dictionary for each parameter. `write_back` updates the
    network and the dictionaries; until then they show the values of its last call.
    """

    def __init__(self, net: Network, rule: str, configs: dict[str, dict[str, Any]]):
        self._net, self._rule, self._host_configs = net, rule, configs
        for name, config in configs.items():
            optim.defaults(rule, net.params[name], config)
        dtype = self._net.dtype or np.result_type(*self._net.params.values())
        with jax.enable_x64(True):
            # JAX may share the memory of a NumPy array, which its owner may change: hence copies.
            self._params = {
                name: jnp.array(value, dtype, copy=True) for name, value in self._net.params.items()
            }
            self._configs = jax.tree.map(lambda x: jnp.array(x, copy=True), self._host_configs)
        self._state: list[dict[str, Any]] = []
        self._losses: list[Array] = []

    def step(self, x: Any, y: Any) -> None:
        """Make one update on this minibatch; the caller has checked the labels."""
        arguments = self._net.arguments(len(x), train=True)
        if self._state:
            arguments = arguments._replace(
                state=[
                    {**old, **new} for old, new in zip(arguments.state, self._state, strict=True)
                ]
            )
        dtype = self._params["W1"].dtype
        x = np.asarray(x)
        if x.dtype != dtype:
            x = x.astype(dtype)
        with Interrupt() as interrupt:  # Ctrl-C inside the runtime could be lost or do harm
            loss, self._params, self._configs, self._state = train_step(
                self._net.structure, self._rule, self._params, self._configs, arguments, (x, y)
            )
            self._losses.append(loss)
        interrupt.check()

    def losses(self) -> list[Any]:
        """Wait for the losses of the steps since the last call, and return them."""
        losses, self._losses = [numpy(loss) for loss in self._losses], []
        return losses

    def write_back(self) -> None:
        """Update the network and the dictionaries of the update rule."""
        self._net.params.update(numpy(self._params))
        self._net.keep(numpy(self._state))
        for name, config in numpy(self._configs).items():
            self._host_configs[name].update(
                {k: v.item() if isinstance(v, np.generic) else v for k, v in config.items()}
            )
