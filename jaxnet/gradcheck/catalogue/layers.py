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
from jaxnet.gradcheck.report import GradientReport
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
    yield from _image_rows()


def _image_rows() -> Iterator[Row]:
    """Yield the rows of the layers of images [batch, height, width, channels]."""
    for kernel, settings in [
        ((3, 3), {}),
        ((1, 1), {}),
        ((5, 5), {}),
        ((3, 3), {"padding": "valid"}),
        ((3, 3), {"stride": 2}),
        ((2, 3), {"stride": (3, 2), "padding": ((1, 0), (2, 1))}),
        ((1, 1), {"stride": 2, "padding": 1}),
    ]:
        words = [size_text(kernel), *(f"{name} {value}" for name, value in settings.items())]
        for shape, outputs in [((2, 5, 6, 3), 2)]:
            options = f"{size_text(shape)} to {outputs}, {', '.join(words)}"
            shapes = [shape, (*kernel, shape[-1], outputs), (outputs,)]
            yield from _layer("conv2d", options, shapes, **settings)
    wide = [(1, 3, 3, 16), (3, 3, 16, 1), (1,)]  # its products go by rows of the kernel
    yield from _layer("conv2d", "1×3×3×16 to 1, 3×3", wide)
    large = [(9, 29, 28, 32), (3, 3, 32, 32), (32,)]  # and here neighbours are summed together
    yield from _layer("conv2d", "9×29×28×32 to 32, 3×3", large)
    for name in ("max_pool", "average_pool"):
        for settings in [
            {"window": 2},
            {"window": 3, "stride": 1, "padding": "same"},
            {"window": (3, 2), "stride": 2, "padding": ((1, 0), (0, 1))},
        ]:
            words = ", ".join(f"{setting} {value}" for setting, value in settings.items())
            yield from _layer(name, f"2×5×6×2, {words}", [(2, 5, 6, 2)], **settings)
    for shape in [(2, 3, 4, 2), (1, 1, 1, 1)]:
        yield from _layer("global_average_pool", size_text(shape), [shape])
        yield from _layer("flatten", size_text(shape), [shape])
    for shape, train in itertools.product([(2, 3, 4, 2), (1, 2, 2, 1)], [True, False]):
        wide = shape[3:]
        options = f"{size_text(shape)}, {'train' if train else 'test'}"
        yield from _layer(
            "spatial_batchnorm", options, [shape, wide, wide], (wide, wide), train=train
        )
    for groups in (1, 2, 4):
        options, shapes = f"2×3×2×4, groups {groups}", [(2, 3, 2, 4), (4,), (4,)]
        yield from _layer("group_norm", options, shapes, groups=groups)


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

    def check(dtype: str, seed: int) -> GradientReport:
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
