"""Rows that prove update rules, by steps of optax and of the paper's recurrence in NumPy.

The recurrences are written independently of the rules under test.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet.gradcheck.catalogue.row import DTYPES, Row, draw, size_text
from jaxnet.gradcheck.report import FAIL, PASS, GradientReport, LeafReport, worst_of
from jaxnet.layers.layer import Shape
from jaxnet.optimizers import OPTIMIZERS

_STEPS = 5

_MAX_ROUNDOFFS = 256  # unit roundoffs in five steps of averages, their corrections and a root


class _Rule(NamedTuple):
    """Hyperparameters that differ from the defaults, the rule of optax, and the recurrence."""

    hyperparameters: dict[str, float]
    optax: Callable[..., optax.GradientTransformation]
    plain: Callable[..., list[np.ndarray]]  # gradients, w, rate, hyperparameters -> steps


def _sgd(gs, w, rate):
    return [-rate * g for g in gs]


def _momentum(gs, w, rate, momentum):
    v, steps = 0.0, []
    for g in gs:
        v = momentum * v + g
        steps.append(-rate * v)
    return steps


def _nesterov(gs, w, rate, momentum):
    v, steps = 0.0, []
    for g in gs:
        v = momentum * v + g
        steps.append(-rate * (g + momentum * v))
    return steps


def _rmsprop(gs, w, rate, rms_decay, eps):
    v, steps = 0.0, []
    for g in gs:
        v = rms_decay * v + (1 - rms_decay) * g**2
        steps.append(-rate * g / (np.sqrt(v) + eps))
    return steps


def _adam(gs, w, rate, beta1, beta2, eps, weight_decay=0.0):
    m, v, steps = 0.0, 0.0, []
    for t, g in enumerate(gs, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        steps.append(-rate * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w))
        w = w + steps[-1]
    return steps


def _adagrad(gs, w, rate, eps):
    s, steps = 0.1, []
    for g in gs:
        s = s + g**2
        steps.append(-rate * g / np.sqrt(s + eps))
    return steps


def _decay_mask(params: Mapping[str, Any]) -> dict[str, bool]:
    return {name: name == "w" for name in params}


_RULES = {
    "sgd": _Rule({}, optax.sgd, _sgd),
    "momentum": _Rule({"momentum": 0.8}, optax.sgd, _momentum),
    "nesterov": _Rule({"momentum": 0.8}, functools.partial(optax.sgd, nesterov=True), _nesterov),
    "rmsprop": _Rule(
        {"rms_decay": 0.75, "eps": 1e-3},
        lambda rate, rms_decay, eps: optax.rmsprop(rate, rms_decay, eps, eps_in_sqrt=False),
        _rmsprop,
    ),
    "adam": _Rule(
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3},
        lambda rate, beta1, beta2, eps: optax.adam(rate, beta1, beta2, eps),
        _adam,
    ),
    "adamw": _Rule(
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        lambda rate, beta1, beta2, eps, weight_decay: optax.adamw(
            rate, beta1, beta2, eps, weight_decay=weight_decay, mask=_decay_mask
        ),
        _adam,
    ),
    "adagrad": _Rule({"eps": 1e-3}, lambda rate, eps: optax.adagrad(rate, eps=eps), _adagrad),
}


def update_rows() -> Iterator[Row]:
    """Yield the rows of the update rules."""
    for name in OPTIMIZERS:
        if name not in _RULES:
            continue  # reported by without_row
        for shape, dtype in itertools.product([(3, 5), (1, 1)], DTYPES):
            numbers = ", ".join(f"{n} {v:g}" for n, v in _RULES[name].hyperparameters.items())
            options = ", ".join(filter(None, [size_text(shape), numbers, dtype]))
            check = functools.partial(_check_rule, name, shape, dtype)
            yield Row("update rule", name, options, check)


def _check_rule(name: str, shape: Shape, dtype: str, seed: int) -> GradientReport:
    """Compare five steps; optax has the column of autodiff, NumPy the numeric one."""
    rng, rule = np.random.default_rng([seed, 7]), _RULES[name]
    shapes = {"w": shape, "b": shape[1:]}
    params = {leaf: draw(rng, size, dtype) for leaf, size in shapes.items()}
    gradients = {leaf: draw(rng, (_STEPS, *size), dtype) for leaf, size in shapes.items()}
    rate = float(np.asarray(0.1, dtype))
    numbers = {n: float(np.asarray(v, dtype)) for n, v in rule.hyperparameters.items()}
    with jax.enable_x64(dtype == "float64"):
        ours = _steps(OPTIMIZERS[name].build(rate, numbers), params, gradients)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            theirs = _steps(rule.optax(rate, **numbers), params, gradients)
    bound = _MAX_ROUNDOFFS * float(np.finfo(dtype).eps) / 2
    leaves = []
    for leaf, w in params.items():
        decay = {"weight_decay": 0.0} if "weight_decay" in numbers and leaf != "w" else {}
        plain = rule.plain(
            gradients[leaf].astype(np.float64),
            w.astype(np.float64),
            rate,
            **(numbers | decay),
        )
        versus_optax = _largest_error(ours[leaf], theirs[leaf])
        versus_plain = _largest_error(ours[leaf], np.stack(plain))
        good = versus_optax <= bound and versus_plain <= bound
        reason = None if good else f"the steps of {name} differ from the recurrence or from optax"
        norm = float(np.linalg.norm(ours[leaf]))
        verdict = PASS if good else FAIL
        report = LeafReport(
            path=leaf,
            shape=w.shape,
            dtype=dtype,
            verdict=verdict,
            norm=norm,
            versus_autodiff=versus_optax,
            versus_numeric=versus_plain,
            bound=bound,
            reason=reason,
            lines=_STEPS,
        )
        leaves.append(report)
    return GradientReport(
        verdict=worst_of(*(leaf.verdict for leaf in leaves)),
        leaves=tuple(leaves),
        notes=("steps of an update rule: autodiff means optax, numeric a recurrence in NumPy",),
        seed=seed,
        tested=f"the update rule {name}",
    )


def _steps(
    rule: optax.GradientTransformation, params: Mapping[str, Any], gradients: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return the steps [time, ...] by leaf, from fixed gradients."""

    def step(carry, gradient):
        w, state = carry
        update, state = rule.update(gradient, state, w)
        return (jax.tree.map(jnp.add, w, update), state), update

    @jax.jit
    def run(params, gradients):
        return jax.lax.scan(step, (params, rule.init(params)), gradients)[1]

    updates = run(dict(params), dict(gradients))
    return {name: np.asarray(steps, np.float64) for name, steps in updates.items()}


def _largest_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest relative error of a step, NaN counted as infinite."""
    rows = got.reshape(len(got), -1), expected.reshape(len(expected), -1)
    errors = np.linalg.norm(rows[0] - rows[1], axis=1) / np.linalg.norm(rows[1], axis=1)
    return float(np.max(np.where(np.isfinite(errors), errors, np.inf)))
