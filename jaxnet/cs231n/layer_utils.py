"""The course's sandwich layers: an affine layer with what commonly follows it, as one function."""

from typing import Any

import numpy as np

from jaxnet.cs231n.later import convolution
from jaxnet.cs231n.layers import (
    Cache,
    Gradients,
    affine_backward,
    affine_forward,
    batchnorm_backward_alt,
    batchnorm_forward,
    layernorm_backward,
    layernorm_forward,
    relu_backward,
    relu_forward,
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


conv_relu_forward = convolution("conv_relu_forward")
conv_relu_backward = convolution("conv_relu_backward")
conv_bn_relu_forward = convolution("conv_bn_relu_forward")
conv_bn_relu_backward = convolution("conv_bn_relu_backward")
conv_relu_pool_forward = convolution("conv_relu_pool_forward")
conv_relu_pool_backward = convolution("conv_relu_pool_backward")
