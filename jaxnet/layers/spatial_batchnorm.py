"""Batch normalization of images: each channel over the batch and all places of the image."""

import math

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.kernels.windows import windows
from jaxnet.layers.batchnorm import BatchnormCache, batchnorm, batchnorm_backward, batchnorm_forward
from jaxnet.layers.layer import Layer, Shape, Tree


@checked
def spatial_batchnorm_forward(
    x: Float[Array, "batch *image channels"],
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    running_mean: Float[Array, " channels"],
    running_variance: Float[Array, " channels"],
    *,
    train: bool,
    momentum: ScalarLike = 0.9,
    eps: ScalarLike = 1e-5,
) -> tuple[
    Float[Array, "batch *image channels"],
    BatchnormCache,
    tuple[Float[Array, " channels"], Float[Array, " channels"]],
]:
    """`jaxnet.layers.batchnorm_forward` where every place of every image is a row of the batch.

    >>> x = jnp.array([1.0, 3.0, 1.0, 3.0]).reshape(1, 2, 2, 1)
    >>> one, zero = jnp.ones(1), jnp.zeros(1)
    >>> out, cache, _ = spatial_batchnorm_forward(x, one, zero, zero, zero, train=True, eps=0.0)
    >>> out.ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    out, cache, running = batchnorm_forward(
        _rows(x),
        scale,
        shift,
        running_mean,
        running_variance,
        train=train,
        momentum=momentum,
        eps=eps,
    )
    return out.reshape(x.shape), cache, running


@checked
def spatial_batchnorm_backward(
    dout: Float[Array, "batch *image channels"], cache: BatchnormCache
) -> tuple[
    Float[Array, "batch *image channels"], Float[Array, " channels"], Float[Array, " channels"]
]:
    """dx, dscale, dshift of `jaxnet.layers.batchnorm_backward`, Σ over batch and places."""
    dx, dscale, dshift = batchnorm_backward(_rows(dout), cache)
    return dx.reshape(dout.shape), dscale, dshift


def _rows(x: Array) -> Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@checked
def spatial_batchnorm(
    momentum: ScalarLike = 0.9, eps: ScalarLike = 1e-5, *, dtype: DTypeLike = jnp.float32
) -> Layer:
    """Return it as a layer: scale starts at 1, everything else at 0, one of each a channel."""
    flat = batchnorm(momentum, eps, dtype=dtype)

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        windows("spatial_batchnorm", input_shape, 1, 1, "valid")
        params, state, _ = flat.init(key, input_shape[-1:])
        return params, state, input_shape

    def forward(params, state, x, *, key, train):
        out, cache, state = flat.forward(params, state, _rows(x), key=key, train=train)
        return jnp.reshape(out, x.shape), cache, state

    def backward(dout, cache):
        dx, dscale, dshift = spatial_batchnorm_backward(dout, cache)
        return dx, {"scale": dscale, "shift": dshift}

    return Layer("spatial_batchnorm", init, forward, backward)
