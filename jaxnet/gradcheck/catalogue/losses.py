"""Rows that prove losses and the L2 penalty."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxnet import losses
from jaxnet.gradcheck.catalogue.row import DTYPES, Row, draw, size_text
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import GradientReport
from jaxnet.layers.layer import Shape


def loss_rows() -> Iterator[Row]:
    """Yield the rows of the losses."""
    for name, loss in losses.LOSSES.items():
        smoothed = name in losses.SMOOTHED_LOSSES
        for shape in [(7, 4), (1, 3), (4, 1)]:
            for smoothing in (0.0, 0.1) if smoothed else (0.0,):
                options = f"{size_text(shape)}" + (
                    f", label_smoothing {smoothing}" if smoothed else ""
                )
                yield from _loss(name, options, loss, shape, smoothing)
    wider = functools.partial(losses.multiclass_svm, margin=0.5)

    def svm(scores, labels, label_smoothing):
        return wider(scores, labels)

    yield from _loss("svm", "7×4, margin 0.5", svm, (7, 4), 0.0)
    for convention in ("half", "full"):
        for l2 in (0.0, 0.3):
            yield from _penalty(convention, l2)


def _loss(
    name: str, options: str, loss: Callable[..., Any], shape: Shape, smoothing: float
) -> Iterator[Row]:
    value = jax.jit(lambda scores, labels, smoothing: loss(scores, labels, smoothing)[0])
    grad = jax.jit(lambda scores, labels, smoothing: (loss(scores, labels, smoothing)[1],))

    def check(dtype: str, seed: int) -> GradientReport:
        rng = np.random.default_rng([seed, 2])
        labels = rng.integers(0, shape[1], shape[0]).astype(np.int32)
        args = draw(rng, shape, dtype), labels, np.asarray(smoothing, dtype)
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for dtype in DTYPES:
        yield Row("loss", name, f"{options}, {dtype}", functools.partial(check, dtype))


def _penalty(convention: str, l2: float) -> Iterator[Row]:
    penalty = functools.partial(losses.l2_penalty, convention=convention)
    value = jax.jit(lambda params, l2: penalty(params, l2)[0])
    grad = jax.jit(lambda params, l2: (penalty(params, l2)[1],))

    def check(dtype: str, seed: int) -> GradientReport:
        rng = np.random.default_rng([seed, 3])
        shapes = {"affine_1": {"w": (3, 2), "b": (2,)}, "affine_2": {"w": (1, 1), "b": (1,)}}
        params = {
            layer: {leaf: draw(rng, shape, dtype) for leaf, shape in leaves.items()}
            for layer, leaves in shapes.items()
        }
        args = params, np.asarray(l2, dtype)
        return check_grads(value, args, grad=grad, argnums=(0,), seed=seed)

    for dtype in DTYPES:
        options = f"l2 {l2}, {convention}, {dtype}"
        yield Row("loss", "l2_penalty", options, functools.partial(check, dtype))
