"""Batch normalization: each feature to zero mean and unit variance over the batch."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.layers.layer import Layer, Shape, Tree, as_dtype, feature_count


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BatchnormCache:
    """What `batchnorm_backward` needs; `train` is static, so a cache knows which mode it is of."""

    normalized: Float[Array, "batch features"]
    inverse_deviation: Float[Array, " features"]
    scale: Float[Array, " features"]
    train: bool = field(metadata={"static": True})


@checked
def batchnorm_forward(
    x: Float[Array, "batch features"],
    scale: Float[Array, " features"],
    shift: Float[Array, " features"],
    running_mean: Float[Array, " features"],
    running_variance: Float[Array, " features"],
    *,
    train: bool,
    momentum: ScalarLike = 0.9,
    eps: ScalarLike = 1e-5,
) -> tuple[
    Float[Array, "batch features"],
    BatchnormCache,
    tuple[Float[Array, " features"], Float[Array, " features"]],
]:
    """out = scale·x̂ + shift, x̂ = (x − μ)/√(σ² + eps); returns out, cache, running statistics.

    In training μ and σ² are the mean and the biased variance (divided by batch) of each feature,
    and running ← momentum·running + (1 − momentum)·batch. Otherwise they are the running ones.
    PyTorch differs: its momentum is our 1 − momentum, its running variance is unbiased and starts
    at 1, ours at 0 as in the course.

    >>> x, one, zero = jnp.array([[1.0], [3.0]]), jnp.ones(1), jnp.zeros(1)
    >>> out, cache, running = batchnorm_forward(x, one, zero, zero, zero, train=True, eps=0.0)
    >>> out[:, 0].tolist(), round(running[0].item(), 6)
    ([-1.0, 1.0], 0.2)
    """
    if train:
        mean = x.mean(axis=0)
        variance = jnp.square(x - mean[None, :]).mean(axis=0)
        momentum = as_dtype(momentum, x)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_variance = momentum * running_variance + (1 - momentum) * variance
    else:
        mean, variance = running_mean, running_variance
    inverse_deviation = lax.rsqrt(variance + as_dtype(eps, x))
    normalized = (x - mean[None, :]) * inverse_deviation[None, :]
    out = scale[None, :] * normalized + shift[None, :]
    cache = BatchnormCache(normalized, inverse_deviation, scale, train)
    return out, cache, (running_mean, running_variance)


@checked
def batchnorm_backward(
    dout: Float[Array, "batch features"], cache: BatchnormCache
) -> tuple[Float[Array, "batch features"], Float[Array, " features"], Float[Array, " features"]]:
    """dshift = Σ dout, dscale = Σ dout·x̂, dx = scale/√(σ² + eps)·(dout − (dshift + x̂·dscale)/N).

    Σ runs over the batch of N. The subtracted terms come from the dependence of μ and σ² on x;
    without training the statistics are constants and the terms are absent. Ioffe and Szegedy 2015.
    """
    x_hat = cache.normalized
    dshift = dout.sum(axis=0)
    dscale = (dout * x_hat).sum(axis=0)
    dcentred = dout
    if cache.train:
        dcentred = dout - (dshift[None, :] + x_hat * dscale[None, :]) / dout.shape[0]
    dx = (cache.scale * cache.inverse_deviation)[None, :] * dcentred
    return dx, dscale, dshift


@checked
def batchnorm(
    momentum: ScalarLike = 0.9, eps: ScalarLike = 1e-5, *, dtype: DTypeLike = jnp.float32
) -> Layer:
    """Return batch normalization as a layer: scale starts at 1, everything else at 0."""

    def init(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        features = feature_count("batchnorm", input_shape)
        zeros = jnp.zeros(features, dtype)
        params = {"scale": jnp.ones(features, dtype), "shift": zeros}
        return params, {"running_mean": zeros, "running_variance": zeros}, input_shape

    def forward(params, state, x, *, key, train):
        out, cache, (mean, variance) = batchnorm_forward(
            x,
            params["scale"],
            params["shift"],
            state["running_mean"],
            state["running_variance"],
            train=train,
            momentum=momentum,
            eps=eps,
        )
        return out, cache, {"running_mean": mean, "running_variance": variance}

    def backward(dout, cache):
        dx, dscale, dshift = batchnorm_backward(dout, cache)
        return dx, {"scale": dscale, "shift": dshift}

    return Layer("batchnorm", init, forward, backward)
