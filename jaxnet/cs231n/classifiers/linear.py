"""The common part of both linear losses: scores X·W, a loss of the scores, a penalty on W."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from jaxnet import losses
from jaxnet.cs231n import conventions
from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.cs231n.layers import labels
from jaxnet.errors import ConfigurationError
from jaxnet.layers import affine_backward, affine_forward
from jaxnet.layers.layer import as_dtype

LossAndGradient = tuple[Any, Float[np.ndarray, "features classes"]]
DataLoss = Callable[[Array, Array], tuple[Array, Array]]


def loss_and_gradient(data_loss: DataLoss) -> Callable[..., tuple[Array, Array]]:
    """Return the pure (W, X, y, reg, convention) -> loss, dW for a loss of scores and labels.

    loss = data_loss(X·W, y) + reg·ΣW², or ½·reg·ΣW² by the convention (`losses.l2_penalty`), and
    dW = Xᵀ·dscores + the gradient of the penalty.
    """

    def evaluate(W, X, y, reg, convention):
        scores, cache = affine_forward(X, W, jnp.zeros(W.shape[1], W.dtype))
        loss, dscores = data_loss(scores, y)
        _, dW, _ = affine_backward(dscores, cache)
        penalty, grads = losses.l2_penalty({"w": W}, reg, convention=convention)
        return loss + penalty, dW + grads["w"]

    return evaluate


def for_numpy(data_loss: DataLoss) -> Callable[[Any, Any, Any, Any], LossAndGradient]:
    """Return (W, X, y, reg) -> loss, dW on NumPy arrays."""
    program = compiled(loss_and_gradient(data_loss), static=("convention",))

    def evaluate(W: Any, X: Any, y: Any, reg: Any) -> LossAndGradient:
        W, X, y = checked(W, X, y)
        return numpy(program(W, X, y, reg, convention=conventions.first_assignment_penalty()))

    return evaluate


def descent(data_loss: DataLoss) -> Callable[..., tuple[Array, Array]]:
    """Return the compiled step (W, X, y, learning_rate, reg, convention) -> W − η·dW, loss."""
    evaluate = loss_and_gradient(data_loss)

    def step(W, X, y, learning_rate, reg, convention):
        loss, dW = evaluate(W, X, y, reg, convention)
        return W - as_dtype(learning_rate, W) * dW, loss

    return compiled(step, static=("convention",))


def checked(W: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W and X in one dtype, and labels; raise ConfigurationError if they do not fit."""
    W, X = inputs(W, X)
    return W, X, labels(y, len(X), W.shape[1])


def inputs(W: Any, X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return W and X in one dtype; raise ConfigurationError if their shapes do not fit."""
    W, X = floats(W=W, X=X)
    if W.ndim != 2 or X.ndim != 2 or X.shape[1] != W.shape[0] or not len(X):
        raise ConfigurationError(
            f"expected weights W [D, C] and inputs X [N, D], got W {W.shape} and X {X.shape}: "
            f"make rows of images by X.reshape(len(X), -1), with a column of ones at the end if "
            f"W has a row for the bias"
        )
    return W, X
