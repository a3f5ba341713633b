"""Bugs in the gradient of losses that weigh, ignore or pair their examples."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like

SCORES = draw(230, (6, 4))
LABELS = np.array([0, 3, 2, 2, 1, 0], np.int32)
IGNORED = np.array([0, -1, 2, -1, 1, 0], np.int32)  # −1: no label
CLASS_WEIGHTS = np.array([0.2, 1.0, 3.0, 0.5])


def weighted(scores):
    w = like(CLASS_WEIGHTS, scores)[LABELS]
    each = -jnp.take_along_axis(jax.nn.log_softmax(scores, axis=1), LABELS[:, None], axis=1)[:, 0]
    return (w * each).sum() / w.sum()


def weighted_right(dout, scores, *, total=None):
    w = like(CLASS_WEIGHTS, scores)[LABELS]
    error = jax.nn.softmax(scores, axis=1) - jax.nn.one_hot(LABELS, 4, dtype=scores.dtype)
    return (dout * w[:, None] * error / (total or w.sum()),)


def ignoring(scores):
    kept = IGNORED >= 0
    rows = jnp.arange(len(scores))
    each = -jax.nn.log_softmax(scores, axis=1)[rows, jnp.where(kept, IGNORED, 0)]
    return jnp.where(kept, each, 0).sum() / like(kept.sum(), scores)


def ignoring_right(dout, scores, *, wrapped=False):
    kept = IGNORED >= 0
    error = jnp.where(kept[:, None], jax.nn.softmax(scores, axis=1), 0)
    rows = np.arange(len(scores)) if wrapped else np.flatnonzero(kept)
    error = error.at[rows, IGNORED[rows]].add(-1)  # −1 is the last class to an index
    return (dout * error / like(kept.sum(), scores),)


def _smoothed(scores, others):
    """0.9 for the label; 0.1 for the others, or for all classes."""
    y = jax.nn.one_hot(LABELS, 4, dtype=scores.dtype)
    return 0.9 * y + (0.1 * (1 - y) / 3 if others else 0.1 / 4)


def smoothed(scores):
    return -(_smoothed(scores, True) * jax.nn.log_softmax(scores, axis=1)).sum() / len(scores)


def _smoothed_backward(others):
    def vjp(dout, scores):
        return (dout * (jax.nn.softmax(scores, axis=1) - _smoothed(scores, others)) / len(scores),)

    return vjp


def huber(x):
    return jnp.where(jnp.abs(x) <= 1.5, x * x / 2, 1.5 * (jnp.abs(x) - 0.75)).mean()


def huber_right(dout, x, *, slope=1.5):
    return (dout * jnp.where(jnp.abs(x) <= 1.5, x, slope * jnp.sign(x)) / x.size,)


# KL(p ‖ q), p and q given as they are


def divergence(p, q):
    return (p * (jnp.log(p) - jnp.log(q))).sum()


def divergence_right(dout, p, q, *, one=1.0):
    return dout * (jnp.log(p) - jnp.log(q) + one), -dout * p / q


# Binary cross-entropy of logits, positives count 5 times

TARGETS = np.array([1.0, 0.0, 0.0, 1.0, 0.0])


def positives(z):
    y = like(TARGETS, z)
    return (5 * y * jax.nn.softplus(-z) + (1 - y) * jax.nn.softplus(z)).mean()


def _positives_backward(factor):
    def vjp(dout, z):
        y = like(TARGETS, z)
        s = jax.nn.sigmoid(z)
        return (dout * (-5 * y * (1 - s) + (1 - y) * s if factor else (s - 5 * y)) / z.size,)

    return vjp


# 1 − 2·Σp·y/(Σp + Σy)


def dice(p):
    y = like(TARGETS, p)
    return 1 - 2 * (p * y).sum() / (p.sum() + y.sum())


def dice_right(dout, p, *, through_sum=True):
    y = like(TARGETS, p)
    total = p.sum() + y.sum()
    second = 2 * (p * y).sum() / total**2 if through_sum else 0
    return (dout * (-2 * y / total + second),)


# Normal likelihood with its own log-variance


def normal(mean, log_variance):
    y = like(TARGETS, mean)
    return (jnp.square(y - mean) * jnp.exp(-log_variance) + log_variance).sum() / 2


def normal_right(dout, mean, log_variance, *, log_term=0.5):
    error, precision = mean - like(TARGETS, mean), jnp.exp(-log_variance)
    return dout * error * precision, dout * (log_term - error * error * precision / 2)


# Each row against all others, z as query and as key


def _pairs(z, keys):
    scores = z @ keys.T
    return (jax.nn.logsumexp(scores, axis=1) - jnp.roll(scores, 1, axis=1).diagonal()).mean()


def contrastive(z):
    return _pairs(z, z)


def _as_query_only(dout, z):
    return autodiff(_pairs)(dout, z, z)[:1]


# Cross-entropy + 1e-4·logΣexp²


def z_loss(scores):
    log_z = jax.nn.logsumexp(scores, axis=1)
    own = scores[jnp.arange(len(scores)), LABELS]
    return (log_z - own + 1e-4 * log_z * log_z).mean()


def z_loss_right(dout, scores, *, weight=1e-4):
    log_z = jax.nn.logsumexp(scores, axis=1)[:, None]
    p = jax.nn.softmax(scores, axis=1)
    y = jax.nn.one_hot(LABELS, scores.shape[1], dtype=scores.dtype)
    return (dout * (p - y + 2 * weight * log_z * p) / len(scores),)


_P, _Q = (np.exp(a) / np.exp(a).sum() for a in draw(231, (5,), (5,)))
BUGS = (
    Bug(
        "class weights by count",
        "divided by the batch for the weights' sum",
        weighted,
        SCORES,
        weighted_right,
        lambda dout, scores: weighted_right(dout, scores, total=len(scores)),
    ),
    Bug(
        "ignored label wraps",
        "−1 subtracts at the last class",
        ignoring,
        SCORES,
        ignoring_right,
        lambda dout, scores: ignoring_right(dout, scores, wrapped=True),
    ),
    Bug(
        "smoothing over all",
        "classes in the backward pass, over the others in the loss",
        smoothed,
        SCORES,
        _smoothed_backward(True),
        _smoothed_backward(False),
    ),
    Bug(
        "huber slope",
        "1 for δ outside",
        huber,
        (3 * draw(232, (4, 3))[0],),
        huber_right,
        lambda dout, x: huber_right(dout, x, slope=1.0),
    ),
    Bug(
        "divergence without 1",
        "log p − log q for log p − log q + 1",
        divergence,
        (_P, _Q),
        divergence_right,
        lambda dout, p, q: divergence_right(dout, p, q, one=0.0),
    ),
    Bug(
        "positive weight once",
        "s − 5·y: not in the sigmoid's part",
        positives,
        draw(233, (5,)),
        _positives_backward(True),
        _positives_backward(False),
    ),
    Bug(
        "dice denominator constant",
        "its derivative missing",
        dice,
        (1 / (1 + np.exp(draw(234, (5,))[0])),),
        dice_right,
        lambda dout, p: dice_right(dout, p, through_sum=False),
    ),
    Bug(
        "log-variance term",
        "½ missing in its gradient",
        normal,
        draw(235, (5,), (5,)),
        normal_right,
        lambda dout, *args: normal_right(dout, *args, log_term=0.0),
    ),
    Bug(
        "as query only",
        "not as key",
        contrastive,
        (0.5 * draw(236, (4, 3))[0],),
        autodiff(contrastive),
        _as_query_only,
    ),
    Bug(
        "z-loss missing",
        "1e-4·logZ² in the loss only",
        z_loss,
        SCORES,
        z_loss_right,
        lambda dout, scores: z_loss_right(dout, scores, weight=0.0),
    ),
)
