"""Bugs in where a gradient goes: sorting, pooling, interpolation, segments, shifts."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw, like


def ordered(x):
    return jnp.sin(jnp.sort(x))


def ordered_right(dout, x):
    order = jnp.argsort(x)
    return (jnp.zeros_like(x).at[order].set(dout * jnp.cos(x[order])),)


def _gathered(dout, x):
    order = jnp.argsort(x)
    return ((dout * jnp.cos(x[order]))[order],)


# Means of the rows of each segment

SEGMENTS = np.array([0, 0, 2, 1, 0, 2], np.int32)
COUNTS = np.bincount(SEGMENTS)


def segment_mean(x):
    return jax.ops.segment_sum(jnp.tanh(x), SEGMENTS, 3) / like(COUNTS, x)[:, None]


def segment_mean_right(dout, x, *, counts=COUNTS):
    slope = 1 - jnp.square(jnp.tanh(x))
    return ((dout / like(counts, x)[:, None])[SEGMENTS] * slope,)


# Pooling over pairs, of which some are ties


def pool(x):
    return x.reshape(-1, 2).max(1)


def _to_all_winners(dout, x):
    pairs = x.reshape(-1, 2)
    return (jnp.where(pairs == pool(x)[:, None], dout[:, None], 0).ravel(),)


# Averages over 3 of a padded line; a border counts two


def average(x):
    padded, ones = jnp.pad(x, 1), np.pad(np.ones(len(x)), 1)
    counts = ones[:-2] + ones[1:-1] + ones[2:]
    return jnp.square((padded[:-2] + padded[1:-1] + padded[2:]) / like(counts, x))


def _padding_counted(dout, x):
    g = jnp.pad(dout * 2 * jnp.sqrt(average(x)) * jnp.sign(_window_sums(x)) / 3, 1)
    return (g[:-2] + g[1:-1] + g[2:],)


def _window_sums(x):
    padded = jnp.pad(x, 1)
    return padded[:-2] + padded[1:-1] + padded[2:]


# Values of a line at positions between its points

POSITIONS = np.array([0.2, 1.7, 1.9, 3.4, 0.8])


def _between(x):
    left = np.floor(POSITIONS).astype(np.int32)
    return left, like(POSITIONS - left, x)


def interpolated(x):
    left, t = _between(x)
    return (1 - t) * x[left] + t * x[left + 1]


def interpolated_right(dout, x, *, swapped=False):
    left, t = _between(x)
    t = 1 - t if swapped else t
    return (jnp.zeros_like(x).at[left].add(dout * (1 - t)).at[left + 1].add(dout * t),)


def shifted(x):
    return jnp.tanh(x) * jnp.roll(x, 2)


def shifted_right(dout, x, *, back=-2):
    slope = 1 - jnp.square(jnp.tanh(x))
    return (dout * slope * jnp.roll(x, 2) + jnp.roll(dout * jnp.tanh(x), back),)


# Two taps, the same size out: padded on the right


def two_taps(x, w):
    return w[0] * x + w[1] * jnp.append(x[1:], like(0, x))


def two_taps_right(dout, x, w, *, left=False):
    ahead = jnp.append(x[1:], like(0, x))
    behind = jnp.append(dout[1:], like(0, x)) if left else jnp.insert(dout[:-1], 0, 0)
    return w[0] * dout + w[1] * behind, jnp.stack([dout @ x, dout @ ahead])


# The two best of four experts, weighed by a softmax of their scores


def routed(scores, outputs):
    best, which = jax.lax.top_k(scores, 2)
    chosen = jnp.take_along_axis(outputs, which, axis=1)
    return (jax.nn.softmax(best, axis=1) * chosen).sum(1)


def _router_not_trained(dout, scores, outputs):
    return jnp.zeros_like(scores), autodiff(routed)(dout, scores, outputs)[1]


_TIES = draw(260, (10,))[0]
_TIES[1], _TIES[6] = _TIES[0], _TIES[7]
BUGS = (
    Bug(
        "sort gathered",
        "the permutation for its inverse",
        ordered,
        draw(261, (7,)),
        ordered_right,
        _gathered,
    ),
    Bug(
        "segment counts",
        "sums for means in the backward pass",
        segment_mean,
        draw(262, (6, 3)),
        segment_mean_right,
        lambda dout, x: segment_mean_right(dout, x, counts=np.ones(3, np.int64)),
    ),
    Bug(
        "tied winners all",
        "each gets the whole gradient; two pairs of five are ties",
        pool,
        (_TIES,),
        autodiff(pool),
        _to_all_winners,
        kink=True,
    ),
    Bug(
        "padding counted",
        "3 at the borders, where 2 are averaged",
        average,
        draw(263, (7,)),
        autodiff(average),
        _padding_counted,
    ),
    Bug(
        "interpolation weights exchanged",
        "t and 1 − t",
        interpolated,
        draw(264, (6,)),
        interpolated_right,
        lambda dout, x: interpolated_right(dout, x, swapped=True),
    ),
    Bug(
        "shifted onwards",
        "for back",
        shifted,
        draw(265, (7,)),
        shifted_right,
        lambda dout, x: shifted_right(dout, x, back=2),
    ),
    Bug(
        "even kernel's padding",
        "on the other side in dx",
        two_taps,
        draw(266, (7,), (2,)),
        two_taps_right,
        lambda dout, x, w: two_taps_right(dout, x, w, left=True),
    ),
    Bug(
        "router not trained",
        "no gradient through the weights of the experts",
        routed,
        draw(267, (5, 4), (5, 4)),
        autodiff(routed),
        _router_not_trained,
    ),
)
