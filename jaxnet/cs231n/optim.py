"""The course's update rules: from weights, gradient and a dictionary to new weights.

`RULES` holds them as pure functions on device arrays, for use inside a compiled step; the public
functions of the same names are for NumPy arrays. CS231n notes, "Neural networks, part 3", section
"Parameter updates". For optimizers on whole trees of parameters see `jaxnet.optimizers`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.layers.layer import as_dtype

Config = dict[str, Any]
Update = tuple[Float[np.ndarray, "*shape"], Config]

ZEROS = "zeros like w"
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": 1e-2},
    "sgd_momentum": {"learning_rate": 1e-2, "momentum": 0.9, "velocity": ZEROS},
    "rmsprop": {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8, "cache": ZEROS},
    "adam": {
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "epsilon": 1e-8,
        "m": ZEROS,
        "v": ZEROS,
        "t": 0,
    },
}
"""The keys of each rule's dictionary, with the course's defaults."""


def _sgd(w: Array, dw: Array, config: Config) -> tuple[Array, Config]:
    return w - as_dtype(config["learning_rate"], w) * dw, config


def _sgd_momentum(w: Array, dw: Array, config: Config) -> tuple[Array, Config]:
    rate, momentum = (as_dtype(config[key], w) for key in ("learning_rate", "momentum"))
    velocity = momentum * config["velocity"] - rate * dw
    return w + velocity, {**config, "velocity": velocity}


def _rmsprop(w: Array, dw: Array, config: Config) -> tuple[Array, Config]:
    rate, epsilon = (as_dtype(config[key], w) for key in ("learning_rate", "epsilon"))
    decay, gain = _share(config["decay_rate"], w)
    cache = decay * config["cache"] + gain * dw**2
    return w - rate * dw / (jnp.sqrt(cache) + epsilon), {**config, "cache": cache}


def _adam(w: Array, dw: Array, config: Config) -> tuple[Array, Config]:
    rate, epsilon = (as_dtype(config[key], w) for key in ("learning_rate", "epsilon"))
    beta1, gain1 = _share(config["beta1"], w)
    beta2, gain2 = _share(config["beta2"], w)
    t = config["t"] + 1
    m = beta1 * config["m"] + gain1 * dw
    v = beta2 * config["v"] + gain2 * dw**2
    m_hat = m / _correction(config["beta1"], t, w)
    v_hat = v / _correction(config["beta2"], t, w)
    return w - rate * m_hat / (jnp.sqrt(v_hat) + epsilon), {**config, "m": m, "v": v, "t": t}


def _share(beta: ArrayLike, like: Array) -> tuple[Array, Array]:
    """Return β and 1 − β; the subtraction comes before the rounding to a network's float32."""
    beta = jnp.asarray(beta)
    return as_dtype(beta, like), as_dtype(1 - beta, like)


def _correction(beta: ArrayLike, t: ArrayLike, like: Array) -> Array:
    beta = jnp.asarray(beta)
    return as_dtype(1 - beta ** jnp.asarray(t, beta.dtype), like)


RULES: dict[str, Callable[[Array, Array, Config], tuple[Array, Config]]] = {
    "sgd": _sgd,
    "sgd_momentum": _sgd_momentum,
    "rmsprop": _rmsprop,
    "adam": _adam,
}
"""Pure (w, dw, config) -> (next w, next config), for a config with all of the rule's keys.

Its numbers may be Python's or 0-d arrays of any dtype; they are rounded to the dtype of w.
"""

_COMPILED = {name: compiled(rule) for name, rule in RULES.items()}


def sgd(w: Any, dw: Any, config: Config | None = None) -> Update:
    """w ← w − η·dw. Return the new w and the dictionary; η is its learning_rate (0.01).

    Every rule here sets missing keys in the given dictionary (or a new one for None) and returns
    it. It returns a new array and leaves w as it is, where the course's sgd writes into w. Raises
    ConfigurationError for an unknown key, a number out of its range, and arrays of different
    shapes.

    >>> w, config = sgd(np.array([1.0, 2.0]), np.array([2.0, -4.0]), {"learning_rate": 0.5})
    >>> w.tolist(), config
    ([0.0, 4.0], {'learning_rate': 0.5})
    """
    return _update("sgd", w, dw, config)


def sgd_momentum(w: Any, dw: Any, config: Config | None = None) -> Update:
    """v ← μ·v − η·dw,  w ← w + v: the velocity v includes η.

    Keys: learning_rate η (0.01), momentum μ (0.9), velocity v (zeros), which is updated. torch and
    optax store v without η, which gives the same iterates while η is constant. Source: Polyak 1964.
    """
    return _update("sgd_momentum", w, dw, config)


