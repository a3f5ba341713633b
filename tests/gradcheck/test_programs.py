"""Every way to write a program in JAX may stand inside f; what cannot be checked is refused."""

import functools

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
