"""Layer normalization: each sample to zero mean and unit variance over its features."""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.layers.layer import Cache, Layer, Shape, Tree, as_dtype, feature_count


def layernorm_forward(
    x: Float[Array, "batch features"],
    scale: Float[Array, " features"],
    shift: Float[Array, " features"],
    *,
    eps: ScalarLike = 1e-5,
) -> tuple[Float[Array, "batch features"], Cache]:
    """out = scale·x̂ + shift, x̂ = (x − μ)/√(σ² + eps), μ and biased σ² over the features of a row.

    Training and testing do not differ.

    >>> out, cache = layernorm_forward(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2), eps=0.0)
    >>> out.tolist()
    [[-1.0, 1.0]]
    """
    centred = x - x.mean(axis=1, keepdims=True)
    variance = jnp.square(centred).mean(axis=1, keepdims=True)
    inverse_deviation = lax.rsqrt(variance + as_dtype(eps, x))
    normalized = centred * inverse_deviation
    return scale[None, :] * normalized + shift[None, :], (normalized, inverse_deviation, scale)


def layernorm_backward(
    dout: Float[Array, "batch features"], cache: Cache
) -> tuple[Float[Array, "batch features"], Float[Array, " features"], Float[Array, " features"]]:
    """dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + eps), with g = dout·scale and means over a row.

    dscale = Σ_batch dout·x̂, dshift = Σ_batch dout. Ba, Kiros and Hinton 2016.
    """
    x_hat, inverse_deviation, scale = cache
    g = dout * scale[None, :]
    mean_g = g.mean(axis=1, keepdims=True)
    mean_gx = (g * x_hat).mean(axis=1, keepdims=True)
    dx = inverse_deviation * (g - mean_g - x_hat * mean_gx)
    return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)


def layernorm(eps: ScalarLike = 1e-5, *, dtype: DTypeLike = jnp.float32) -> Layer:
    """Return layer normalization as a layer: scale starts at 1, shift at 0."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        features = feature_count("layernorm", input_shape)
        params = {"scale": jnp.ones(features, dtype), "shift": jnp.zeros(features, dtype)}
        return params, {}, input_shape

    def forward(params, state, x, *, key, train):
        out, cache = layernorm_forward(x, params["scale"], params["shift"], eps=eps)
        return out, cache, state

    def backward(dout, cache):
        dx, dscale, dshift = layernorm_backward(dout, cache)
        return dx, {"scale": dscale, "shift": dshift}

    return Layer("layernorm", init, forward, backward)