def rmsprop(w: Any, dw: Any, config: Config | None = None) -> Update:
    """s ← ρ·s + (1 − ρ)·dw²,  w ← w − η·dw/(√s + ε).

    Keys: learning_rate η (0.01), decay_rate ρ (0.99), epsilon ε (1e-8), cache s (zeros), which is
    updated. ε stands outside the root. Source: Tieleman and Hinton 2012.
    """
    return _update("rmsprop", w, dw, config)


def adam(w: Any, dw: Any, config: Config | None = None) -> Update:
    """t ← t + 1,  w ← w − η·m̂/(√v̂ + ε), m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ).

    m ← β₁·m + (1 − β₁)·dw,  v ← β₂·v + (1 − β₂)·dw². Keys: learning_rate η (0.001), beta1 (0.9),
    beta2 (0.999), epsilon ε (1e-8), and m, v (zeros), t (0), which are updated. Source: Kingma
    and Ba 2015.

    >>> w, config = adam(np.array([1.0]), np.array([3.0]), {"learning_rate": 0.25})
    >>> round(w.item(), 6), config["t"]
    (0.75, 1)
    """
    return _update("adam", w, dw, config)


def _update(rule: str, w: Any, dw: Any, config: Config | None) -> Update:
    config = {} if config is None else config
    w, dw = floats(w=w, dw=dw)
    if dw.shape != w.shape:
        raise ConfigurationError(
            f"{rule}: dw must have the shape of w, got w {w.shape} and dw {dw.shape}"
        )
    defaults(rule, w, config)
    names = [key for key, value in DEFAULTS[rule].items() if value is ZEROS]
    w, dw, *arrays = floats(w=w, dw=dw, **{key: config[key] for key in names})
    next_w, state = _COMPILED[rule](w, dw, {**config, **dict(zip(names, arrays, strict=True))})
    config.update(numpy({key: state[key] for key in names}))
    if "t" in config:
        config["t"] = int(state["t"])
    return numpy(next_w), config


def get(name: str) -> Callable[..., Update]:
    """Return the rule of this name, for NumPy arrays; raise ConfigurationError for others."""
    if name not in RULES:
        raise ConfigurationError(unknown("update rule", name, RULES))
    return {"sgd": sgd, "sgd_momentum": sgd_momentum, "rmsprop": rmsprop, "adam": adam}[name]


def defaults(rule: str, w: np.ndarray, config: Config) -> Config:
    """Set the missing keys of a rule's dictionary for weights w, in place, and return it.

    Raises ConfigurationError for an unknown rule or key, a value that is no number in its range,
    and an array of another shape than w.

    >>> defaults("sgd_momentum", np.zeros(2), {"learning_rate": 0.1})
    {'learning_rate': 0.1, 'momentum': 0.9, 'velocity': array([0., 0.])}
    """
    get(rule)
    known = DEFAULTS[rule]
    for key in config.keys() - known.keys():
        owners = [name for name, keys in DEFAULTS.items() if key in keys]
        hint = f" ({key} belongs to {' and '.join(owners)})" if owners else ""
        raise ConfigurationError(unknown(f"key in the config of {rule}", str(key), known) + hint)
    for key, default in known.items():
        if key not in config:
            config[key] = np.zeros_like(w) if default is ZEROS else default
        elif default is ZEROS:
            if np.shape(config[key]) != np.shape(w):
                raise ConfigurationError(
                    f"{rule}: {key} must have the shape of w, got {np.shape(config[key])} for "
                    f"w {np.shape(w)}: leave it out to start from zeros"
                )
        else:
            _check_number(rule, key, config[key])
    return config


_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "beta1": (lambda number: 0 <= number < 1, "from 0 to below 1"),
    "beta2": (lambda number: 0 <= number < 1, "from 0 to below 1"),
    "decay_rate": (lambda number: 0 <= number <= 1, "from 0 to 1"),
    "t": (lambda number: number >= 0 and number.is_integer(), "of steps taken, 0 or more"),
}
_USUAL = (lambda number: 0 <= number < math.inf, "that is finite and not negative")


def _check_number(rule: str, key: str, value: Any) -> None:
    allowed, words = _RANGES.get(key, _USUAL)
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not allowed(number):
        raise ConfigurationError(f"{rule}: expected {key} as a number {words}, got {value!r}")
