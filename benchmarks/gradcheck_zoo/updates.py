"""Bugs in the derivative of three steps of training by the start: another rule is differentiated.

f is the loss after three steps on a quartic; the wrong backward pass is that of a rule with the
slip. It is the way to see a wrong update rule as a wrong gradient.
"""

import jax.numpy as jnp

from benchmarks.gradcheck_zoo.row import Bug, autodiff, draw

RATE = 0.1
START = draw(70, (6,), margin=0.2)


def _loss(w):
    return (w**4 / 4 + w * w).sum()


def _slope(w):
    return w**3 + 2 * w


def _trained(rule, memory):
    def f(w):
        state = tuple(jnp.zeros_like(w) for _ in range(memory))
        for t in (1, 2, 3):
            step, *state = rule(_slope(w), w, *state, t=t)
            w = w + step
        return _loss(w)

    return f


def _momentum(g, w, v, *, t):
    v = 0.9 * v + g
    return -RATE * v, v


def _momentum_unscaled(g, w, v, *, t):
    v = 0.9 * v + (1 - 0.9) * g
    return -RATE * v, v


def _nesterov(g, w, v, *, t, sign=1):
    v = 0.9 * v + g
    return -RATE * (g + sign * 0.9 * v), v


def _adam(g, w, m, v, *, t, late=0, decay=0.0):
    g = g + decay * w
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    m_hat, v_hat = m / (1 - 0.9 ** (t + late)), v / (1 - 0.99 ** (t + late))
    return -RATE * m_hat / (jnp.sqrt(v_hat) + 1e-3), m, v


def _adamw(g, w, m, v, *, t):
    step, m, v = _adam(g, w, m, v, t=t)
    return step - RATE * 0.1 * w, m, v


def _clipped(g, w, *, t):
    return (-RATE * g / jnp.sqrt((g * g).sum()),)


def _clipped_by_sum(g, w, *, t):
    return (-RATE * g / jnp.abs(g).sum(),)


def _bug(name, description, right, wrong, memory):
    f, other = _trained(right, memory), _trained(wrong, memory)
    return Bug(name, description, f, START, autodiff(f), autodiff(other))


BUGS = (
    _bug("clip by another norm", "Σ|g| for √Σg²", _clipped, _clipped_by_sum, 0),
    _bug("momentum dampened", "(1 − μ)·g for g", _momentum, _momentum_unscaled, 1),
    _bug(
        "look-ahead sign",
        "g − μ·v for g + μ·v",
        _nesterov,
        lambda *args, t: _nesterov(*args, t=t, sign=-1),
        1,
    ),
    _bug(
        "adam exponent",
        "1 − βᵗ⁺¹ for 1 − βᵗ",
        _adam,
        lambda *args, t: _adam(*args, t=t, late=1),
        2,
    ),
    _bug(
        "decay in the moments",
        "added to g for subtracted from w",
        _adamw,
        lambda *args, t: _adam(*args, t=t, decay=0.1),
        2,
    ),
)
