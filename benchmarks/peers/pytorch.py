"""PyTorch: eager or compiled, one network after the other or an ensemble under `torch.func.vmap`.

It uses as many threads as there are cores.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.func import functional_call, grad, vmap  # pyright: ignore[reportMissingImports]

from benchmarks.tasks import Task, Weights

torch.set_num_threads(os.cpu_count() or 1)


def _net(start: Weights) -> nn.Sequential:
    layers: list[nn.Module] = []
    for w, b in start:
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b.copy()))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _weights(parameters: dict[str, torch.Tensor]) -> Weights:
    arrays = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    layers = [name.removesuffix(".weight") for name in arrays if name.endswith(".weight")]
    return [(arrays[f"{layer}.weight"].T, arrays[f"{layer}.bias"]) for layer in layers]


def _precision(bfloat16: bool) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else contextlib.nullcontext()


class _Torch:
    def __init__(self, task: Task):
        if task.rule not in ("sgd", "adam"):
            raise ValueError(f"no peer for the update rule {task.rule!r}")
        self.task = task
        self.inputs = torch.from_numpy(task.images.inputs)
        self.labels = torch.from_numpy(task.images.labels.astype(np.int64))
        self.rows = torch.from_numpy(task.rows.astype(np.int64))


class OneByOne(_Torch):
    """A module and an optimizer a network; the penalty is `weight_decay` of the weights."""

    def __init__(self, task: Task, *, bfloat16: bool = False, compiled: bool = False):
        super().__init__(task)
        self.bfloat16 = bfloat16
        self.nets = [_net(task.start) for _ in task.configurations]
        build = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[task.rule]
        self.optimizers = []
        for net, rate, l2 in zip(self.nets, task.rates, task.l2, strict=True):
            named = dict(net.named_parameters())
            groups = [
                {
                    "params": [p for name, p in named.items() if name.endswith("weight")],
                    "weight_decay": float(l2),
                },
                {"params": [p for name, p in named.items() if name.endswith("bias")]},
            ]
            self.optimizers.append(build(groups, lr=float(rate)))
        self.loss: Callable[..., torch.Tensor] = torch.compile(_loss) if compiled else _loss

    def run(self) -> object:
        """Make the task's updates of every network."""
        losses = []
        for net, optimizer in zip(self.nets, self.optimizers, strict=True):
            for rows in self.rows:
                x, y = self.inputs[rows], self.labels[rows]
                optimizer.zero_grad()
                with _precision(self.bfloat16):
                    loss = self.loss(net, x, y)
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return float(torch.stack(losses).sum())

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        return [_weights(dict(net.named_parameters())) for net in self.nets]


def _loss(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(net(x), y)


class Ensemble(_Torch):
    """Stacked parameters, `vmap(grad(...))` over them, plain descent written out."""

    def __init__(self, task: Task, *, bfloat16: bool = False, compiled: bool = False):
        super().__init__(task)
        if task.rule != "sgd":
            raise ValueError("the ensemble has plain descent only")
        self.bfloat16, k = bfloat16, len(task.configurations)
        self.net = _net(task.start)
        named = {name: p.detach() for name, p in self.net.named_parameters()}
        self.params = {name: p.repeat(k, *[1] * p.ndim) for name, p in named.items()}
        rates, l2 = torch.from_numpy(task.rates), torch.from_numpy(task.l2)

        def loss(params, x, y):
            return nn.functional.cross_entropy(functional_call(self.net, params, (x,)), y)

        gradient = vmap(grad(loss), in_dims=(0, None, None))

        def step(params, x, y):
            with _precision(bfloat16):
                grads = gradient(params, x, y)
            new = {}
            for name, w in params.items():
                axes = (k, *[1] * (w.ndim - 1))
                g = grads[name]
                g = g + l2.view(axes) * w if name.endswith("weight") else g
                new[name] = w - rates.view(axes) * g
            return new

        self.step = torch.compile(step) if compiled else step

    def run(self) -> object:
        """Make the task's updates of every network."""
        with torch.no_grad():
            for rows in self.rows:
                self.params = self.step(self.params, self.inputs[rows], self.labels[rows])
        return float(next(iter(self.params.values())).sum())

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        return [
            _weights({name: p[i] for name, p in self.params.items()})
            for i in range(len(self.task.configurations))
        ]
