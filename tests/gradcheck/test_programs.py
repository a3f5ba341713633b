"""Every way to write a program in JAX may stand inside f; what cannot be checked is refused."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import check_grads

X = np.random.default_rng(0).normal(size=(4, 3))
KEY = jax.random.key(5)


def square_sum(x):
    return jnp.square(x).sum()


# Transformations and control flow


@jax.custom_vjp
def wrong_sine(x):
    return jnp.sin(x)


wrong_sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, d: (1.01 * d * jnp.cos(x),))


def looped(sine):
    def body(carry):
        step, y = carry
        return step + 1, sine(y)

    return lambda x: square_sum(lax.while_loop(lambda carry: carry[0] < 3, body, (0, x))[1])


PROGRAMS = {
    "checkpoint": lambda sine: lambda x: square_sum(jax.checkpoint(lambda y: sine(sine(y)))(x)),
    "checkpoint with a policy": lambda sine: (
        lambda x: square_sum(
            jax.checkpoint(lambda y: sine(y @ y.T), policy=jax.checkpoint_policies.dots_saveable)(x)
        )
    ),
    "jit": lambda sine: jax.jit(lambda x: square_sum(sine(x))),
    "vmap": lambda sine: lambda x: jax.vmap(lambda row: sine(row) @ row)(x).sum(),
    "scan": lambda sine: (
        lambda x: square_sum(
            lax.scan(lambda c, row: (sine(c + row), c * row), jnp.zeros(3, x.dtype), x)[1]
        )
    ),
    "associative scan": lambda sine: (
        lambda x: square_sum(lax.associative_scan(jnp.multiply, sine(x)))
    ),
    "counted loop": lambda sine: lambda x: square_sum(lax.fori_loop(0, 3, lambda _, y: sine(y), x)),
    "cond": lambda sine: lambda x: lax.cond(x.sum() > -9, lambda x: sine(x).sum(), jnp.sum, x),
    "map": lambda sine: lambda x: square_sum(lax.map(sine, x)),
    "partial": lambda sine: functools.partial(lambda a, x: square_sum(sine(a * x)), 2.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_rules_inside_are_under_test(name):
    assert check_grads(PROGRAMS[name](jnp.sin), (X,)).verdict == "PASS"
    assert check_grads(PROGRAMS[name](wrong_sine), (X,)).verdict == "FAIL"


def test_a_while_loop_takes_a_gradient_by_hand():
    def grad(x, factor=1.0):
        slope = factor * jnp.ones_like(x)
        for _ in range(3):
            slope, x = slope * jnp.cos(x), jnp.sin(x)
        return 2 * x * slope

    f = looped(jnp.sin)
    assert check_grads(f, (X,), grad=grad).verdict == "PASS"
    assert check_grads(f, (X,), grad=lambda x: grad(x, 0.99)).verdict == "FAIL"
    with pytest.raises(ConfigurationError, match="give its gradient with grad="):
        check_grads(f, (X,))


def test_an_index_chooses_among_branches():
    branches = [jnp.sin, jnp.cos, wrong_sine]

    def f(x, index):
        return square_sum(lax.switch(index, branches, x))

    verdicts = [check_grads(f, (X, np.int32(index))).verdict for index in range(3)]
    assert verdicts == ["PASS", "PASS", "FAIL"]


# Outputs and arguments


def test_an_auxiliary_output_may_be_anything():
    def f(x):
        return square_sum(jnp.sin(x)), {"steps": 3, "activations": x, "name": "sine"}

    report = check_grads(f, (X,), has_aux=True, grad=lambda x: 2 * jnp.sin(x) * jnp.cos(x))
    assert report.verdict == "PASS"
    with pytest.raises(ConfigurationError, match="has_aux=True"):
        check_grads(f, (X,), grad=lambda x: 2 * jnp.sin(x) * jnp.cos(x))


KEYS = {
    "typed": KEY,
    "another generator": jax.random.key(5, impl="rbg"),
    "raw": jax.random.PRNGKey(5),
    "an array of them": jax.random.split(KEY, 4),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_constants(kind):
    def noise(key, x):
        if kind == "an array of them":
            return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(key)
        return jax.random.normal(key, x.shape, x.dtype)

    def f(x, key):
        return (jnp.sin(x) * noise(key, x)).sum()

    def right(x, key):
        return jnp.cos(x) * noise(key, x)

    def redrawn(x, key):
        return jnp.cos(x) * jnp.roll(noise(key, x), 1, axis=0)

    args = X, KEYS[kind]
    assert check_grads(f, args).verdict == "PASS"
    assert check_grads(f, args, grad=right).verdict == "PASS"
    assert check_grads(f, args, grad=redrawn).verdict == "FAIL"


# Complex numbers


def test_complex_numbers_are_refused():
    with pytest.raises(ConfigurationError, match=r"^z is complex .*real and imaginary parts"):
        check_grads(lambda z: jnp.abs(z).sum(), (X + 1j,))
    with pytest.raises(ConfigurationError, match="f returns complex numbers"):
        check_grads(lambda x: {"out": x, "phase": x * 1j}, (X,))
    report = check_grads(square_sum, (X,), grad=lambda x: 2 * x * (1 + 0j))
    assert report.verdict == "FAIL"
    assert "complex128" in str(report)


def test_python_complex_numbers_are_refused():
    with pytest.raises(ConfigurationError, match="z is complex"):
        check_grads(lambda z: jnp.abs(z), (1j,))


def test_complex_numbers_inside_are_none_of_our_business():
    def f(x, phase):
        return jnp.square(jnp.abs(jnp.fft.fft(lax.complex(x, x)) * phase)).sum()

    assert check_grads(f, (X, np.exp(1j * X)), argnums=0).verdict == "PASS"


# Precision


def test_autodiff_is_not_accused_of_its_own_rounding():
    def f(x):  # its gradient vanishes but for the epsilon: a difference of terms 1e5 times as large
        n = (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + 1e-5)
        return jnp.square(n - 1).mean()

    assert check_grads(f, (X.astype(np.float32),)).verdict == "PASS"


def test_an_infinite_gradient_fails_without_warnings():
    def f(x):
        return jnp.sqrt(x).sum()

    report = check_grads(f, (np.array([0.0, 1.0]),), grad=lambda x: 0.5 / jnp.sqrt(x))
    assert report.verdict == "FAIL"


def test_a_cotangent_clipped_on_its_way_back_is_seen():
    def backward(dout, x):
        return jnp.clip(dout, -10, 10) * (1 - jnp.square(jnp.tanh(x)))

    report = check_grads(lambda x: (jnp.tanh(x), x), (X,), backward=backward)
    assert report.verdict == "FAIL"


@pytest.mark.parametrize("rest", [0.0, 0, 2.5, (0.0, {"a": 1.5})])
@pytest.mark.parametrize("mode", ["directional", "full"])
def test_python_numbers_among_the_outputs(rest, mode):
    x = np.arange(1.0, 4.0)
    for factor, verdict in [(1, "PASS"), (1.001, "FAIL")]:
        rule = jax.custom_vjp(lambda x: (x**3).sum())
        rule.defvjp(lambda x: ((x**3).sum(), x), lambda x, d, k=factor: (k * 3 * d * x**2,))
        report = check_grads(lambda x, f=rule: (f(x), rest), (x,), mode=mode)
        assert report.verdict == verdict
    constant = check_grads(lambda x: 3.0, (x,), mode=mode)
    assert constant.verdict == "PASS"
    assert "the gradient is exactly zero in x" in constant.notes


def averages(x):
    """Average pool without padding in the count; its zero has a dtype, and in a trace no value."""
    zero = jnp.zeros((), x.dtype)
    total, count = (
        lax.reduce_window(v, zero, lax.add, (2, 2), (1, 1), "SAME") for v in (x, jnp.ones_like(x))
    )
    return (total / count) ** 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_jax_differentiates_outside_of_jit_only(dtype):
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(dtype)
    report = check_grads(averages, (x,))
    assert report.verdict == "PASS"
    (note,) = [note for note in report.notes if "jit" in note]
    assert note.startswith("autodiff of f works outside of jit only (ValueError: Linearization")

    def squares(x):
        return averages(x), x

    for factor, verdict in [(1.0, "PASS"), (1.001, "FAIL")]:

        def gradient(dout, x, k=factor):
            return (k * jax.vjp(averages, x)[1](dout)[0],)

        assert check_grads(squares, (x,), backward=gradient).verdict == verdict


def test_warnings_as_errors_leave_a_report():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_edge = check_grads(lambda x: jnp.sqrt(x).sum(), (jnp.zeros(3),))
        assert at_edge.verdict == "FAIL"
        assert at_edge.leaves[0].reason == "the gradient is not finite"
        in_numpy = check_grads(
            lambda x: float(np.sqrt(np.asarray(x)).sum()),  # its own steps leave the domain
            (np.array([1e-3, 1.0]),),
            grad=lambda x: 0.5 / np.sqrt(x),
        )
        assert in_numpy.verdict == "PASS"
        assert np.geterr()["invalid"] == "warn"


def test_what_runs_but_cannot_be_traced_is_told_in_one_line():
    f = jax.custom_vjp(jnp.round)  # hands its default on as a tracer
    f.defvjp(lambda x: (jnp.round(x), None), lambda _, d: (d,))
    with pytest.raises(ConfigurationError, match=r"^f raised ValueError when traced in float32"):
        check_grads(f, (np.ones(3),))
