"""Rows that prove the combinators of layers."""

import functools
from collections.abc import Iterator

import jax
import numpy as np

from jaxnet import compose, layers
from jaxnet.gradcheck.catalogue.row import DTYPES, Row, draw, trees
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import GradientReport
from jaxnet.layers.layer import Layer, Shape


def composition_rows() -> Iterator[Row]:
    """Yield the rows of the compositions."""
    block = compose.serial(
        layers.affine(4), layers.batchnorm(), layers.relu(), layers.dropout(0.3), layers.affine(3)
    )
    parts = "affine – batchnorm – relu – dropout – affine"
    for train in (True, False):
        mode = "train" if train else "test"
        yield from _composition("serial", f"{parts}, 5×3, {mode}", block, (5, 3), train)
    branch = compose.serial(layers.affine(3), layers.tanh())
    mapped = compose.residual(
        compose.serial(layers.layernorm(), layers.affine(2)), layers.affine(2)
    )
    yield from _composition("residual", "identity shortcut, 4×3", compose.residual(branch), (4, 3))
    yield from _composition("residual", "affine shortcut, 1×5", mapped, (1, 5))
    side = compose.concat(layers.affine(1), compose.serial(layers.affine(3), layers.gelu()))
    yield from _composition("concat", "affine beside affine – gelu, 5×2", side, (5, 2))
    nested = compose.serial(
        compose.residual(compose.concat(layers.affine(1), layers.affine(2))), layers.sigmoid()
    )
    yield from _composition("concat", "in a residual in a serial, 3×3", nested, (3, 3))
    yield from _composition("identity", "3×2", compose.identity(), (3, 2))
    yield from _as_custom_vjp()
    yield from _as_function(block)


def _composition(
    name: str, options: str, layer: Layer, shape: Shape, train: bool = True
) -> Iterator[Row]:
    @jax.jit
    def forward(params, x, state, key):
        return layer.forward(params, state, x, key=key, train=train)

    @jax.jit
    def backward(dout, cache):
        dx, dparams = layer.backward(dout, cache)
        return dparams, dx

    def check(dtype: str, seed: int) -> GradientReport:
        args = _layer_arguments(layer, shape, dtype, seed)
        return check_grads(forward, args, backward=backward, argnums=(0, 1), seed=seed)

    for dtype in DTYPES:
        row = f"{options}, {dtype}"
        yield Row("composition", name, row, functools.partial(check, dtype))


def _layer_arguments(layer: Layer, shape: Shape, dtype: str, seed: int) -> tuple:
    rng = np.random.default_rng([seed, 4])
    params, state = trees(layer, shape[1:], rng, dtype)
    return params, draw(rng, shape, dtype), state, jax.random.key(seed)


def _as_custom_vjp() -> Iterator[Row]:
    function = jax.jit(compose.as_custom_vjp(layers.affine_forward, layers.affine_backward))

    def plain(x, w, b):
        return x @ w + b[None, :]

    def check(dtype: str, seed: int) -> GradientReport:
        rng = np.random.default_rng([seed, 5])
        args = tuple(draw(rng, shape, dtype) for shape in [(3, 4), (4, 2), (2,)])
        return check_grads(function, args, reference=jax.jit(plain), seed=seed)

    for dtype in DTYPES:
        row = f"affine, 3×4 to 2, {dtype}"
        yield Row("composition", "as_custom_vjp", row, functools.partial(check, dtype))


def _as_function(layer: Layer) -> Iterator[Row]:
    wrapped = compose.as_function(layer)

    @jax.jit
    def function(params, x, state, key):
        return wrapped(params, state, x, key)[0]

    @jax.jit
    def plain(params, x, state, key):
        return layer.forward(params, state, x, key=key, train=True)[0]

    def check(dtype: str, seed: int) -> GradientReport:
        args = _layer_arguments(layer, (5, 3), dtype, seed)
        return check_grads(function, args, reference=plain, argnums=(0, 1), seed=seed)

    for dtype in DTYPES:
        row = f"a serial with batchnorm and dropout, 5×3, {dtype}"
        yield Row("composition", "as_function", row, functools.partial(check, dtype))
