"""A gradient step of the net of convolutions: alone, as one of several, and beside PyTorch.

Batch 32 of 28×28 images, plain descent, several steps a call. PyTorch, where it is installed, runs
the same net, eagerly, in its own layout of images; in bfloat16 by its autocast.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.timing import interleave
from jaxnet.kernels.form import in_form
from jaxnet.models import inception_resnet, loss_and_grad
from jaxnet.training.layout import over_networks
from jaxnet.training.numerics import numerics, program_form
from jaxnet.training.settings import configure

BATCH, STEPS, NETWORKS, RATE = 32, 5, 4, 1e-3


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a way of training: milliseconds of one network's step."""
    steps, networks, repeats = (1, 2, 1) if smoke else (STEPS, NETWORKS, 5)
    size = 8 if smoke else 28
    images = np.random.default_rng(0).normal(size=(BATCH, size, size, 1)).astype(np.float32)
    labels = (np.arange(BATCH) % 10).astype(np.int32)
    subjects = {
        "alone": (1, _ours(images, labels, steps, 1, "float32")),
        f"{networks} networks": (networks, _ours(images, labels, steps, networks, "float32")),
        "alone, mixed": (1, _ours(images, labels, steps, 1, "mixed")),
        f"{networks} networks, mixed": (networks, _ours(images, labels, steps, networks, "mixed")),
    }
    if importlib.util.find_spec("torch") is not None:
        for dtype in ("float32", "bfloat16"):
            subjects[f"PyTorch, alone, {dtype}"] = (1, _torch(images, labels, steps, dtype))
    found = interleave({name: call for name, (_, call) in subjects.items()}, repeats)
    return [
        {
            "what": name,
            "ms a step": 1e3 * found[name].median / steps / count,
            "fastest": 1e3 * found[name].fastest / steps / count,
            "first call, s": found[name].first,
        }
        for name, (count, _) in subjects.items()
    ]


def _ours(
    images: np.ndarray, labels: np.ndarray, steps: int, networks: int, precision: str
) -> Callable[[], object]:
    net = inception_resnet(10)

    def step(params, x, y):
        grads = loss_and_grad(net, params, {}, x, y).grads
        return jax.tree.map(lambda w, g: w - RATE * g, params, grads)

    form = program_form(configure(architecture="inception_resnet", precision=precision).structure)
    together = over_networks(step, (0, None, None), 0, side_by_side=form.side_by_side)

    @jax.jit
    @in_form(form)
    def train(params, x, y):
        return lax.fori_loop(0, steps, lambda _, params: together(params, x, y), params)

    keys = jax.random.split(jax.random.key(0), networks)
    params = jax.vmap(lambda key: net.init(key, images.shape[1:])[0])(keys)
    x, y = jnp.asarray(images), jnp.asarray(labels)

    def call() -> object:
        with numerics(precision):
            return train(params, x, y)

    return call


def _torch(images: np.ndarray, labels: np.ndarray, steps: int, dtype: str) -> Callable[[], object]:
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    def conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Sequential(conv(1, 64, 3), nn.ReLU(), conv(64, 64, 3))
            self.shortcut = nn.Sequential(conv(1, 64, 1), nn.ReLU())
            self.module = nn.ModuleList(
                [
                    nn.Sequential(conv(64, 32, 1), nn.ReLU()),
                    nn.Sequential(conv(64, 64, 1), nn.ReLU(), conv(64, 64, 3), nn.ReLU()),
                    nn.Sequential(conv(64, 64, 1), nn.ReLU(), conv(64, 64, 5), nn.ReLU()),
                    nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(64, 16, 1), nn.ReLU()),
                ]
            )
            self.head = nn.Linear(176, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.branch(x) + self.shortcut(x))
            x = nn.functional.max_pool2d(x, 2)
            x = torch.cat([branch(x) for branch in self.module], dim=1)
            return self.head(nn.functional.max_pool2d(x, 2).mean((2, 3)))

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    x, y = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)

    def train() -> float:
        loss = torch.zeros(())
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                scores = net(x)
            loss = nn.functional.cross_entropy(scores.float(), y.long())
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return train
