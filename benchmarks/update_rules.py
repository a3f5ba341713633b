"""Our update rules against optax's: the same gradients, the parameters of a deep net, in a loop."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks.timing import interleave
from jaxnet import optimizers

WIDTHS = (3072, 512, 256, 256, 10)
STEPS, RATE = 50, 1e-2
Build = Callable[[jax.Array], optax.GradientTransformation]
RULES: dict[str, tuple[Build, Build]] = {
    "sgd": (optimizers.sgd, optax.sgd),
    "momentum": (optimizers.momentum, lambda rate: optax.sgd(rate, 0.9)),
    "nesterov": (optimizers.nesterov, lambda rate: optax.sgd(rate, 0.9, nesterov=True)),
    "rmsprop": (
        optimizers.rmsprop,
        lambda rate: optax.rmsprop(rate, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    ),
    "adam": (optimizers.adam, optax.adam),
    "adamw": (
        optimizers.adamw,
        lambda rate: optax.adamw(rate, weight_decay=1e-2, mask=optimizers.weights_only),
    ),
    "adagrad": (optimizers.adagrad, optax.adagrad),
}


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a rule: milliseconds an update, and how far the weights come apart."""
    widths, steps, repeats = ((6, 5, 4), 3, 1) if smoke else (WIDTHS, STEPS, 7)
    params, grads = (_tree(widths, seed) for seed in range(2))
    rows = []
    for name, builds in list(RULES.items())[: 2 if smoke else None]:
        ours, theirs = (_loop(build, steps, params, grads) for build in builds)
        timings = interleave({"ours": ours, "optax": theirs}, repeats)
        leaves = zip(*map(jax.tree.leaves, (ours(), theirs(), params)), strict=True)
        apart = max(float(jnp.abs(a - b).max() / jnp.abs(b - w).max()) for a, b, w in leaves)
        rows.append(
            {
                "rule": name,
                "ours ms": timings["ours"].median / steps * 1e3,
                "optax ms": timings["optax"].median / steps * 1e3,
                "times faster": timings["ours"].times_faster_than(timings["optax"]),
                "weights differ": apart,
                "equal work": "yes" if apart <= 1e-3 else "FAILED",
            }
        )
    return rows


def _tree(widths: tuple[int, ...], seed: int) -> Any:
    generator = np.random.default_rng(seed)
    return {
        f"affine_{i}": {
            "w": jnp.asarray(generator.normal(size=(inputs, outputs)), jnp.float32),
            "b": jnp.asarray(generator.normal(size=outputs), jnp.float32),
        }
        for i, (inputs, outputs) in enumerate(itertools.pairwise(widths), 1)
    }


def _loop(build: Build, steps: int, params: Any, grads: Any) -> Callable[[], Any]:
    """Return a call that gives the parameters after so many updates."""

    @jax.jit
    def run(params, grads, rate):
        rule = build(rate)

        def step(_, carry):
            params, state = carry
            # The gradient moves with the weights, or the compiler takes it out of the loop.
            given = jax.tree.map(lambda g, w: g + jnp.float32(0.1) * w, grads, params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = rule.update(given, state, params)
            return optax.apply_updates(params, updates), state

        return lax.fori_loop(0, steps, step, (params, rule.init(params)))[0]

    return lambda: run(params, grads, jnp.float32(RATE))
