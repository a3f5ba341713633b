"""Inverted dropout: zero each value with probability `rate` and enlarge the survivors."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.kernels.draws import by_rows
from jaxnet.layers.layer import Cache, Layer, as_dtype, init_nothing


@checked
def dropout_forward(
    x: Float[Array, "*shape"], rate: ScalarLike, key: PRNGKeyArray | None, *, train: bool
) -> tuple[Float[Array, "*shape"], Cache]:
    """out = x/(1 − rate) where kept, else 0; each value is kept with probability 1 − rate.

    `rate` is the probability to drop and may be traced; the course's p is the probability to
    keep. Rate 0 and `train=False` give x itself, rate 1 gives zeros. One key gives one mask,
    whatever the dtype of x; the mask of the first features, its last axis, whatever their number.

    >>> out, cache = dropout_forward(jnp.ones(4), 0.5, jax.random.key(0), train=True)
    >>> bool((dropout_backward(jnp.ones(4), cache) == out).all()), set(out.tolist()) <= {0.0, 2.0}
    (True, True)
    """
    if not train:
        return x, None
    if key is None:
        raise ConfigurationError(
            "dropout with train=True draws a mask, got key=None: pass key=jax.random.key(seed)"
        )
    draws = by_rows(functools.partial(jax.random.uniform, dtype=jnp.float32), key, x.shape)
    keep = draws < 1 - jnp.asarray(rate, jnp.float32)
    survival = 1 - as_dtype(rate, x)
    survival = jnp.where(survival > 0, survival, 1)  # at rate 1 nothing is kept: avoid 0/0
    return jnp.where(keep, x / survival, 0), (keep, survival)


@checked
def dropout_backward(dout: Float[Array, "*shape"], cache: Cache) -> Float[Array, "*shape"]:
    """dx = dout/(1 − rate) where kept, else 0. Srivastava et al. 2014."""
    if cache is None:
        return dout
    keep, survival = cache
    return jnp.where(keep, dout / survival, 0)


@checked
def dropout(rate: ScalarLike) -> Layer:
    """Return dropout as a layer; `rate`, the probability to drop, may be traced."""
    if isinstance(rate, int | float) and not 0 <= rate <= 1:
        raise ConfigurationError(
            f"dropout expects a rate from 0 to 1, got {rate}: it is the probability to drop, "
            f"for a percentage divide by 100"
        )

    def forward(params, state, x, *, key, train):
        return *dropout_forward(x, rate, key, train=train), state

    def backward(dout, cache):
        return dropout_backward(dout, cache), {}

    return Layer("dropout", init_nothing, forward, backward)
