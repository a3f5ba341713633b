"""Bugs in the gradient of losses with respect to scores."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like, times

SCORES = draw(20, (8, 5))
LABELS = np.array([0, 4, 2, 1, 3, 3, 0, 2], np.int32)
MASK = np.array([1, 1, 0, 1, 0, 1, 1, 0])  # 5 rows count
SMOOTHING = 0.1


def _one_hot(scores):
    return jax.nn.one_hot(LABELS, scores.shape[1], dtype=scores.dtype)


def _smoothed(scores):
    return (1 - SMOOTHING) * _one_hot(scores) + SMOOTHING / scores.shape[1]


def _each_cross_entropy(scores, targets):
    return -(targets * jax.nn.log_softmax(scores, axis=1)).sum(1)


def cross_entropy(scores):
    return _each_cross_entropy(scores, _one_hot(scores)).mean()


def cross_entropy_right(dout, scores):
    return (dout * (jax.nn.softmax(scores, axis=1) - _one_hot(scores)) / len(scores),)


def _cross_entropy_bug(name, description, dscores):
    def wrong(dout, scores):
        return (dout * dscores(jax.nn.softmax(scores, axis=1), _one_hot(scores)),)

    return Bug(name, description, cross_entropy, SCORES, cross_entropy_right, wrong)


def smoothed(scores):
    return _each_cross_entropy(scores, _smoothed(scores)).mean()


def smoothed_right(dout, scores):
    return (dout * (jax.nn.softmax(scores, axis=1) - _smoothed(scores)) / len(scores),)


def masked(scores):
    mask = like(MASK, scores)
    return (mask * _each_cross_entropy(scores, _one_hot(scores))).sum() / mask.sum()


def masked_right(dout, scores, *, count=5):
    error = jax.nn.softmax(scores, axis=1) - _one_hot(scores)
    return (dout * like(MASK, scores)[:, None] * error / count,)


def softmax(scores):
    return jax.nn.softmax(scores, axis=1)


def softmax_right(dout, scores):
    p = softmax(scores)
    return (p * (dout - (p * dout).sum(1, keepdims=True)),)


def log_sum_exp(scores):
    return jax.nn.logsumexp(scores, axis=1)


def log_sum_exp_right(dout, scores):
    return (dout[:, None] * jax.nn.softmax(scores, axis=1),)


def _unshifted(dout, scores):
    exponentials = jnp.exp(scores)
    return (dout[:, None] * exponentials / exponentials.sum(1, keepdims=True),)


def hinge(scores):
    correct = _one_hot(scores) > 0
    own = jnp.where(correct, scores, 0).sum(1, keepdims=True)
    return jnp.where(correct, 0, jax.nn.relu(scores - own + 1)).sum() / len(scores)


def hinge_right(dout, scores, *, count=True):
    correct = _one_hot(scores) > 0
    own = jnp.where(correct, scores, 0).sum(1, keepdims=True)
    violated = jnp.where(correct, 0, like(scores - own + 1 > 0, scores))
    counts = violated.sum(1, keepdims=True) if count else jnp.zeros_like(own)
    return (dout * jnp.where(correct, -counts, violated) / len(scores),)


def focal(scores):
    p = (softmax(scores) * _one_hot(scores)).sum(1)
    return -(jnp.square(1 - p) * jnp.log(p)).mean()


def focal_right(dout, scores, *, modulation=True):
    y = _one_hot(scores)
    p = (softmax(scores) * y).sum(1)
    dp = -jnp.square(1 - p) / p
    if modulation:
        dp = dp + 2 * (1 - p) * jnp.log(p)
    return (dout * (dp * p)[:, None] * (y - softmax(scores)) / len(scores),)


def _mean_of_means(dout, scores):
    parts = jnp.split(jax.nn.softmax(scores, axis=1) - _one_hot(scores), [5])
    return (dout * jnp.concatenate([part / len(part) / 2 for part in parts]),)


def scaled_loss(scores):
    return cross_entropy(jnp.tanh(scores))


def _scale_left(dout, scores):
    return times(1024.0, autodiff(scaled_loss)(dout, scores))


BUGS = (
    _cross_entropy_bug("batch sum", "sum for mean over the batch", lambda p, y: p - y),
    _cross_entropy_bug("softmax sign", "y − p", lambda p, y: (y - p) / len(p)),
    _cross_entropy_bug("labels forgotten", "p for p − y", lambda p, y: p / len(p)),
    Bug(
        "smoothing missing",
        "in the backward pass only",
        smoothed,
        SCORES,
        smoothed_right,
        cross_entropy_right,
    ),
    Bug(
        "masked mean",
        "divided by the batch, not by the rows that count",
        masked,
        SCORES,
        masked_right,
        lambda dout, scores: masked_right(dout, scores, count=len(scores)),
    ),
    Bug(
        "softmax diagonal",
        "the row-sum term missing",
        softmax,
        SCORES,
        softmax_right,
        lambda dout, scores: (softmax(scores) * dout,),
    ),
    Bug(
        "logsumexp unshifted",
        "exp overflows at scores near 800",
        log_sum_exp,
        (SCORES[0] + 800,),
        log_sum_exp_right,
        _unshifted,
    ),
    Bug(
        "hinge count",
        "nothing at the true class",
        hinge,
        SCORES,
        hinge_right,
        lambda dout, scores: hinge_right(dout, scores, count=False),
    ),
    Bug(
        "focal modulation",
        "the factor (1 − p)² taken as constant",
        focal,
        SCORES,
        focal_right,
        lambda dout, scores: focal_right(dout, scores, modulation=False),
    ),
    Bug(
        "mean of means",
        "over microbatches of 5 and 3",
        cross_entropy,
        SCORES,
        cross_entropy_right,
        _mean_of_means,
    ),
    Bug(
        "loss scale left",
        "1024 not divided out",
        scaled_loss,
        SCORES,
        autodiff(scaled_loss),
        _scale_left,
    ),
)
