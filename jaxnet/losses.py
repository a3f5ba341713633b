"""Losses: the value and d(loss)/d(scores) together, and the L2 penalty on weights."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, PyTree, ScalarLike

from jaxnet.arguments.checks import one_of, whole
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.kernels.products import sum_of_all, sum_of_classes
from jaxnet.layers.layer import as_dtype


@checked
def softmax_cross_entropy(
    scores: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    label_smoothing: ScalarLike = 0.0,
) -> tuple[Float[Array, ""], Float[Array, "batch classes"]]:
    """loss = mean_i Σ_c −t_ic·log p_ic, dscores = (p − t)/batch, p = softmax(scores).

    The targets t are one-hot, or (1 − ε)·onehot + ε/classes with label_smoothing ε (Szegedy et
    al. 2016). log p subtracts the row maximum first, so that no exponential overflows. CS231n
    notes, "Linear classification", section "Softmax classifier".

    >>> loss, dscores = softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))
    >>> round(loss.item(), 4), dscores.tolist()
    (1.3863, [[0.25, 0.25, -0.75, 0.25]])
    """
    targets = _targets(scores, labels, label_smoothing)
    shifted = scores - lax.stop_gradient(scores.max(axis=1, keepdims=True))
    log_p = shifted - jnp.log(sum_of_classes(jnp.exp(shifted)))
    # A score of −∞ for a class that is no target adds 0, not 0·∞.
    loss = -sum_of_all(jnp.where(targets > 0, targets * log_p, 0)) / len(scores)
    return loss, (jnp.exp(log_p) - targets) / len(scores)


@checked
def multiclass_svm(
    scores: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    margin: ScalarLike = 1.0,
) -> tuple[Float[Array, ""], Float[Array, "batch classes"]]:
    """loss = mean_i Σ_{c≠y_i} max(0, s_ic − s_iy + margin); the derivative at the hinge is 0.

    dscores_ic = [margin violated]/batch for c ≠ y, and minus the row's count of violations/batch
    for c = y. Weston and Watkins 1999, as in the CS231n notes, "Linear classification".

    >>> loss, dscores = multiclass_svm(jnp.array([[3.0, 2.5, -1.0]]), jnp.array([0]))
    >>> loss.item(), dscores.tolist()
    (0.5, [[-1.0, 1.0, 0.0]])
    """
    correct = _one_hot(scores, labels)
    correct_scores = jnp.where(correct, scores, 0).sum(axis=1, keepdims=True)
    excess = jnp.where(correct, 0, scores - correct_scores + as_dtype(margin, scores))
    loss = jnp.where(excess <= 0, 0, excess).sum() / len(scores)
    violated = (excess > 0).astype(scores.dtype)
    dscores = jnp.where(correct, -violated.sum(axis=1, keepdims=True), violated)
    return loss, dscores / len(scores)


@checked
def squared_error(
    scores: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    label_smoothing: ScalarLike = 0.0,
) -> tuple[Float[Array, ""], Float[Array, "batch classes"]]:
    """loss = mean_i Σ_c (s_ic − t_ic)², dscores = 2·(s − t)/batch; targets as for softmax.

    There is neither a ½ nor a division by the number of classes, both of which other libraries
    have (PyTorch's MSELoss divides by classes): 20 classes all scored 1/20 cost 0.95.

    >>> loss, dscores = squared_error(jnp.full((1, 20), 0.05), jnp.array([7]))
    >>> round(loss.item(), 6), round(dscores[0, 7].item(), 6)
    (0.95, -1.9)
    """
    error = scores - _targets(scores, labels, label_smoothing)
    return jnp.square(error).sum() / len(scores), 2 * error / len(scores)


def _unsmoothed_svm(scores, labels, label_smoothing=0.0):
    if isinstance(label_smoothing, int | float) and label_smoothing != 0:
        raise ConfigurationError(
            f"the svm loss has no targets to smooth, got label_smoothing={label_smoothing}: "
            f"set it to 0 or choose the loss {' or '.join(SMOOTHED_LOSSES)}"
        )
    return multiclass_svm(scores, labels)


LOSSES: dict[str, Callable[..., tuple[Array, Array]]] = {
    "softmax": softmax_cross_entropy,
    "svm": _unsmoothed_svm,
    "squared_error": squared_error,
}
"""Each is called as (scores, labels, label_smoothing) -> loss, dscores."""

SMOOTHED_LOSSES = ("softmax", "squared_error")
"""The losses that have targets to smooth; "svm" refuses a number but 0, ignores a traced one."""


_MOST_CLASSES = 1 << 20  # of a sum over all of them


class ChanceLoss(NamedTuple):
    """Mean losses of predictions that know nothing of the images: see `chance_loss`."""

    uniform: float
    random: float


@checked
def chance_loss(loss: str, classes: int) -> ChanceLoss:
    """Return what a loss is worth without knowledge, at label smoothing 0: what a value tells.

    `uniform`: all classes alike, where training begins and what it falls back to. `random`:
    confident without reason. A loss near the first has learned nothing, one near or above the
    second is worse than ignorant. With C classes, means over labels that are equally frequent:

                    uniform                                random
        softmax     ln C                                   1 + ½ + … + 1/(C − 1)
        squared     1 − 1/C                                1 − 2/C + 2/(C + 1)
        svm         C − 1                                  (C − 1)·(Φ(1/√2) + √2·φ(1/√2))

    Uniform: probabilities 1/C for the first two, equal scores for the hinge of margin 1. Random:
    probabilities drawn evenly from all that sum to 1 (for softmax its scores' logarithms), or
    scores drawn standard normal for the hinge, where Φ and φ are the normal distribution's.

    >>> round(chance_loss("softmax", 10).uniform, 4), round(chance_loss("softmax", 10).random, 4)
    (2.3026, 2.829)
    >>> round(chance_loss("squared_error", 20).uniform, 4)
    0.95
    """
    one_of("loss", loss, LOSSES)
    whole("classes", classes, 1, _MOST_CLASSES)
    if loss == "softmax":
        return ChanceLoss(math.log(classes), sum(1 / n for n in range(1, classes)))
    if loss == "squared_error":
        return ChanceLoss(1 - 1 / classes, 1 - 2 / classes + 2 / (classes + 1))
    spread = math.sqrt(2)  # of the difference of two scores
    below = (1 + math.erf(1 / (spread * math.sqrt(2)))) / 2
    density = math.exp(-((1 / spread) ** 2) / 2) / math.sqrt(2 * math.pi)
    return ChanceLoss(classes - 1.0, (classes - 1) * (below + spread * density))


@checked
def check_labels(labels: ArrayLike, classes: int) -> None:
    """Raise unless labels are one integer a row from 0 to classes − 1. For the host.

    Compiled code cannot raise: a label out of range would give a wrong loss without a word. Traced
    labels pass, so check them before.

    >>> check_labels(np.array([0, 2, 3]), classes=3)
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: expected labels from 0 to 2 (3 classes), got 3 in row 2 ...
    """
    if isinstance(labels, Tracer):
        return
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigurationError(
            f"expected labels as integers [batch], got {labels.dtype} {labels.shape}: "
            f"use labels.argmax(axis=1) for one-hot rows, labels.ravel() for a column"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise ConfigurationError(
            f"expected labels from 0 to {classes - 1} ({classes} classes), got {labels[wrong[0]]} "
            f"in row {wrong[0]} ({wrong.size} such rows): correct the labels or set "
            f"classes={max(labels.max() + 1, classes)}"
        )


@checked
def l2_penalty(
    params: PyTree, l2: ScalarLike, *, convention: str = "half"
) -> tuple[Float[Array, ""], PyTree]:
    """½·l2·Σ‖W‖² over the weights W, the leaves named "w", and its gradient by leaf.

    Biases, scales and shifts are free. `convention="full"` drops the ½, as the course's first
    assignment does.

    >>> value, grads = l2_penalty({"w": jnp.array([[2.0]]), "b": jnp.array([3.0])}, 0.5)
    >>> value.item(), grads["w"].item(), grads["b"].item()
    (1.0, 1.0, 0.0)
    """
    weights = [leaf for path, leaf in jax.tree.leaves_with_path(params) if _is_weight(path)]
    squares = jnp.asarray(sum((sum_of_all(jnp.square(w)) for w in weights), start=0.0))
    value = _l2_factor(convention) * as_dtype(l2, squares) * squares
    return value, add_l2(jax.tree.map(jnp.zeros_like, params), params, l2, convention=convention)


@checked
def add_l2(grads: PyTree, params: PyTree, l2: ScalarLike, *, convention: str = "half") -> PyTree:
    """Return grads with the gradient of `l2_penalty`, l2·W for "half", added to the weights'."""
    factor = 2 * _l2_factor(convention)
    if jax.tree.map(jnp.shape, grads) != jax.tree.map(jnp.shape, params):
        raise ConfigurationError(
            "grads: expected arrays of the names and shapes that params have: give one gradient "
            "for each parameter"
        )

    def add(path, grad, leaf):
        return grad + factor * as_dtype(l2, leaf) * leaf if _is_weight(path) else grad

    return jax.tree.map_with_path(add, grads, params)


def _l2_factor(convention: str) -> float:
    factors = {"half": 0.5, "full": 1.0}
    if convention not in factors:
        raise ConfigurationError(unknown("L2 convention", convention, factors))
    return factors[convention]


def _is_weight(path: tuple[Any, ...]) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == "w"


def _one_hot(
    scores: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> Bool[Array, "batch classes"]:
    return jax.nn.one_hot(labels, scores.shape[1], dtype=bool)


def _targets(
    scores: Float[Array, "batch classes"], labels: Int[Array, " batch"], smoothing: ScalarLike
) -> Float[Array, "batch classes"]:
    smoothing = as_dtype(smoothing, scores)
    one_hot = _one_hot(scores, labels).astype(scores.dtype)
    return (1 - smoothing) * one_hot + smoothing / scores.shape[1]
