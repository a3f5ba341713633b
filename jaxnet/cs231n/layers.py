"""The course's layer functions on NumPy arrays, computed by `jaxnet.layers` and `jaxnet.losses`.

Each `*_forward` returns (out, cache), each `*_backward(dout, cache)` the gradients, as NumPy arrays
of the caller's dtype. A cache serves only the matching backward pass.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from jaxnet import layers, losses
from jaxnet.cs231n import conventions
from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.cs231n.parameters import batchnorm_settings, keep_running, like, training
from jaxnet.cs231n.spatial import (
    conv_backward_naive,
    conv_forward_naive,
    max_pool_backward_naive,
    max_pool_forward_naive,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
    spatial_groupnorm_backward,
    spatial_groupnorm_forward,
)
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import as_dtype

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "conv_backward_naive",
    "conv_forward_naive",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
    "max_pool_backward_naive",
    "max_pool_forward_naive",
    "np",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "spatial_groupnorm_backward",
    "spatial_groupnorm_forward",
    "svm_loss",
]

Cache = Any
Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]

_affine_forward = compiled(layers.affine_forward)
_affine_backward = compiled(layers.affine_backward)
_relu_forward = compiled(layers.relu_forward)
_relu_backward = compiled(layers.relu_backward)
_batchnorm_forward = compiled(layers.batchnorm_forward, static=("train",))
_batchnorm_backward = compiled(layers.batchnorm_backward)
_layernorm_forward = compiled(layers.layernorm_forward)
_layernorm_backward = compiled(layers.layernorm_backward)
_dropout = compiled(layers.dropout_backward)  # a diagonal linear map, so forward is the same
_softmax_loss = compiled(lambda scores, y: losses.softmax_cross_entropy(scores, y))
_svm_loss = compiled(lambda scores, y: losses.multiclass_svm(scores, y))


def affine_forward(
    x: Any,
    w: Any,
    b: Any,
) -> tuple[Float[np.ndarray, "batch outputs"], Cache]:
    """out = x·w + b: x [batch, ...] flattened to [batch, inputs], w [inputs, outputs], b [outputs].

    See `jaxnet.layers.affine_forward`.
    """
    x, w, b = floats(x=x, w=w, b=b)
    if w.ndim != 2 or b.shape != w.shape[1:]:
        raise ConfigurationError(
            f"affine_forward expects weights w [inputs, outputs] and biases b [outputs], "
            f"got w {w.shape} and b {b.shape}"
        )
    if x.ndim < 1 or x.size != len(x) * len(w):
        raise ConfigurationError(
            f"affine_forward expects x [batch, ...] with {len(w)} values a row for weights "
            f"{w.shape}, got x {x.shape}: transpose x or w, or initialize w for this input"
        )
    out, cache = _affine_forward(x, w, b)
    return numpy(out), cache


def affine_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dw, db: dx = dout·wᵀ in the shape of x, dw = xᵀ·dout, db = Σ_batch dout."""
    x, w = cache
    return numpy(_affine_backward(like((len(x), w.shape[1]), dout, w), cache))


def relu_forward(x: Any) -> tuple[Float[np.ndarray, "*shape"], Cache]:
    """out = max(x, 0)."""
    out, cache = _relu_forward(*floats(x=x))
    return numpy(out), cache


def relu_backward(dout: Any, cache: Cache) -> Float[np.ndarray, "*shape"]:
    """dx = dout where x > 0, else 0: the derivative at 0 is 0. Any array x serves as cache."""
    (cache,) = (cache,) if isinstance(cache, jax.Array) else floats(cache=cache)
    return numpy(_relu_backward(like(cache.shape, dout, cache), cache))


def batchnorm_forward(
    x: Any,
    gamma: Any,
    beta: Any,
    bn_param: dict[str, Any],
) -> tuple[Float[np.ndarray, "batch features"], Cache]:
    """out = gamma·x̂ + beta, x̂ = (x − μ)/√(σ² + eps), over the batch of x [batch, features].

    `bn_param` holds mode ("train" or "test", required), eps (1e-5), momentum (0.9), running_mean
    and running_var (zeros); training writes the last two back into it, as the course does. σ² is
    the biased variance. See `jaxnet.layers.batchnorm_forward`.
    """
    x, gamma, beta = floats(x=x, gamma=gamma, beta=beta)
    _check_normalization("batchnorm_forward", x, gamma, beta)
    settings = batchnorm_settings(bn_param, x.shape[1], x.dtype)
    out, cache, running = _batchnorm_forward(x, gamma, beta, **settings)
    keep_running(bn_param, running)
    return numpy(out), (cache, settings["eps"])


def batchnorm_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dgamma, dbeta through the computational graph, by JAX's differentiation.

    `batchnorm_backward_alt` is the closed formula, so a comparison of the two checks both.
    """
    core, eps = cache
    return numpy(_batchnorm_through_graph(like(core.normalized.shape, dout, core.scale), core, eps))


@compiled
def _batchnorm_through_graph(dout, cache, eps):
    # The cache holds x̂ and 1/√(σ² + eps). Their quotient is x up to a shift of each feature, which
    # does not change the gradient: training ignores it, and with fixed statistics the layer is
    # linear in x.
    x = cache.normalized / cache.inverse_deviation[None, :]
    zeros = x[0] * 0
    variance = cache.inverse_deviation**-2 - as_dtype(eps, x)

    def forward(x, scale, shift):
        out, _, _ = layers.batchnorm_forward(
            x, scale, shift, zeros, variance, train=cache.train, eps=eps
        )
        return out

    _, backward = jax.vjp(forward, x, cache.scale, zeros)
    return backward(dout)


def batchnorm_backward_alt(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dgamma, dbeta by the closed formula, `jaxnet.layers.batchnorm_backward`."""
    core, _ = cache
    return numpy(_batchnorm_backward(like(core.normalized.shape, dout, core.scale), core))


