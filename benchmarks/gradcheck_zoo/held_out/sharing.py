"""Bugs in what a gradient is taken of: shared parameters, false constants, old residuals."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like

(NOISE,) = draw(270, (5, 3))


def twice(x, w):
    return jnp.tanh(jnp.tanh(x @ w) @ w)


def twice_right(dout, x, w, *, first=1.0):
    hidden = jnp.tanh(x @ w)
    dz = dout * (1 - jnp.square(jnp.tanh(hidden @ w)))
    dhidden = (dz @ w.T) * (1 - hidden * hidden)
    return dhidden @ w.T, hidden.T @ dz + first * (x.T @ dhidden)


def _of_the_second_input(dout, x, w):
    """The residual of the first product was overwritten by that of the second."""
    hidden = jnp.tanh(x @ w)
    dz = dout * (1 - jnp.square(jnp.tanh(hidden @ w)))
    dhidden = (dz @ w.T) * (1 - hidden * hidden)
    return dhidden @ w.T, hidden.T @ dz + hidden.T @ dhidden


# x/scale, the scale measured on x


def scaled(x):
    return jnp.tanh(x / jnp.abs(x).max())


def _scale_constant(x):
    return jnp.tanh(x / lax.stop_gradient(jnp.abs(x).max()))


# Weights p of a softmax that is shifted by a maximum: shifting may be constant, the sum may not


def _log_softmax(x, constant):
    shifted = x - lax.stop_gradient(x.max(1, keepdims=True))
    total = jnp.exp(shifted).sum(1, keepdims=True)
    return shifted - jnp.log(lax.stop_gradient(total) if constant else total)


def log_softmax(x):
    return _log_softmax(x, False)


# mean + exp(log_variance/2)·noise, and its divergence from the standard normal


def variational(mean, log_variance):
    z = mean + jnp.exp(log_variance / 2) * like(NOISE, mean)
    divergence = (jnp.exp(log_variance) + mean * mean - 1 - log_variance).sum() / 2
    return jnp.square(jnp.tanh(z)).sum() + divergence


def variational_right(dout, mean, log_variance, *, half=0.5):
    deviation = jnp.exp(log_variance / 2)
    t = jnp.tanh(mean + deviation * like(NOISE, mean))
    dz = 2 * t * (1 - t * t)
    dvariance = half * dz * deviation * like(NOISE, mean) + (jnp.exp(log_variance) - 1) / 2
    return dout * (dz + mean), dout * dvariance


# Fake quantization of the weights without straight-through: the scale is a parameter


def quantized(w, s):
    return s * lax.stop_gradient(jnp.round(w / s)) + 0 * w


def _scale_by_weights(dout, w, s):
    return jnp.zeros_like(w), (dout * w / s).sum()


# Mean over the batch in the loss of one branch, sum in the other


def two_losses(x, w):
    y = x @ w
    return jnp.square(y).mean() + 1e-3 * jnp.abs(w).sum()


def two_losses_right(dout, x, w, *, sign=1.0):
    y = x @ w
    dy = dout * 2 * y / y.size
    return dy @ w.T, x.T @ dy + sign * dout * 1e-3 * jnp.sign(w)


# A layer that is evaluated again in its backward pass, with another option


def dropped(x, w):
    return jax.nn.silu(x @ w) * like(np.arange(15).reshape(5, 3) % 3 != 0, x)


def _evaluated_in_test_mode(dout, x, w):
    return autodiff(lambda x, w: jax.nn.silu(x @ w) * (2 / 3))(dout, x, w)


BUGS = (
    Bug(
        "shared twice over",
        "one of two uses of w counted twice",
        twice,
        draw(271, (5, 3), (3, 3)),
        twice_right,
        lambda dout, x, w: twice_right(dout, x, w, first=2.0),
    ),
    Bug(
        "residual overwritten",
        "by that of a later use of the layer",
        twice,
        draw(272, (5, 3), (3, 3)),
        twice_right,
        _of_the_second_input,
    ),
    Bug(
        "measured scale constant",
        "stop_gradient around the maximum",
        scaled,
        draw(273, (4, 3)),
        autodiff(scaled),
        autodiff(_scale_constant),
    ),
    Bug(
        "normalizer constant",
        "stop_gradient one term too far in",
        log_softmax,
        draw(274, (4, 3)),
        autodiff(log_softmax),
        autodiff(lambda x: _log_softmax(x, True)),
    ),
    Bug(
        "half of the log-variance",
        "½ missing where the noise is scaled",
        variational,
        draw(275, (5, 3), (5, 3)),
        variational_right,
        lambda dout, *args: variational_right(dout, *args, half=1.0),
    ),
    Bug(
        "quantizer scale by weights",
        "w/s for its rounding",
        quantized,
        (draw(276, (4, 3))[0], np.array(0.31)),
        autodiff(quantized),
        _scale_by_weights,
    ),
    Bug(
        "lasso sign",
        "1e-3·|w| with the other sign",
        two_losses,
        draw(277, (5, 3), (3, 2)),
        two_losses_right,
        lambda dout, x, w: two_losses_right(dout, x, w, sign=-1.0),
    ),
    Bug(
        "evaluated again in test mode",
        "the mask's mean for the mask",
        dropped,
        draw(278, (5, 4), (4, 3)),
        autodiff(dropped),
        _evaluated_in_test_mode,
    ),
)
