"""Layer normalization: each sample to zero mean and unit variance over its features."""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.layers.first_units import first_units_forward
from jaxnet.layers.layer import Cache, Layer, Shape, Tree, as_dtype, feature_count


@checked
def layernorm_forward(
    x: Float[Array, "batch features"],
    scale: Float[Array, " features"],
    shift: Float[Array, " features"],
    *,
    eps: ScalarLike = 1e-5,
    width: ScalarLike | None = None,
) -> tuple[Float[Array, "batch features"], Cache]:
    """out = scale·x̂ + shift, x̂ = (x − μ)/√(σ² + eps), μ and biased σ² over the features of a row.

    Training and testing do not differ. With `width`, which may be traced, a row is its first
    `width` features; the others are not looked at and come out zero.

    >>> out, cache = layernorm_forward(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), eps=0.0)
    >>> out.tolist()
    [[-1.0, 1.0]]
    """
    x = _first(x, width)
    centred = _first(x - _mean(x, width), width)
    variance = _mean(jnp.square(centred), width)
    inverse_deviation = lax.rsqrt(variance + as_dtype(eps, x))
    normalized = centred * inverse_deviation
    out = _first(scale[None, :] * normalized + shift[None, :], width)
    return out, (normalized, inverse_deviation, scale, width)


@checked
def layernorm_backward(
    dout: Float[Array, "batch features"], cache: Cache
) -> tuple[Float[Array, "batch features"], Float[Array, " features"], Float[Array, " features"]]:
    """dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + eps), with g = dout·scale and means over a row.

    dscale = Σ_batch dout·x̂, dshift = Σ_batch dout. All are zero beyond `width`, where x̂ is, too.
    Ba, Kiros and Hinton 2016.
    """
    x_hat, inverse_deviation, scale, width = cache
    dout = _first(dout, width)
    g = dout * scale[None, :]
    mean_g = _mean(g, width)
    mean_gx = _mean(g * x_hat, width)
    dx = _first(inverse_deviation * (g - mean_g - x_hat * mean_gx), width)
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def _first(x: Array, width: ScalarLike | None) -> Array:
    return x if width is None else first_units_forward(x, width)[0]


def _mean(x: Array, width: ScalarLike | None) -> Array:
    """Return the mean of each row of an x that is zero beyond `width`."""
    if width is None:
        return x.mean(axis=1, keepdims=True)
    return x.sum(axis=1, keepdims=True) / as_dtype(width, x)


@checked
def layernorm(
    eps: ScalarLike = 1e-5, *, width: ScalarLike | None = None, dtype: DTypeLike = jnp.float32
) -> Layer:
    """Return layer normalization as a layer: scale starts at 1, shift at 0."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        features = feature_count("layernorm", input_shape)
        params = {"scale": jnp.ones(features, dtype), "shift": jnp.zeros(features, dtype)}
        return params, {}, input_shape

    def forward(params, state, x, *, key, train):
        out, cache = layernorm_forward(x, params["scale"], params["shift"], eps=eps, width=width)
        return out, cache, state

    def backward(dout, cache):
        dx, dscale, dshift = layernorm_backward(dout, cache)
        return dx, {"scale": dscale, "shift": dshift}

    return Layer("layernorm", init, forward, backward)
