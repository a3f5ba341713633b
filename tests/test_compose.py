"""Layers and their compositions against autodiff. A new layer or combinator is one row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.compose import as_function, concat, identity, residual, serial
from jaxnet.errors import ConfigurationError
from jaxnet.layers import (
    ACTIVATIONS,
    activation,
    affine,
    batchnorm,
    dropout,
    layernorm,
    leaky_relu,
    relu,
    tanh,
)


def build(name, dtype):
    """Return one row of the table, built for a dtype, and its input shape."""
    a = lambda outputs: affine(outputs, dtype=dtype)  # noqa: E731
    norm = lambda: batchnorm(dtype=dtype)  # noqa: E731
    return {
        "affine": (a(3), (4,)),
        "affine of images": (a(3), (2, 2, 3)),
        "batchnorm": (norm(), (4,)),
        "layernorm": (layernorm(dtype=dtype), (4,)),
        "dropout": (dropout(0.4), (4,)),
        "leaky relu": (leaky_relu(0.2), (4,)),
        "identity": (identity(), (4,)),
        **{name: (activation(name), (4,)) for name in ACTIVATIONS},
        "serial": (serial(a(5), norm(), relu(), dropout(0.3), a(3)), (4,)),
        "serial of one": (serial(a(1)), (1,)),
        "empty serial": (serial(), (4,)),
        "residual": (residual(serial(a(5), relu(), a(4))), (4,)),
        "residual with shortcut": (residual(serial(a(5), norm()), a(5)), (4,)),
        "concat": (concat(a(2), serial(a(3), tanh()), identity()), (4,)),
        "concat of one": (concat(a(2)), (4,)),
        "nested": (
            serial(
                a(6),
                relu(),
                residual(serial(concat(a(2), serial(a(3), norm()), dropout(0.5)), a(6))),
                concat(residual(a(6)), layernorm(dtype=dtype)),
            ),
            (4,),
        ),
    }[name]


NAMES = [
    *("affine", "affine of images", "batchnorm", "layernorm", "dropout", "leaky relu", "identity"),
    *ACTIVATIONS,
    *("serial", "serial of one", "empty serial", "residual", "residual with shortcut"),
    *("concat", "concat of one", "nested"),
]


TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
CASES = [(name, "float64", True) for name in NAMES]
CASES += [(name, "float64", False) for name in ("batchnorm", "dropout", "serial", "nested")]
CASES += [(name, "float32", True) for name in ("serial", "residual with shortcut", "nested")]


def setup(name, dtype):
    """Return a layer, its parameters and state (positive) off their initial values, and x."""
    layer, input_shape = build(name, dtype)
    params, state = jax.eval_shape(lambda key: layer.init(key, input_shape)[:2], jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)
    state = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 2, s.shape), s.dtype), state)
    return layer, params, state, jnp.asarray(rng.normal(size=(5, *input_shape)), dtype)


def assert_same(got, want, tolerance):
    """Compare leaf by leaf, in norm; a leaf that vanishes is measured by the whole tree.

    The bias before a batchnorm is such a leaf: its gradient is zero but for rounding.
    """
    floor = 1e-2 * np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(want)))
    assert jax.tree.structure(got) == jax.tree.structure(want)
    got, want = jax.tree.map(np.asarray, (got, want))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert np.linalg.norm(a - b) <= tolerance * max(np.linalg.norm(b), floor)


@pytest.mark.parametrize(("name", "dtype", "train"), CASES)
def test_backward_and_custom_vjp_equal_autodiff(name, dtype, train):
    key = jax.random.key(2)
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        layer, params, state, x = setup(name, dtype)

        @jax.jit
        def three_ways(params, x):
            def plain(params, x):
                return layer.forward(params, state, x, key=key, train=train)[0]

            def wrapped(params, x):
                return as_function(layer, train=train)(params, state, x, key)

            out, cache, _ = layer.forward(params, state, x, key=key, train=train)
            dout = jnp.sin(jnp.arange(out.size, dtype=dtype)).reshape(out.shape)
            dx, dparams = layer.backward(dout, cache)
            by_jax = jax.vjp(plain, params, x)[1](dout)
            by_custom = jax.vjp(wrapped, params, x, has_aux=True)[1](dout)
            return (dparams, dx), by_jax, by_custom

        by_hand, by_jax, by_custom = three_ways(params, x)
    assert_same(by_hand, by_jax, TOLERANCE[dtype])
    assert_same(by_custom, by_jax, TOLERANCE[dtype])


@pytest.mark.parametrize("name", NAMES)
def test_init_tells_the_output_shape_and_trees_hold_arrays_only(name):
    def step():
        layer, input_shape = build(name, "float32")
        params, state, output_shape = layer.init(jax.random.key(0), input_shape)
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((params, state)))
        x = jnp.ones((5, *input_shape))
        out, _, new_state = layer.forward(params, state, x, key=jax.random.key(0), train=True)
        assert out.shape == (5, *output_shape)
        return state, new_state

    state, new_state = jax.eval_shape(step)
    assert state == new_state


def test_a_dropped_branch_is_caught():
    layer, params, state, x = setup("residual", "float32")
    out, cache, _ = layer.forward(params, state, x, key=None, train=True)
    dx, _ = layer.backward(out, cache)
    with pytest.raises(AssertionError):
        assert_same(dx - out, dx, 1e-5)


def test_names_number_the_layers_of_a_kind():
    a, n = affine(3), batchnorm()
    net = serial(a, n, relu(), a, relu(), dropout(0.5), serial(a), residual(a), concat(relu(), a))
    params, state, _ = net.init(jax.random.key(0), (3,))
    names = ["affine_1", "affine_2", "batchnorm_1", "concat_1", "residual_1", "serial_1"]
    assert sorted(params) == names
    assert list(params["residual_1"]) == ["branch"]
    assert list(params["concat_1"]) == ["branch_2"]
    assert list(params["serial_1"]) == ["affine_1"]
    assert sorted(params["batchnorm_1"]) == ["scale", "shift"]
    assert jax.tree.map(jnp.shape, state) == {
        "batchnorm_1": {"running_mean": (3,), "running_variance": (3,)}
    }


def test_norm_dropout_and_further_layers_leave_the_weights_of_others_alone():
    key = jax.random.key(0)
    plain, _, _ = serial(affine(5), relu(), affine(3)).init(key, (4,))
    other = serial(affine(5), batchnorm(), relu(), dropout(0.5), affine(3), affine(2))
    params, _, _ = other.init(key, (4,))
    for name in plain:
        assert np.array_equal(plain[name]["w"], params[name]["w"])
    assert not np.array_equal(plain["affine_1"]["w"][:3, :3], plain["affine_2"]["w"][:3])


def test_dropout_layers_of_one_net_draw_different_masks():
    net = concat(dropout(0.5), serial(dropout(0.5)), serial(identity(), dropout(0.5)))
    out, _, _ = net.forward({}, {}, jnp.ones((8, 32)), key=jax.random.key(0), train=True)
    first, second, third = jnp.split(out, 3, axis=1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


@pytest.mark.parametrize("key", [jax.random.key(5), jax.random.PRNGKey(5)])
def test_traced_dropout_rate_under_vmap_equals_each_rate_alone(key):
    x = jax.random.normal(jax.random.key(1), (6, 4))

    def gradients(rate):
        net = serial(affine(5), relu(), dropout(rate), affine(3))
        params, state, _ = net.init(key, (4,))
        f = as_function(net)
        return jax.grad(lambda p: jnp.sin(f(p, state, x, key)[0]).sum())(params)

    rates = [0.0, 0.3, 1.0]
    stack = jax.jit(jax.vmap(gradients))(jnp.array(rates))
    for i, rate in enumerate(rates):
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], stack), gradients(rate), 1e-5)


def test_gradients_of_key_and_state_are_zero():
    net, key = serial(affine(3), batchnorm(), dropout(0.5)), jax.random.PRNGKey(0)
    params, state, _ = net.init(key, (4,))

    def loss(params, state, x, key):
        out, new_state = as_function(net)(params, state, x, key)
        return jnp.sin(out).sum() + sum(leaf.sum() for leaf in jax.tree.leaves(new_state))

    every = jax.grad(loss, argnums=(0, 1, 2, 3), allow_int=True)
    dparams, dstate, dx, dkey = every(params, state, jnp.ones((5, 4)), key)
    assert jax.tree.structure(dparams) == jax.tree.structure(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(dstate))
    assert dx.shape == (5, 4)
    assert dkey.dtype == jax.dtypes.float0


def test_no_key_is_needed_where_nothing_is_drawn():
    net = serial(affine(3), dropout(0.5), residual(affine(3)), concat(relu()))
    params, state, _ = net.init(jax.random.key(0), (4,))
    net.forward(params, state, jnp.ones((2, 4)), key=None, train=False)
    with pytest.raises(ConfigurationError, match="key=None"):
        net.forward(params, state, jnp.ones((2, 4)), key=None, train=True)


def test_errors_say_what_to_change():
    key = jax.random.key(0)
    with pytest.raises(ConfigurationError, match=r"\(5,\) from the branch .* shortcut=affine\(5\)"):
        residual(affine(5)).init(key, (4,))
    with pytest.raises(ConfigurationError, match="differ in the last axis only"):
        concat(affine(5), identity()).init(key, (4, 4))
