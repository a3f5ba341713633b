"""Elementwise activations. Gradients are selected by `where`: a mask times infinity would be NaN.

Relu, leaky relu, tanh and sigmoid are differentiated from their output, which the next layer
caches anyway, so that their own cache costs no memory.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc
from jaxtyping import Array, Float, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.layers.layer import Cache, Layer, as_dtype, init_nothing


@checked
def relu_forward(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Cache]:
    """out = max(x, 0); NaN stays NaN.

    >>> out, cache = relu_forward(jnp.array([-1.0, 0.0, 2.0]))
    >>> relu_backward(jnp.array([5.0, 5.0, 5.0]), cache).tolist()
    [0.0, 0.0, 5.0]
    """
    out = jnp.where(x <= 0, 0, x)
    return out, out


@checked
def relu_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout where out > 0, else 0.

    At x = 0 the derivative is 0, as in jax.nn.relu, PyTorch and the course; the derivative of
    `jnp.maximum(x, 0)` there is ½. Nair and Hinton 2010.
    """
    return jnp.where(cache > 0, dout, 0)


@checked
def leaky_relu_forward(
    x: Float[Array, "*shape"], *, negative_slope: ScalarLike = 0.01
) -> tuple[Float[Array, "*shape"], Cache]:
    """out = x where x > 0, else negative_slope·x, with negative_slope ≥ 0.

    >>> out, cache = leaky_relu_forward(jnp.array([-1.0, 0.0, 2.0]), negative_slope=0.5)
    >>> out.tolist(), leaky_relu_backward(jnp.ones(3), cache).tolist()
    ([-0.5, 0.0, 2.0], [0.5, 0.5, 1.0])
    """
    slope = as_dtype(negative_slope, x)
    out = jnp.where(x > 0, x, slope * x)
    return out, (out, slope)


@checked
def leaky_relu_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout where out > 0, else negative_slope·dout; at x = 0 the derivative is the slope.

    The output has the sign of x because negative_slope ≥ 0. Maas et al. 2013.
    """
    out, slope = cache
    return jnp.where(out > 0, dout, slope * dout)


@checked
def tanh_forward(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Cache]:
    """out = tanh(x)."""
    out = jnp.tanh(x)
    return out, out


@checked
def tanh_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout·(1 − out²). LeCun et al. 1998, "Efficient BackProp"."""
    return dout * (1 - cache * cache)


@checked
def sigmoid_forward(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Cache]:
    """out = 1 / (1 + e^−x)."""
    out = jax.nn.sigmoid(x)
    return out, out


@checked
def sigmoid_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout·out·(1 − out). CS231n notes, "Backpropagation", sigmoid example."""
    return dout * cache * (1 - cache)


@checked
def gelu_forward(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Cache]:
    """out = x·Φ(x), with Φ(x) = ½·erfc(−x/√2) the standard normal distribution function.

    This is the exact form, as in PyTorch. `jax.nn.gelu` defaults to the tanh approximation, which
    differs by up to 5e-4.
    """
    return x * _normal_cdf(x), x


@checked
def gelu_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout·(Φ(x) + x·φ(x)), with φ(x) = e^(−x²/2)/√(2π). Hendrycks and Gimpel 2016."""
    x = cache
    density = jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return dout * (_normal_cdf(x) + x * density)


def _normal_cdf(x: Array) -> Array:
    return erfc(-x / math.sqrt(2)) / 2


ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "relu": (relu_forward, relu_backward),
    "leaky_relu": (leaky_relu_forward, leaky_relu_backward),
    "tanh": (tanh_forward, tanh_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "gelu": (gelu_forward, gelu_backward),
}


@checked
def activation(name: str, **settings: ScalarLike) -> Layer:
    """Return the activation of that name in `ACTIVATIONS` as a layer."""
    if name not in ACTIVATIONS:
        raise ConfigurationError(unknown("activation", name, ACTIVATIONS))
    activate, differentiate = ACTIVATIONS[name]

    def forward(params, state, x, *, key, train):
        return *activate(x, **settings), state

    def backward(dout, cache):
        return differentiate(dout, cache), {}

    return Layer(name, init_nothing, forward, backward)


@checked
def relu() -> Layer:
    """Return the layer max(x, 0)."""
    return activation("relu")


@checked
def leaky_relu(negative_slope: ScalarLike = 0.01) -> Layer:
    """Return the layer max(x, negative_slope·x)."""
    if isinstance(negative_slope, int | float) and negative_slope < 0:
        raise ConfigurationError(
            f"leaky_relu expects negative_slope ≥ 0, got {negative_slope}: "
            f"the slope multiplies negative inputs and is itself positive, say 0.01"
        )
    return activation("leaky_relu", negative_slope=negative_slope)


@checked
def tanh() -> Layer:
    """Return the layer tanh(x)."""
    return activation("tanh")


@checked
def sigmoid() -> Layer:
    """Return the layer 1 / (1 + e^−x)."""
    return activation("sigmoid")


@checked
def gelu() -> Layer:
    """Return the layer x·Φ(x)."""
    return activation("gelu")
