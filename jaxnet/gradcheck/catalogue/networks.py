"""Rows that prove whole networks, from images to gradients."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnet import models
from jaxnet.gradcheck.catalogue.row import DTYPES, Row, draw, size_text, trees
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import GradientReport
from jaxnet.layers.layer import Layer, Shape
from jaxnet.training.architectures import ARCHITECTURES
from jaxnet.training.settings import NORMS


class _Net(NamedTuple):
    """The widths of the hidden layers, and the settings that go with them."""

    hidden: tuple[int, ...]
    activation: str
    loss: str
    convention: str
    widths: tuple[int, ...] | None = None  # true widths, where the hidden layers are padded


_NETS = {  # by depth
    2: _Net((5,), "relu", "softmax", "half"),
    3: _Net((5, 3), "tanh", "svm", "full"),
    4: _Net((5, 3, 4), "gelu", "squared_error", "half"),
    5: _Net((5, 3, 4, 3), "leaky_relu", "softmax", "full"),
    6: _Net((5, 3, 4, 3, 5), "sigmoid", "squared_error", "half"),
}


def network_rows() -> Iterator[Row]:
    """Yield the rows of the networks."""
    for (depth, net), norm in itertools.product(_NETS.items(), NORMS):
        yield from _network(norm, f"depth {depth}", net, True, (7, 3))
    for norm in NORMS:  # nets in which no dropout layer stands: what rate 0 also computes
        yield from _network(norm, "depth 2", _NETS[2], False, (7, 3))
        yield from _network(norm, "depth 2, batch 1", _NETS[2], False, (1, 3))
    thin = _Net((1, 1), "tanh", "softmax", "half")
    yield from _network("none", "depth 3, width 1", thin, False, (3, 1))
    padded = _Net((6, 5), "sigmoid", "softmax", "half", widths=(4, 3))
    for norm in NORMS:
        yield from _network(norm, "depth 3, widths 4 and 3 of 6 and 5", padded, False, (7, 3))
    for (name, row), norm in itertools.product(ARCHITECTURES.items(), NORMS):
        if row.small is not None:
            shape = (3, 8, 9, 1) if row.takes_images else (7, 3)
            yield from _architecture(name, row.small, norm, shape)


def _architecture(
    name: str, small: Callable[[int, str], Layer], norm: str, shape: Shape, classes: int = 3
) -> Iterator[Row]:
    model = small(classes, norm)

    def both(params, state, images, labels, l2):
        return models.loss_and_grad(model, params, state, images, labels, l2=l2)

    value = jax.jit(lambda params, *rest: both(params, *rest).loss)
    grad = jax.jit(lambda params, *rest: (both(params, *rest).grads,))

    def check(dtype: str, seed: int) -> GradientReport:
        rng = np.random.default_rng([seed, 7])
        params, state = trees(model, shape[1:], rng, dtype)
        images = draw(rng, shape, dtype)
        labels = rng.integers(0, classes, shape[0]).astype(np.int32)
        args = params, state, images, labels, np.asarray(0.1, dtype)
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for dtype in DTYPES[:1]:  # its layers are proved in both
        options = f"norm {norm}, {size_text(shape)}, softmax, l2 0.1 half, {dtype}"
        yield Row("network", name, options, functools.partial(check, dtype))


def _network(
    norm: str,
    options: str,
    net: _Net,
    drops: bool,
    shape: Shape,
    classes: int = 3,
) -> Iterator[Row]:
    def build(rate: Any) -> Layer:
        rate = rate if drops else None
        return models.fully_connected(
            net.hidden,
            classes,
            activation=net.activation,
            norm=norm,
            dropout_rate=rate,
            widths=net.widths,
        )

    def both(params, state, images, labels, key, rate, l2):
        return models.loss_and_grad(
            build(rate),
            params,
            state,
            images,
            labels,
            key=key,
            loss=net.loss,
            l2=l2,
            l2_convention=net.convention,
            backward="manual",
        )

    value = jax.jit(lambda params, *rest: both(params, *rest).loss)
    grad = jax.jit(lambda params, *rest: (both(params, *rest).grads,))

    def check(dtype: str, rate: float, l2: float, seed: int) -> GradientReport:
        rng = np.random.default_rng([seed, 6])
        params, state = trees(build(0.0), shape[1:], rng, dtype)
        images = draw(rng, shape, dtype)
        labels = rng.integers(0, classes, shape[0]).astype(np.int32)
        numbers = np.asarray(rate, dtype), np.asarray(l2, dtype)
        args = params, state, images, labels, jax.random.key(seed), *numbers
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for rate, l2, dtype in itertools.product((0.3, 0.0) if drops else (0.0,), (0.0, 0.1), DTYPES):
        parts = [options, net.activation, net.loss]
        parts += [f"dropout {rate}" if drops else "no dropout"]
        parts += [f"l2 {l2} {net.convention}" if l2 else "l2 0", dtype]
        check_row = functools.partial(check, dtype, rate, l2)
        yield Row("network", f"norm {norm}", ", ".join(parts), check_row)
