"""Forward passes against the course's formulas as plain loops, and the edges of each layer."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers
from jaxnet.errors import ConfigurationError

RNG = np.random.default_rng(0)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_affine():
    x, w, b = RNG.normal(size=(3, 2, 4)), RNG.normal(size=(8, 5)), RNG.normal(size=5)
    want = np.zeros((3, 5))
    for n in range(3):
        for k in range(5):
            want[n, k] = b[k] + sum(x[n, d // 4, d % 4] * w[d, k] for d in range(8))
    out, _ = layers.affine_forward(jnp.asarray(x), jnp.asarray(w), jnp.asarray(b))
    close(out, want)


def normalize(values, eps):
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / math.sqrt(variance + eps) for v in values], mean, variance


def test_batchnorm_train():
    x, scale, shift = RNG.normal(3, 2, size=(6, 4)), RNG.normal(size=4), RNG.normal(size=4)
    mean, variance = RNG.normal(size=4), RNG.uniform(1, 2, size=4)
    args = [jnp.asarray(a) for a in (x, scale, shift, mean, variance)]
    out, _, running = layers.batchnorm_forward(*args, train=True, momentum=0.8, eps=0.01)
    for d in range(4):
        x_hat, mu, var = normalize(x[:, d], 0.01)
        close(out[:, d], scale[d] * np.array(x_hat) + shift[d])
        close(running[0][d], 0.8 * mean[d] + 0.2 * mu)
        close(running[1][d], 0.8 * variance[d] + 0.2 * var)


def test_batchnorm_test():
    x, scale, shift = RNG.normal(3, 2, size=(6, 4)), RNG.normal(size=4), RNG.normal(size=4)
    mean, variance = RNG.normal(size=4), RNG.uniform(1, 2, size=4)
    args = [jnp.asarray(a) for a in (x, scale, shift, mean, variance)]
    out, _, running = layers.batchnorm_forward(*args, train=False)
    close(out, scale * (x - mean) / np.sqrt(variance + 1e-5) + shift)
    close(running, (mean, variance))


def test_layernorm():
    x, scale, shift = RNG.normal(3, 2, size=(6, 4)), RNG.normal(size=4), RNG.normal(size=4)
    out, _ = layers.layernorm_forward(jnp.asarray(x), jnp.asarray(scale), jnp.asarray(shift))
    for n in range(6):
        close(out[n], scale * np.array(normalize(x[n], 1e-5)[0]) + shift)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("relu", lambda v: max(v, 0.0)),
        ("leaky_relu", lambda v: v if v > 0 else 0.01 * v),
        ("tanh", math.tanh),
        ("sigmoid", lambda v: 1 / (1 + math.exp(-v))),
        ("gelu", lambda v: 0.5 * v * math.erfc(-v / math.sqrt(2))),
    ],
)
def test_activation(name, formula):
    x = np.concatenate([RNG.normal(size=20), [-8.0, 0.0, 8.0]])
    out, _ = layers.ACTIVATIONS[name][0](jnp.asarray(x))
    close(out, [formula(v) for v in x])


def test_gelu_is_the_exact_form_and_the_documented_distance_from_tanh():
    x = jnp.linspace(-6, 6, 2001)
    out, _ = layers.gelu_forward(x)
    close(out, jax.nn.gelu(x, approximate=False))
    assert 4e-4 < jnp.abs(out - jax.nn.gelu(x)).max() < 5e-4


def test_dropout_keeps_the_expectation_and_enlarges_survivors():
    x = jnp.asarray(RNG.uniform(1, 2, size=(300, 300)))
    out, _ = layers.dropout_forward(x, 0.3, jax.random.key(0), train=True)
    kept = np.asarray(out != 0)
    close(out[kept], x[kept] / 0.7)
    assert abs(kept.mean() - 0.7) < 4 * math.sqrt(0.3 * 0.7 / kept.size)


def test_dropout_extremes():
    x, key = jnp.asarray(RNG.normal(size=(5, 6))), jax.random.key(0)
    for rate, train in [(0.0, True), (0.3, False)]:
        assert np.array_equal(layers.dropout_forward(x, rate, key, train=train)[0], x)
    out, cache = layers.dropout_forward(x, 1.0, key, train=True)
    assert not out.any()
    assert not layers.dropout_backward(x, cache).any()


def test_dropout_mask_does_not_depend_on_dtype():
    key, ones = jax.random.key(0), jnp.ones((50, 50))
    single, _ = layers.dropout_forward(ones.astype("float32"), 0.4, key, train=True)
    double, _ = layers.dropout_forward(ones, 0.4, key, train=True)
    assert np.array_equal(single != 0, double != 0)


def test_nothing_leaks_through_a_mask():
    x = jnp.array([[-1.0, 2.0]])
    for bad in (jnp.inf, jnp.nan):
        dout = jnp.array([[bad, 1.0]])
        _, cache = layers.relu_forward(x)
        close(layers.relu_backward(dout, cache), [[0.0, 1.0]])
        keep = jnp.array([[False, True]])
        close(layers.dropout_backward(dout, (keep, jnp.float64(0.5))), [[0.0, 2.0]])
        out, _ = layers.dropout_forward(jnp.full((1, 9), bad), 1.0, jax.random.key(0), train=True)
        assert not out.any()


def test_relu_at_zero_and_at_nan():
    x = jnp.array([-0.0, 0.0, -1.0, 1.0])
    _, cache = layers.relu_forward(x)
    want = jax.grad(lambda x: jax.nn.relu(x).sum())(x)
    assert layers.relu_backward(jnp.ones(4), cache).tolist() == want.tolist() == [0, 0, 0, 1]
    assert jnp.isnan(layers.relu_forward(jnp.array([jnp.nan]))[0]).all()


def test_leaky_relu_at_zero():
    _, cache = layers.leaky_relu_forward(jnp.zeros(2), negative_slope=0.25)
    assert layers.leaky_relu_backward(jnp.ones(2), cache).tolist() == [0.25, 0.25]


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
def test_saturated_activations_are_finite(name):
    forward, backward = layers.ACTIVATIONS[name]
    out, cache = forward(jnp.array([-1e30, 1e30], jnp.float32))
    assert jnp.isfinite(out).all()
    assert jnp.isfinite(backward(jnp.ones(2, jnp.float32), cache)).all()


@pytest.mark.parametrize("name", layers.INITIALIZERS)
def test_initial_weights(name):
    gain = {"normal": 1, "he": 2 / 500, "glorot": 2 / 800, "lecun": 1 / 500}[name] ** 0.5
    layer = layers.affine(300, init=name, scale=jnp.float32(0.5), dtype=jnp.float64)
    params, state, shape = layer.init(jax.random.key(0), (5, 100))
    assert (params["w"].shape, params["w"].dtype, state, shape) == (
        (500, 300),
        "float64",
        {},
        (300,),
    )
    assert not params["b"].any()
    assert abs(params["w"].std() / (0.5 * gain) - 1) < 0.01
    assert abs(params["w"].mean()) < 4 * 0.5 * gain / math.sqrt(500 * 300)


def test_errors_say_what_to_change():
    key = jax.random.key(0)
    with pytest.raises(ConfigurationError, match="did you mean 'glorot'"):
        layers.affine(3, init="glorott")
    with pytest.raises(ConfigurationError, match="did you mean 'tanh'"):
        layers.activation("tan")
    with pytest.raises(ConfigurationError, match=r"4 inputs .* got 5 .*input_shape=\(5,\)"):
        layers.affine_forward(jnp.ones((2, 5)), jnp.ones((4, 3)), jnp.ones(3))
    with pytest.raises(ConfigurationError, match="from 0 to 1, got 50"):
        layers.dropout(50)
    with pytest.raises(ConfigurationError, match="key=None"):
        layers.dropout_forward(jnp.ones((2, 2)), 0.5, None, train=True)
    with pytest.raises(ConfigurationError, match=r"negative_slope ≥ 0, got -0\.1"):
        layers.leaky_relu(-0.1)
    for norm in (layers.batchnorm(), layers.layernorm()):
        with pytest.raises(ConfigurationError, match="put an affine layer"):
            norm.init(key, (3, 4))
