"""Numeric derivatives against known ones: the bound must cover the true error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

from jaxnet.gradcheck.function.arguments import take_apart
from jaxnet.gradcheck.function.subject import Problem, prepare
from jaxnet.gradcheck.numeric.judge_lines import probe, probe_coordinates
from jaxnet.gradcheck.numeric.romberg import (
    LADDER,
    differentiate,
    noise_level,
    on_grid,
    romberg,
    stuck_noise,
)
from jaxnet.gradcheck.options import CheckOptions

RNG = np.random.default_rng(0)
X = RNG.normal(size=40)
W1, W2 = RNG.normal(size=(5, 6)), RNG.normal(size=6)
A = RNG.normal(size=(40, 40))


def near_constant():
    return 3 + 1e-4 * RNG.normal(size=40)


def layernorm(x):
    centred = x - x.mean()
    return jnp.sin(jnp.arange(40.0)) @ (centred / jnp.sqrt((centred**2).mean() + 1e-5))


def layernorm_gradient(x):
    n, dout = len(x), np.sin(np.arange(40.0))
    centred = x - x.mean()
    sigma = np.sqrt(np.mean(centred**2) + 1e-5)
    hat = centred / sigma
    return (dout - dout.mean() - hat * (dout @ hat) / n) / sigma


# f, its gradient by hand in NumPy, the point
KNOWN = {
    "square": (lambda x: (x**2).sum(), lambda x: 2 * x, X),
    "square at 1e6": (lambda x: (x**2).sum(), lambda x: 2 * x, 1e6 * X),
    "cubic": (lambda x: (x**3).sum(), lambda x: 3 * x**2, X),
    "tanh": (lambda x: jnp.tanh(x).sum(), lambda x: 1 / np.cosh(x) ** 2, X),
    "exp": (lambda x: jnp.exp(x).sum(), np.exp, X),
    "exp(30x)": (lambda x: jnp.exp(30 * x).sum(), lambda x: 30 * np.exp(30 * x), 0.1 * X),
    "sin(10x)": (lambda x: jnp.sin(10 * x).sum(), lambda x: 10 * np.cos(10 * x), X),
    "log": (lambda x: jnp.log(x).sum(), lambda x: 1 / x, abs(X) + 0.01),
    "log at 1e-5": (lambda x: jnp.log(x).sum(), lambda x: 1 / x, 1e-5 * (1 + abs(X))),
    "sqrt": (lambda x: jnp.sqrt(x).sum(), lambda x: 0.5 / np.sqrt(x), abs(X) + 1e-3),
    "1/x": (lambda x: (1 / x).sum(), lambda x: -1 / x**2, np.sign(X) * (abs(X) + 0.1)),
    "softplus": (lambda x: jnp.logaddexp(x, 0).sum(), lambda x: 1 / (1 + np.exp(-x)), X),
    "logsumexp": (
        lambda x: jax.nn.logsumexp(x),
        lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
        3 * X,
    ),
    "erf": (lambda x: erf(x).sum(), lambda x: 2 / np.sqrt(np.pi) * np.exp(-(x**2)), X),
    "quadratic form": (lambda x: x @ A @ x, lambda x: (A + A.T) @ x, X),
    "loss + 1e8": (lambda x: jnp.tanh(x).sum() + 1e8, lambda x: 1 / np.cosh(x) ** 2, X),
    "loss * 1e-9": (lambda x: 1e-9 * jnp.sin(x).sum(), lambda x: 1e-9 * np.cos(x), X),
    "layernorm": (layernorm, layernorm_gradient, X),
    "layernorm, nearly constant": (layernorm, layernorm_gradient, near_constant()),
    "mixed scales": (
        lambda x: jnp.sin(x).sum(),
        np.cos,
        X * np.where(np.arange(40) % 2, 1e3, 1e-2),
    ),
    "relu away from 0": (
        lambda x: jax.nn.relu(x).sum(),
        lambda x: (x > 0).astype(float),
        X + 1e-5 * np.sign(X),
    ),
}


def subject_of(f, *args, **settings):
    problem = Problem(f=f, arguments=take_apart(f, args, None), **settings)
    return prepare(problem, False)


def errors(f, gradient, x, seed=0):
    """Return true error and bound of all entries, and along directions, in units of the entry."""
    subject = subject_of(f, x)
    want = gradient(x)
    with subject.scope():
        entries = probe_coordinates(subject, 0, want, np.arange(x.size), seed, quick=True)
        lines = probe(subject, 0, want, None, CheckOptions(seed=seed))
    error = np.concatenate([abs(p.numeric - p.lines.project(want)) for p in (entries, lines)])
    bound = np.concatenate([entries.bound, lines.bound])
    size = np.concatenate([abs(p.lines.project(want)) for p in (entries, lines)])
    return error, bound, size


def test_the_bound_covers_the_true_error():
    covered, total = 0, 0
    for name, (f, gradient, x) in KNOWN.items():
        error, bound, _ = errors(f, gradient, x)
        assert np.all(error <= bound), (name, float(np.max(error / bound)))
        covered, total = covered + np.sum(error <= bound), total + len(error)
    assert total > 900
    assert covered >= 0.999 * total


@pytest.mark.parametrize("name", ["tanh", "exp", "quadratic form", "layernorm", "softplus"])
def test_the_bound_is_sharp(name):
    error, bound, size = errors(*KNOWN[name])
    assert np.median(bound / size) < 1e-9
    assert np.median(error / size) < 1e-10


def test_noise_is_measured():
    rng = np.random.default_rng(1)
    level = noise_level(1 + 1e-7 * rng.normal(size=(200, 9)))
    assert 0.5e-7 < np.median(level) < 2e-7
    smooth = np.sin(1e-3 * np.arange(9))[None]
    assert noise_level(smooth)[0] < 1e-12


def test_noisy_functions_have_wide_bounds():
    def evaluate(steps):
        return np.sin(1 + steps) + 1e-6 * np.sin(1e13 * steps)

    found = differentiate(evaluate, 1, float(np.sin(1.0)), 1e-6, 2.0**-53, LADDER)
    error = abs(found.value[0] - np.cos(1.0))
    assert 1e-8 < error < found.bound[0] < 1e-2


def test_a_stuck_function_is_noisy_by_half_its_smallest_change():
    values = np.zeros(9)
    assert stuck_noise(values, np.array([0.0, 4e-16, 8e-16])) == 2e-16
    assert stuck_noise(np.arange(9.0), np.array([1.0])) == 0
    assert stuck_noise(values, np.zeros(3)) == 0


def test_kinks_at_the_point_jump_and_kinks_beside_it_do_not():
    def lines(x):
        def evaluate(steps):
            return np.abs(x[:, None] + steps) + steps

        return differentiate(evaluate, len(x), 0.0, 1e-18, 2.0**-53, LADDER)

    at = lines(np.array([0.0]))
    np.testing.assert_allclose(at.jump, [2.0])
    np.testing.assert_allclose(at.value, [1.0])

    def beside(steps):
        return np.abs(1e-4 + steps) + steps

    found = differentiate(beside, 1, 1e-4, 1e-20, 2.0**-53, LADDER)
    assert found.jump[0] == 0
    np.testing.assert_allclose(found.value, [2.0])


def test_steps_outside_the_domain_are_dropped():
    with np.errstate(invalid="ignore", divide="ignore"):
        found = differentiate(
            lambda t: np.log(0.01 + t), 1, float(np.log(0.01)), 0.0, 2.0**-53, LADDER
        )
    assert abs(found.value[0] - 100) <= found.bound[0] < 1e-4


def test_at_the_edge_of_the_domain_the_derivative_is_one_sided():
    with np.errstate(invalid="ignore"):
        found = differentiate(lambda t: t**2 * np.sqrt(t) + t, 1, 0.0, 0.0, 2.0**-53, LADDER)
    assert abs(found.value[0] - 1) <= found.bound[0] < 1e-3


def test_an_infinite_slope_is_not_consistent():
    with np.errstate(invalid="ignore"):
        found = differentiate(np.sqrt, 1, 0.0, 0.0, 2.0**-53, LADDER)
    assert not found.consistent[0]


def test_romberg_is_exact_for_polynomials():
    h = LADDER.steps
    table = (3 + 2 * h**2 - 5 * h**4)[None]
    value, error = romberg(table, np.full((1, 11), 1e-16) / h, 16)
    assert abs(value[0] - 3) <= error[0] < 1e-12


def test_directions_on_the_grid_give_exact_half_widths():
    rng = np.random.default_rng(3)
    x, v = rng.normal(size=1000), rng.normal(size=1000) / 30

    def worst(v):
        widths = [((x + h * v) - (x - h * v)) / (2 * h * v) - 1 for h in LADDER.steps]
        return np.max(np.abs(widths))

    rounded = on_grid(v, x, LADDER.steps[-1], 2.0**-53)
    np.testing.assert_allclose(rounded, v, rtol=1e-3)
    assert worst(rounded) < 1e-12
    assert worst(v) > 1e-9
