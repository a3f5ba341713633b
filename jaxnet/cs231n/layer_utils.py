"""The course's sandwich layers: an affine layer or a convolution with the layers after it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnet.cs231n.layers import (
    Cache,
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


def _forward(x: Any, *steps: tuple) -> tuple[np.ndarray, Cache]:
    """Apply steps (forward, *arguments) one after the other; return the output and all caches."""
    caches = []
    for forward, *arguments in steps:
        x, cache = forward(x, *arguments)
        caches.append(cache)
    return x, caches


def _backward(dout: Any, caches: Cache, *steps: Callable) -> tuple[np.ndarray, ...]:
    """Apply backward passes from the last step to the first; return dx and all other gradients."""
    gradients: tuple[np.ndarray, ...] = ()
    for backward, cache in zip(reversed(steps), reversed(caches), strict=True):
        result = backward(dout, cache)
        dout, *own = result if isinstance(result, tuple) else (result,)
        gradients = (*own, *gradients)
    return dout, *gradients


def affine_relu_forward(x: Any, w: Any, b: Any) -> tuple[np.ndarray, Cache]:
    """out = relu(x·w + b)."""
    return _forward(x, (affine_forward, w, b), (relu_forward,))


def affine_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db."""
    return _backward(dout, cache, affine_backward, relu_backward)


def affine_bn_relu_forward(
    x: Any, w: Any, b: Any, gamma: Any, beta: Any, bn_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(batchnorm(x·w + b))."""
    normalization = (batchnorm_forward, gamma, beta, bn_param)
    return _forward(x, (affine_forward, w, b), normalization, (relu_forward,))


def affine_bn_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    return _backward(dout, cache, affine_backward, batchnorm_backward_alt, relu_backward)


def affine_ln_relu_forward(
    x: Any, w: Any, b: Any, gamma: Any, beta: Any, ln_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(layernorm(x·w + b))."""
    normalization = (layernorm_forward, gamma, beta, ln_param)
    return _forward(x, (affine_forward, w, b), normalization, (relu_forward,))


def affine_ln_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    return _backward(dout, cache, affine_backward, layernorm_backward, relu_backward)


def conv_relu_forward(
    x: Any, w: Any, b: Any, conv_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = relu(conv(x, w) + b)."""
    return _forward(x, (conv_forward_naive, w, b, conv_param), (relu_forward,))


def conv_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db."""
    return _backward(dout, cache, conv_backward_naive, relu_backward)


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
    normalization = (spatial_batchnorm_forward, gamma, beta, bn_param)
    return _forward(x, (conv_forward_naive, w, b, conv_param), normalization, (relu_forward,))


def conv_bn_relu_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db, dgamma, dbeta."""
    return _backward(dout, cache, conv_backward_naive, spatial_batchnorm_backward, relu_backward)


def conv_relu_pool_forward(
    x: Any, w: Any, b: Any, conv_param: dict[str, Any], pool_param: dict[str, Any]
) -> tuple[np.ndarray, Cache]:
    """out = max_pool(relu(conv(x, w) + b))."""
    pool = (max_pool_forward_naive, pool_param)
    return _forward(x, (conv_forward_naive, w, b, conv_param), (relu_forward,), pool)


def conv_relu_pool_backward(dout: Any, cache: Cache) -> tuple[np.ndarray, ...]:
    """Return dx, dw, db."""
    return _backward(dout, cache, conv_backward_naive, relu_backward, max_pool_backward_naive)
