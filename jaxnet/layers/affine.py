"""The affine layer: out = x·w + b."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.checks import one_of, whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.kernels.draws import by_rows
from jaxnet.kernels.products import product, product_of_inputs, sum_of_rows, transposed_product
from jaxnet.layers.first_units import first_units_forward
from jaxnet.layers.layer import MOST, Cache, Layer, Shape, Tree, as_dtype


@checked
def affine_forward(
    x: Float[Array, "batch *features"],
    w: Float[Array, "inputs outputs"],
    b: Float[Array, " outputs"],
) -> tuple[Float[Array, "batch outputs"], Cache]:
    """out = x·w + b, with the trailing axes of x flattened to `inputs`.

    >>> out, cache = affine_forward(jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.zeros(4))
    >>> dx, dw, db = affine_backward(jnp.ones((2, 4)), cache)
    >>> out[0, 0].item(), dx[0, 0].item(), dw[0, 0].item(), db[0].item()
    (3.0, 4.0, 2.0, 2.0)
    """
    return _forward(product, x, w, b)


def _forward(
    multiply: Callable[[Array, Array], Array], x: Array, w: Array, b: Array
) -> tuple[Array, Cache]:
    inputs = math.prod(x.shape[1:])
    if inputs != w.shape[0]:
        raise ConfigurationError(
            f"affine expects {w.shape[0]} inputs for weights {w.shape}, got {inputs} from x "
            f"{x.shape}: initialize the network with input_shape={x.shape[1:]}"
        )
    return multiply(_rows(x), w) + b[None, :], (x, w)


@checked
def affine_backward(
    dout: Float[Array, "batch outputs"], cache: Cache
) -> tuple[
    Float[Array, "batch *features"], Float[Array, "inputs outputs"], Float[Array, " outputs"]
]:
    """dx = dout·wᵀ, dw = xᵀ·dout, db = Σ_batch dout.

    From out_nk = Σ_d x_nd w_dk + b_k: ∂out_nk/∂x_nd = w_dk, ∂out_nk/∂w_dk = x_nd, ∂out_nk/∂b_k = 1.
    CS231n notes, "Backpropagation, intuitions", section "Gradients for vectorized operations".
    """
    x, w = cache
    dx, dw = product(dout, w.T), transposed_product(_rows(x), dout)
    return dx.reshape(x.shape), dw, sum_of_rows(dout)


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


INITIALIZERS = {  # the variance of a weight
    "normal": lambda fan_in, fan_out: 1.0,
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


@checked
def affine(
    outputs: int,
    *,
    init: str = "he",
    scale: ScalarLike = 1.0,
    fan_in: ScalarLike | None = None,
    fan_out: ScalarLike | None = None,
    of_inputs: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Return the layer x·w + b: weights normal with deviation scale·gain(init), biases zero.

    The gain is 1 for "normal" (`scale` is the deviation itself; the course uses 1e-4 to 1e-2),
    √(2/inputs) for "he" (He et al. 2015, relu nets), √(2/(inputs+outputs)) for "glorot" (Glorot
    and Bengio 2010, tanh nets) and √(1/inputs) for "lecun" (LeCun et al. 1998).

    Of a layer padded to a common width, `fan_in` and `fan_out` are the true numbers of inputs and
    outputs, which may be traced: the gain is theirs, weights beyond them are zero, and the others
    are as in a layer of the true size.

    `of_inputs` says that x are a network's inputs: networks that train side by side may share them.
    """
    one_of("init", init, INITIALIZERS)
    outputs = whole("outputs", outputs, 1, MOST)

    def initialize(key: PRNGKeyArray, input_shape: Shape) -> tuple[Tree, Tree, Shape]:
        inputs = math.prod(input_shape)
        w = by_rows(functools.partial(jax.random.normal, dtype=dtype), key, (inputs, outputs))
        variance = INITIALIZERS[init](
            inputs if fan_in is None else as_dtype(fan_in, w),
            outputs if fan_out is None else as_dtype(fan_out, w),
        )
        gain = math.sqrt(variance) if isinstance(variance, float) else jnp.sqrt(variance)
        w = as_dtype(scale, w) * gain * w
        if fan_in is not None:
            w = first_units_forward(w.T, fan_in)[0].T
        if fan_out is not None:
            w = first_units_forward(w, fan_out)[0]
        return {"w": w, "b": jnp.zeros(outputs, dtype)}, {}, (outputs,)

    def forward(params, state, x, *, key, train):
        multiply = product_of_inputs if of_inputs else product
        out, cache = _forward(multiply, x, params["w"], params["b"])
        return out, cache, state

    def backward(dout, cache):
        dx, dw, db = affine_backward(dout, cache)
        return dx, {"w": dw, "b": db}

    return Layer("affine", initialize, forward, backward)