def layernorm_forward(
    x: Any,
    gamma: Any,
    beta: Any,
    ln_param: dict[str, Any],
) -> tuple[Float[np.ndarray, "batch features"], Cache]:
    """out = gamma·x̂ + beta, x̂ = (x − μ)/√(σ² + eps), over a row of x [batch, features].

    `ln_param` may hold eps (1e-5).
    """
    x, gamma, beta = floats(x=x, gamma=gamma, beta=beta)
    _check_normalization("layernorm_forward", x, gamma, beta)
    out, cache = _layernorm_forward(x, gamma, beta, eps=ln_param.get("eps", 1e-5))
    return numpy(out), cache


def layernorm_backward(dout: Any, cache: Cache) -> Gradients:
    """Return dx, dgamma, dbeta. See `jaxnet.layers.layernorm_backward`."""
    x_hat, _, gamma, _ = cache
    return numpy(_layernorm_backward(like(x_hat.shape, dout, gamma), cache))


def dropout_forward(
    x: Any, dropout_param: dict[str, Any]
) -> tuple[Float[np.ndarray, "*shape"], Cache]:
    """Inverted dropout: out = x/keep where the mask is True, else 0; in test mode out = x.

    `dropout_param` holds mode ("train" or "test"), p and optionally a seed, which resets NumPy's
    global generator first. p is the probability to keep a value, or up to 2017 to drop it (see
    `jaxnet.cs231n.conventions`). The mask is `np.random.rand(*x.shape) < p` (up to 2017: > p).
    """
    (x,) = floats(x=x)
    mask = draw_mask(dropout_param, x.shape)
    return (x.copy() if mask is None else numpy(_dropout(x, mask))), mask


def dropout_backward(dout: Any, cache: Cache) -> Float[np.ndarray, "*shape"]:
    """dx = dout/keep where the mask is True, else 0; in test mode dx = dout."""
    (dout,) = floats(dout=dout)
    if cache is None:
        return dout.copy()
    return numpy(_dropout(like(cache[0].shape, dout, dout), cache))


def draw_mask(
    dropout_param: dict[str, Any], shape: tuple[int, ...]
) -> tuple[Bool[np.ndarray, "..."], float] | None:
    """Return a mask, True for values to keep, and the probability to keep; None in test mode."""
    if "p" not in dropout_param:
        raise ConfigurationError(
            f"dropout_param lacks 'p', got {sorted(dropout_param)}: "
            f"pass {{'mode': 'train', 'p': 0.5}}"
        )
    keep = float(conventions.keep_probability(dropout_param["p"]))
    if dropout_param.get("seed") is not None:
        np.random.seed(dropout_param["seed"])
    if not training("dropout_param", dropout_param):
        return None
    draw = np.random.rand(*shape)
    return (draw < keep if conventions.p_keeps() else draw > dropout_param["p"]), keep


def softmax_loss(x: Any, y: Any) -> tuple[Any, Float[np.ndarray, "batch classes"]]:
    """Return the mean cross-entropy of scores x [batch, classes] with labels y [batch], and dx.

    See `jaxnet.losses.softmax_cross_entropy`.
    """
    return numpy(_softmax_loss(*scores_and_labels(x, y)))


def svm_loss(x: Any, y: Any) -> tuple[Any, Float[np.ndarray, "batch classes"]]:
    """Return the mean multiclass hinge loss of scores x [batch, classes], margin 1, and dx.

    See `jaxnet.losses.multiclass_svm`.
    """
    return numpy(_svm_loss(*scores_and_labels(x, y)))


def scores_and_labels(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and labels as arrays that a loss accepts, or raise ConfigurationError."""
    (x,) = floats(x=x)
    if x.ndim != 2:
        raise ConfigurationError(f"a loss expects scores x [batch, classes], got {x.shape}")
    return x, labels(y, len(x), x.shape[1])


def labels(y: Any, rows: int, classes: int) -> np.ndarray:
    """Return labels as an array of one class a row, or raise ConfigurationError."""
    y = np.asarray(y)
    whole = y.dtype.kind in "iu" and y.ndim == 1
    if not whole or (
        y.size and y.astype(np.uint64).max() >= classes
    ):  # a negative label becomes huge
        losses.check_labels(y, classes)  # its error names the label
    if len(y) != rows:
        raise ConfigurationError(f"expected one label a row: got {len(y)} labels, {rows} rows")
    return y.astype(np.int64, copy=False)  # one dtype, so that one program serves all integers


def _check_normalization(name: str, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray) -> None:
    if x.ndim != 2 or gamma.shape != x.shape[1:] or beta.shape != x.shape[1:]:
        raise ConfigurationError(
            f"{name} expects x [batch, features] and gamma, beta [features], "
            f"got x {x.shape}, gamma {gamma.shape}, beta {beta.shape}"
        )
