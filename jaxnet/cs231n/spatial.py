"""The course's layers for images, NumPy arrays [N, C, H, W], computed by `jaxnet.layers`."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxnet import layers
from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.cs231n.parameters import batchnorm_settings, keep_running, like
from jaxnet.errors import ConfigurationError

Cache = Any
Images = Float[np.ndarray, "batch channels height width"]


def _last(x):
    """Return images [N, C, H, W] as [N, H, W, C], the order of `jaxnet.layers`."""
    return jnp.moveaxis(x, 1, -1)


def _first(x):
    return jnp.moveaxis(x, -1, 1)


@functools.partial(compiled, static=("stride", "pad"))
def _conv_forward(x, w, b, stride, pad):
    kernel = w.transpose(2, 3, 1, 0)
    out, cache = layers.conv2d_forward(_last(x), kernel, b, stride=stride, padding=pad)
    return _first(out), cache


@compiled
def _conv_backward(dout, cache):
    dx, dw, db = layers.conv2d_backward(_last(dout), cache)
    return _first(dx), dw.transpose(3, 2, 0, 1), db


@functools.partial(compiled, static=("window", "stride"))
def _max_pool_forward(x, window, stride):
    out, cache = layers.max_pool_forward(_last(x), window=window, stride=stride)
    return _first(out), cache


@compiled
def _max_pool_backward(dout, cache):
    return _first(layers.max_pool_backward(_last(dout), cache))


@functools.partial(compiled, static=("train",))
def _batchnorm_forward(x, *arguments, **settings):
    out, cache, running = layers.spatial_batchnorm_forward(_last(x), *arguments, **settings)
    return _first(out), cache, running


@compiled
def _batchnorm_backward(dout, cache):
    dx, dscale, dshift = layers.spatial_batchnorm_backward(_last(dout), cache)
    return _first(dx), dscale, dshift


@functools.partial(compiled, static=("groups",))
def _group_norm_forward(x, scale, shift, groups, eps):
    out, cache = layers.group_norm_forward(_last(x), scale, shift, groups=groups, eps=eps)
    return _first(out), cache


@compiled
def _group_norm_backward(dout, cache):
    dx, dscale, dshift = layers.group_norm_backward(_last(dout), cache)
    return _first(dx), dscale, dshift


def conv_forward_naive(x: Any, w: Any, b: Any, conv_param: dict[str, Any]) -> tuple[Images, Cache]:
    """out[n, f] = Σ_c x[n, c] ⋆ w[f, c] + b[f]: x [N, C, H, W], w [F, C, HH, WW], b [F].

    `conv_param` holds stride and pad, the zeros around x on each side. The course's name is naive,
    `jaxnet.layers.conv2d_forward` behind it is not.
    """
    x, w, b = floats(x=x, w=w, b=b)
    _check_images("conv_forward_naive", x)
    if w.ndim != 4 or w.shape[1] != x.shape[1] or b.shape != w.shape[:1]:
        raise ConfigurationError(
            f"conv_forward_naive expects weights w [filters, {x.shape[1]}, height, width] for x "
            f"{x.shape} and biases b [filters], got w {w.shape} and b {b.shape}"
        )
    stride, pad = (_whole("conv_param", conv_param, name) for name in ("stride", "pad"))
    out, cache = _conv_forward(x, w, b, stride=stride, pad=pad)
    out = numpy(out)
    return out, (cache, out.shape)


def conv_backward_naive(dout: Any, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dx, dw, db in the shapes of x, w, b."""
    core, shape = cache
    return numpy(_conv_backward(like(shape, dout, core.w), core))


def max_pool_forward_naive(x: Any, pool_param: dict[str, Any]) -> tuple[Images, Cache]:
    """out = the maximum of each window of each channel of x [N, C, H, W].

    `pool_param` holds pool_height, pool_width and stride. See `jaxnet.layers.max_pool_forward`.
    """
    (x,) = floats(x=x)
    _check_images("max_pool_forward_naive", x)
    names = ("pool_height", "pool_width", "stride")
    height, width, stride = (_whole("pool_param", pool_param, name) for name in names)
    out, cache = _max_pool_forward(x, window=(height, width), stride=stride)
    out = numpy(out)
    return out, (cache, out)


def max_pool_backward_naive(dout: Any, cache: Cache) -> Images:
    """Return dx; the first of equal maxima in a window gets the gradient."""
    core, out = cache
    return numpy(_max_pool_backward(like(out.shape, dout, out), core))


def spatial_batchnorm_forward(
    x: Any, gamma: Any, beta: Any, bn_param: dict[str, Any]
) -> tuple[Images, Cache]:
    """Normalize each channel of x [N, C, H, W] over batch and pixels; gamma, beta [C].

    `bn_param` is as for `jaxnet.cs231n.layers.batchnorm_forward`, with running statistics.
    """
    x, gamma, beta = floats(x=x, gamma=gamma, beta=beta)
    _check_scales("spatial_batchnorm_forward", x, gamma, beta)
    settings = batchnorm_settings(bn_param, x.shape[1], x.dtype)
    statistics = settings.pop("running_mean"), settings.pop("running_variance")
    out, cache, running = _batchnorm_forward(x, gamma, beta, *statistics, **settings)
    keep_running(bn_param, running)
    return numpy(out), (cache, x.shape)


def spatial_batchnorm_backward(
    dout: Any, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dx, dgamma, dbeta. See `jaxnet.layers.batchnorm_backward`."""
    core, shape = cache
    return numpy(_batchnorm_backward(like(shape, dout, core.scale), core))


def spatial_groupnorm_forward(
    x: Any, gamma: Any, beta: Any, G: int, gn_param: dict[str, Any]
) -> tuple[Images, Cache]:
    """Normalize each of G groups of channels of each sample of x [N, C, H, W].

    gamma and beta have C values, as [C] or [1, C, 1, 1]; `gn_param` may hold eps (1e-5).
    """
    x, gamma, beta = floats(x=x, gamma=gamma, beta=beta)
    given = gamma.shape
    _check_scales("spatial_groupnorm_forward", x, gamma.reshape(-1), beta.reshape(-1))
    eps = gn_param.get("eps", 1e-5)
    out, cache = _group_norm_forward(x, gamma.reshape(-1), beta.reshape(-1), groups=G, eps=eps)
    return numpy(out), (cache, x.shape, given)


def spatial_groupnorm_backward(
    dout: Any, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return dx, and dgamma and dbeta in the shape of gamma."""
    core, shape, given = cache
    dx, dgamma, dbeta = numpy(_group_norm_backward(like(shape, dout, core[2]), core))
    return dx, dgamma.reshape(given), dbeta.reshape(given)


def _check_images(name: str, x: np.ndarray) -> None:
    if x.ndim != 4:
        raise ConfigurationError(f"{name} expects images x [N, C, H, W], got x {x.shape}")


def _check_scales(name: str, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> None:
    _check_images(name, x)
    if gamma.shape != (x.shape[1],) or beta.shape != gamma.shape:
        raise ConfigurationError(
            f"{name} expects gamma and beta of {x.shape[1]} values for x {x.shape}, got "
            f"{gamma.shape} and {beta.shape}"
        )


def _whole(where: str, param: dict[str, Any], name: str) -> int:
    if name not in param:
        raise ConfigurationError(f"{where} lacks {name!r}, got {sorted(param)}")
    return int(param[name])
