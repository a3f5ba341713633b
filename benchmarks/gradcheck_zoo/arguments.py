"""Right gradients of functions with unusual arguments or an unusual inside."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import (
    KINK,
    UNSURE,
    Case,
    draw,
    same,
    weighted_sum,
    weights,
)


def _dropped(x, key):
    return weighted_sum(jnp.where(jax.random.bernoulli(key, 0.7, x.shape), x / 0.7, 0))


def _dropped_grad(x, key):
    kept = jax.random.bernoulli(key, 0.7, x.shape)
    return jnp.where(kept, weights(x) / 0.7, 0), None


def _with_running_mean(x, running):
    mean = x.mean(0)
    return jnp.square(x - mean[None, :]).sum(), 0.9 * running + 0.1 * jax.lax.stop_gradient(mean)


def _embedded(table, ids):
    return weighted_sum(jnp.sin(table[ids]))


def _embedded_grad(table, ids):
    rows = table[ids]
    return jnp.zeros_like(table).at[ids].add(weights(rows) * jnp.cos(rows)), None


def _optional(params, mask, name):
    out = jnp.sin(params["w"]) if name == "sine" else params["w"]
    return weighted_sum(out if mask is None else out * mask)


def _optional_grad(params, mask, name):
    return {"w": weights(params["w"]) * jnp.cos(params["w"]), "unused": None}, None, None


def _tempered(x, temperature):
    return weighted_sum(jnp.tanh(x / temperature))


def _tempered_grad(x, temperature):
    slope = weights(x) * (1 - jnp.square(jnp.tanh(x / temperature)))
    return slope / temperature, -(slope * x).sum() / temperature**2


def _half_precision(w, x):
    return jnp.square(w.astype(jnp.float32) @ x.astype(jnp.float32)).sum()


def _half_precision_grad(w, x):
    wide, x32 = w.astype(jnp.float32), x.astype(jnp.float32)
    return (2 * jnp.outer(wide @ x32, x32)).astype(w.dtype), (2 * wide.T @ (wide @ x32)).astype(
        x.dtype
    )


def _blocked(x, y):
    return weighted_sum(x * jax.lax.stop_gradient(jnp.sin(y)) + y)


def _straight_through(x):
    return weighted_sum(jnp.square(x + jax.lax.stop_gradient(jnp.round(x) - x)))


def _top_two(x):
    return jnp.square(jax.lax.top_k(x, 2)[0]).sum()


def _sorted(x):
    return weighted_sum(jnp.square(x[jnp.argsort(x)]))


def _doubled_until_large(x):
    return jax.lax.while_loop(lambda y: jnp.abs(y).sum() < 100, lambda y: 2 * y, x).sum()


def _doubled_grad(x):
    doublings = jnp.ceil(jnp.log2(100 / jnp.abs(x).sum()))
    return (jnp.full_like(x, 1) * 2**doublings,)


def _jitted(x):
    return jax.jit(lambda x: weighted_sum(jnp.tanh(x)))(x)


SURROGATE = {"expected": "surrogate"}
ODD = (
    Case(
        "dropout with a key",
        _dropped,
        (*draw(90, (5, 4)), jax.random.key(3)),
        _dropped_grad,
        plain=False,
    ),
    Case(
        "running mean beside the loss",
        _with_running_mean,
        (draw(91, (5, 4))[0], np.zeros(4)),
        lambda x, running: (2 * (x - x.mean(0)[None, :]), jnp.zeros_like(running)),
        settings={"has_aux": True},
        plain=False,
    ),
    Case(
        "embedding of integers",
        _embedded,
        (draw(92, (6, 3))[0], np.array([2, 0, 2, 5], np.int32)),
        _embedded_grad,
        plain=False,
    ),
    Case(
        "None and a name",
        _optional,
        ({"w": draw(93, (5,))[0], "unused": None}, None, "sine"),
        _optional_grad,
        plain=False,
    ),
    Case("a Python float", _tempered, (draw(94, (5,))[0], 1.7), _tempered_grad, plain=False),
    Case(
        "an empty leaf",
        lambda x, y: weighted_sum(jnp.sin(x)) + y.sum(),
        (draw(95, (5,))[0], np.zeros((0, 3))),
        lambda x, y: (weights(x) * jnp.cos(x), jnp.ones_like(y)),
        plain=False,
    ),
    Case(
        "bfloat16 weights, float32 loss",
        _half_precision,
        (
            jnp.asarray(draw(96, (4, 3))[0], jnp.bfloat16),
            jnp.asarray(draw(97, (3,))[0], jnp.bfloat16),
        ),
        _half_precision_grad,
        UNSURE,
        plain=False,
    ),
    Case(
        "stop_gradient meant",
        _blocked,
        draw(98, (5,), (5,)),
        lambda x, y: (weights(x) * jnp.sin(y), weights(y)),
        KINK | UNSURE,
        SURROGATE,
        plain=False,
    ),
    Case(
        "straight-through",
        _straight_through,
        draw(99, (5,)),
        lambda x: (weights(x) * 2 * jnp.round(x),),
        KINK | UNSURE,
        SURROGATE,
        plain=False,
    ),
    Case(
        "top two",
        _top_two,
        draw(100, (6,)),
        lambda x: (jnp.zeros_like(x).at[jax.lax.top_k(x, 2)[1]].set(2 * jax.lax.top_k(x, 2)[0]),),
        KINK,
    ),
    same("sort", _sorted, draw(101, (6,)), KINK),
    Case(
        "loss of exactly 0",
        lambda x: jnp.square(x).sum(),
        (np.zeros(4),),
        lambda x: (2 * x,),
        UNSURE,
    ),
    Case("while loop", _doubled_until_large, (np.array([0.9, 1.3, 0.6]),), _doubled_grad, KINK),
    Case(
        "jit inside",
        _jitted,
        draw(102, (5,)),
        lambda x: (weights(x) * (1 - jnp.square(jnp.tanh(x))),),
    ),
)
