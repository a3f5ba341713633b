"""Group normalization: the channels of a sample in groups, each to zero mean and unit variance."""

import math

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Cache, Layer, Shape, Tree, as_dtype


@checked
def group_norm_forward(
    x: Float[Array, "batch *image channels"],
    scale: Float[Array, " channels"],
    shift: Float[Array, " channels"],
    *,
    groups: int,
    eps: ScalarLike = 1e-5,
) -> tuple[Float[Array, "batch *image channels"], Cache]:
    """out = scale·x̂ + shift, x̂ = (x − μ)/√(σ² + eps), μ and biased σ² over one group of a sample.

    A group is channels/groups neighbouring channels at all places of the image. One group is
    layer normalization of the image; a group a channel is instance normalization. Training and
    testing do not differ. ConfigurationError unless `groups` divides the channels.

    >>> x = jnp.array([1.0, 3.0, 10.0, 30.0]).reshape(1, 2, 1, 2).swapaxes(1, 3)
    >>> out, cache = group_norm_forward(x, jnp.ones(2), jnp.zeros(2), groups=1, eps=0.0)
    >>> abs(round(out.mean().item(), 5)), round(out.std().item(), 5)
    (0.0, 1.0)
    """
    grouped = _grouped(x, groups)
    centred = grouped - grouped.mean(axis=(1, 3), keepdims=True)
    variance = jnp.square(centred).mean(axis=(1, 3), keepdims=True)
    inverse_deviation = lax.rsqrt(variance + as_dtype(eps, x))
    normalized = centred * inverse_deviation
    out = normalized.reshape(x.shape) * _last(scale, x) + _last(shift, x)
    return out, (normalized, inverse_deviation, scale)


@checked
def group_norm_backward(
    dout: Float[Array, "batch *image channels"], cache: Cache
) -> tuple[
    Float[Array, "batch *image channels"], Float[Array, " channels"], Float[Array, " channels"]
]:
    """dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + eps), g = dout·scale, means over a group.

    dscale = Σ dout·x̂, dshift = Σ dout over batch and places. Wu and He 2018.
    """
    x_hat, inverse_deviation, scale = cache
    rest = tuple(range(dout.ndim - 1))
    g = (dout * _last(scale, dout)).reshape(x_hat.shape)
    mean_g = g.mean(axis=(1, 3), keepdims=True)
    mean_gx = (g * x_hat).mean(axis=(1, 3), keepdims=True)
    dx = inverse_deviation * (g - mean_g - x_hat * mean_gx)
    dscale = (dout * x_hat.reshape(dout.shape)).sum(axis=rest)
    return dx.reshape(dout.shape), dscale, dout.sum(axis=rest)


def _grouped(x: Array, groups: int) -> Array:
    """Return x as [batch, places, groups, channels of a group]."""
    channels = x.shape[-1]
    _check(groups, channels)
    return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, channels // groups)


def _last(values: Array, like: Array) -> Array:
    return values.reshape(*[1] * (like.ndim - 1), -1)


def _check(groups: int, channels: int) -> None:
    if groups < 1 or channels % groups:
        raise ConfigurationError(
            f"group_norm: {channels} channels do not fall into {groups} equal groups: choose a "
            f"divisor of {channels}"
        )


@checked
def group_norm(groups: int, eps: ScalarLike = 1e-5, *, dtype: DTypeLike = jnp.float32) -> Layer:
    """Return it as a layer: scale starts at 1, shift at 0, one of each a channel."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        channels = input_shape[-1]
        _check(groups, channels)
        params = {"scale": jnp.ones(channels, dtype), "shift": jnp.zeros(channels, dtype)}
        return params, {}, input_shape

    def forward(params, state, x, *, key, train):
        out, cache = group_norm_forward(x, params["scale"], params["shift"], groups=groups, eps=eps)
        return out, cache, state

    def backward(dout, cache):
        dx, dscale, dshift = group_norm_backward(dout, cache)
        return dx, {"scale": dscale, "shift": dshift}

    return Layer("group_norm", init, forward, backward)
