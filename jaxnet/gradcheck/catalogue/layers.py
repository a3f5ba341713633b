"""Rows that prove layers."""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxnet import layers
from jaxnet.gradcheck.catalogue.row import DTYPES, Row, constant, draw, size_text
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import Report
from jaxnet.layers.layer import Shape


def layer_rows() -> Iterator[Row]:
    """Yield the rows of the layers."""
    for batch, inputs, outputs in [
        (3, (4,), 2),
        (5, (7,), 3),
        (1, (4,), 3),
        (3, (1,), 1),
        (2, (3, 2), 5),
    ]:
        shapes = [(batch, *inputs), (int(np.prod(inputs)), outputs), (outputs,)]
        yield from _layer("affine", f"{size_text((batch, *inputs))} to {outputs}", shapes)
    for name in layers.ACTIVATIONS:
        for shape in [(3, 5), (1, 1)]:
            yield from _layer(name, size_text(shape), [shape])
        yield from _layer(name, "3, one of them 0", [(3,)], zero=True)
    for slope in (0.3, 0.0):
        options = f"4×3, negative_slope {slope}"
        yield from _layer("leaky_relu", options, [(4, 3)], negative_slope=slope)
    for shape, train in itertools.product([(7, 5), (1, 3), (4, 1)], [True, False]):
        wide = shape[1:]
        options = f"{size_text(shape)}, {'train' if train else 'test'}"
        yield from _layer("batchnorm", options, [shape, wide, wide], (wide, wide), train=train)
    for shape in [(5, 7), (1, 4), (3, 1)]:
        yield from _layer("layernorm", size_text(shape), [shape, shape[1:], shape[1:]])
    for shape, width in [((3, 7), 4), ((3, 4), 4)]:
        options = f"{size_text(shape)}, width {width}"
        yield from _layer("layernorm", options, [shape, shape[1:], shape[1:]], width=width)
    for shape, width in [((3, 5), 2), ((3, 5), 5), ((2, 3, 4), 1)]:
        options = f"{size_text(shape)}, width {width}"
        yield from _layer("first_units", options, [shape], (width,))
    for shape, rate in [((5, 7), 0.0), ((5, 7), 0.3), ((5, 7), 1.0), ((1, 1), 0.3)]:
        constants = (rate, jax.random.key(3))
        options = f"{size_text(shape)}, rate {rate}, train"
        yield from _layer("dropout", options, [shape], constants, train=True)
    yield from _layer("dropout", "3×5, test", [(3, 5)], (0.3, jax.random.key(3)), train=False)


def _layer(
    name: str,
    options: str,
    shapes: Sequence[Shape],
    constants: Sequence[Any] = (),
    *,
    zero: bool = False,
    **settings: Any,
) -> Iterator[Row]:
    """Give the rows of a forward and backward pair; `zero` sets the first entry to 0."""
    if name in layers.ACTIVATIONS:
        forward, backward = layers.ACTIVATIONS[name]
    else:
        forward, backward = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    run = jax.jit(functools.partial(forward, **settings))

    def check(dtype: str, seed: int) -> Report:
        rng = np.random.default_rng([seed, 1])
        variables = [draw(rng, shape, dtype) for shape in shapes]
        if zero:
            variables[0].flat[0] = 0
        held = [constant(rng, what, dtype) for what in constants]
        argnums = range(len(variables))
        args = (*variables, *held)
        return check_grads(run, args, backward=jax.jit(backward), argnums=argnums, seed=seed)

    for dtype in DTYPES:
        yield Row("layer", name, f"{options}, {dtype}", functools.partial(check, dtype))
