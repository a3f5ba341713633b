"""The course's sandwich layers: an affine layer with what commonly follows it, as one function."""

from typing import Any

import numpy as np

from jaxnet.cs231n.layers import (
    Cache,
    Gradients,
    affine_backward,
    affine_forward,
    batchnorm_backward_alt,
    batchnorm_forward,
    conv_backward_naive,
    conv_forward_naive,
    layernorm_backward,
    layernorm_forward,
    max_pool_backward_naive,
    max_pool_forward_naive,
    relu_backward,
    relu_forward,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)

__all__ = [
    "affine_bn_relu_backward",
    "affine_bn_relu_forward",
    "affine_ln_relu_backward",
    "affine_ln_relu_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "conv_bn_relu_backward",
    "conv_bn_relu_forward",
    "conv_relu_backward",
    "conv_relu_forward",
    "conv_relu_pool_backward",
    "conv_relu_pool_forward",
]


def affine_relu_forward(x: Any, w: Any, b: Any) -> tuple[np.ndarray, Cache]:
    """out = relu(x·w + b)."""
    a, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dw, db."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


def affine_bn_relu_forward(
    x: Any, w: Any, b: Any, gamma: Any, beta: Any, bn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(batchnorm(x·w + b))."""
    a, affine_cache = affine_forward(x, w, b)
    a, norm_cache = batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, norm_cache, relu_cache)


def affine_bn_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    affine_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = batchnorm_backward_alt(relu_backward(dout, relu_cache), norm_cache)
    return *affine_backward(da, affine_cache), dgamma, dbeta


def affine_ln_relu_forward(
    x: Any, w: Any, b: Any, gamma: Any, beta: Any, ln_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(layernorm(x·w + b))."""
    a, affine_cache = affine_forward(x, w, b)
    a, norm_cache = layernorm_forward(a, gamma, beta, ln_param)
    out, relu_cache = relu_forward(a)
    return out, (affine_cache, norm_cache, relu_cache)


def affine_ln_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    affine_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = layernorm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *affine_backward(da, affine_cache), dgamma, dbeta


def conv_relu_forward(
    x: Any, w: Any, b: Any, conv_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(conv(x, w) + b)."""
    a, conv_cache = conv_forward_naive(x, w, b, conv_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, relu_cache)


def conv_relu_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dw, db."""
    conv_cache, relu_cache = cache
    return conv_backward_naive(relu_backward(dout, relu_cache), conv_cache)


def conv_bn_relu_forward(
    x: Any,
    w: Any,
    b: Any,
    gamma: Any,
    beta: Any,
    conv_param: dict[str, Any],
    bn_param: dict[str, Any],
) -> tuple[np.ndarray, Cache]:
    """out = relu(spatial_batchnorm(conv(x, w) + b))."""
    a, conv_cache = conv_forward_naive(x, w, b, conv_param)
    a, norm_cache = spatial_batchnorm_forward(a, gamma, beta, bn_param)
    out, relu_cache = relu_forward(a)
    return out, (conv_cache, norm_cache, relu_cache)


def conv_bn_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    conv_cache, norm_cache, relu_cache = cache
    da, dgamma, dbeta = spatial_batchnorm_backward(relu_backward(dout, relu_cache), norm_cache)
    return *conv_backward_naive(da, conv_cache), dgamma, dbeta


def conv_relu_pool_forward(
    x: Any, w: Any, b: Any, conv_param: dict[str, Any], pool_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = max_pool(relu(conv(x, w) + b))."""
    a, cache = conv_relu_forward(x, w, b, conv_param)
    out, pool_cache = max_pool_forward_naive(a, pool_param)
    return out, (cache, pool_cache)


def conv_relu_pool_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dw, db."""
    cache, pool_cache = cache
    return conv_relu_backward(max_pool_backward_naive(dout, pool_cache), cache)
