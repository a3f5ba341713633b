"""Rounding of a program's results, and the derivative by JAX's rules alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck.function.arguments import take_apart
from jaxnet.gradcheck.function.second_opinion import second_opinion
from jaxnet.gradcheck.function.subject import Problem, prepare
from jaxnet.gradcheck.jaxpr.rounding import rounding_of
from jaxnet.gradcheck.jaxpr.trace import trace


def results(f, *args):
    with jax.enable_x64(True):
        traced = trace(lambda *args: ([f(*args)], None), *args)
        values, moves = rounding_of(traced, *args)
    return values[0], moves[0]


def opinion(f, *args):
    return second_opinion(prepare(Problem(f=f, arguments=take_apart(f, args, None)), False), 0)


@pytest.mark.parametrize("x", [0.3, 8.0, 17.0, 19.0, 40.0])
def test_what_cancels_moves_by_the_digits_it_lost(x):
    """1 − tanh(x)² is known to one unit of the last place of 1; 4e⁻²ˣ/(1 + e⁻²ˣ)² to its own."""
    _, lossy = results(lambda x: 1 - jnp.tanh(x) ** 2, np.float64(x))
    value, safe = results(lambda x: 4 * jnp.exp(-2 * x) / (1 + jnp.exp(-2 * x)) ** 2, np.float64(x))
    assert 2e-16 <= lossy <= 2e-15
    assert (
        0 < safe <= 1e-15 * (4 + 2 * x) * value
    )  # e⁻²ˣ has the rounding of its argument, times 2x


def test_rounding_covers_the_error_of_sums_in_another_order():
    x = np.random.default_rng(0).normal(size=(50, 1000)) * 1e8
    exact = np.array([np.sum(row.astype(np.longdouble)) for row in x]).astype(np.float64)
    value, moved = results(
        lambda x: jax.lax.scan(lambda s, c: (s + c, None), 0 * x[:, 0], x.T)[0], x
    )
    assert np.all(abs(value - exact) <= 32 * moved)


def test_ties_branches_and_exact_zeros_do_not_move():
    x = np.array([1.0, 1.0, -2.0])
    for f in (
        lambda x: jnp.maximum(x * 3, 3.0) - 3.0,
        lambda x: jax.nn.relu(x - 50),
        lambda x: (x / 3 == 1 / 3).astype(x.dtype),
        lambda x: jnp.argmax(jnp.array([x[0] * 3, x[1] * 3])).astype(x.dtype),
    ):
        _, moved = results(f, x)
        assert np.max(moved) <= 2e-15


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c / 3 - x, x),
        lambda x: jax.lax.while_loop(lambda c: c < 100, lambda c: c * 1.7, x),
        lambda x: jax.lax.scan(lambda c, a: (c * a, c), x, jnp.ones(3) / 3)[1].sum(),
        lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x),
        lambda x: jax.lax.switch(jnp.int32(x), [jnp.sin, jnp.cos, jnp.tan], x),
        lambda x: jax.checkpoint(jnp.sin)(x) + jax.nn.softplus(x),
    ],
)
def test_loops_and_branches_give_their_values_and_move_by_rounding(f):
    value, moved = results(f, np.float64(1.3))
    with jax.enable_x64(True):
        assert value == f(jnp.float64(1.3))
    assert 0 < moved <= 1e-13 * abs(value)


def test_the_rules_of_the_author_are_left_out_and_those_of_jax_are_not():
    @jax.custom_vjp
    def wrong(x):
        return jnp.exp(x) * jax.lax.stop_gradient(x)

    wrong.defvjp(lambda x: (wrong(x), x), lambda x, dout: (dout * 7,))
    x = np.array([-1.5, 0.0, 2.0])
    found = opinion(lambda x: jnp.sum(wrong(x)), x)
    assert found.gradient == pytest.approx(np.exp(x) * (1 + x), rel=1e-14, abs=1e-15)
    # jax.nn.relu has a rule, 0 at 0; the maximum inside would give ½.
    assert opinion(lambda x: jnp.sum(jax.nn.relu(x)), x).gradient.tolist() == [0, 0, 1]


def test_what_jax_cannot_differentiate_gives_no_opinion():
    @jax.custom_vjp
    def searched(x):
        return jax.lax.while_loop(lambda c: c < 100, lambda c: c * 1.7, x)

    searched.defvjp(lambda x: (searched(x), x), lambda x, dout: (dout,))
    assert opinion(searched, np.float64(1.3)) is None
    assert opinion(lambda x: float(np.sum(np.asarray(x))), np.ones(2)) is None
