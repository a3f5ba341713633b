"""Models as expressions of layers: the two gradients agree, and the nets are the ones meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.models import fully_connected, loss_and_grad, two_layer

FEATURES, CLASSES, BATCH = 6, 4, 7


def example(dtype=np.float64):
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.normal(size=(BATCH, FEATURES)).astype(dtype))
    return images, jnp.asarray(generator.integers(0, CLASSES, BATCH).astype(np.int32))


def relative_errors(tree, reference):
    scale = max(float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(reference))

    def error(a, b):
        # A bias before batchnorm has gradient 0: measure it against the largest leaf.
        return float(jnp.linalg.norm(a - b)) / max(float(jnp.linalg.norm(b)), 1e-3 * scale)

    return jax.tree.map(error, tree, reference)


def assert_same(a, b):
    """The same forward pass, compiled twice: gelu differs in the last bit."""
    np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def both_gradients(net, dtype=np.float64, **settings):
    images, labels = example(dtype)
    # Of this key no unit is almost dead: batchnorm enlarges the rounding of its bias's gradient,
    # which is 0, by 1/deviation (5 here, 300 elsewhere).
    params, state, _ = net.init(jax.random.key(8), (FEATURES,))
    key = jax.random.key(2)
    return tuple(
        loss_and_grad(net, params, state, images, labels, key=key, backward=backward, **settings)
        for backward in ("manual", "autodiff")
    )


NETS = [
    ((5, 1, 3), norm, activation)
    for norm in ("none", "batch", "layer")
    for activation in ("relu", "leaky_relu", "tanh", "sigmoid", "gelu")
]


@pytest.mark.parametrize(
    ("hidden", "norm", "activation"), [((), "none", "relu"), ((5,), "batch", "gelu"), *NETS]
)
def test_manual_equals_automatic_gradient(hidden, norm, activation):
    with jax.enable_x64(True):
        net = fully_connected(
            hidden,
            CLASSES,
            activation=activation,
            norm=norm,
            dropout_rate=0.4,
            dtype=jnp.float64,
        )
        manual, automatic = both_gradients(net, l2=0.3, label_smoothing=0.1)
        np.testing.assert_allclose(manual.loss, automatic.loss, rtol=1e-14)
        # Rounding alone: 1e-15 seen; one wrong term would show as 1e-3 or more.
        errors = jax.tree.leaves(relative_errors(manual.grads, automatic.grads))
        assert max(errors) < 1e-12
        jax.tree.map(assert_same, manual.state, automatic.state)
        assert_same(manual.scores, automatic.scores)


def test_the_comparison_notices_a_penalty_of_the_other_convention():
    with jax.enable_x64(True):
        net = fully_connected((5,), CLASSES, dtype=jnp.float64)
        half, _ = both_gradients(net, l2=0.3, l2_convention="half")
        _, full = both_gradients(net, l2=0.3, l2_convention="full")
        assert max(jax.tree.leaves(relative_errors(half.grads, full.grads))) > 1e-3


def test_gradient_is_the_slope_of_the_loss():
    with jax.enable_x64(True):
        net = fully_connected((5, 3), CLASSES, activation="tanh", norm="batch", dtype=jnp.float64)
        images, labels = example()
        params, state, _ = net.init(jax.random.key(1), (FEATURES,))
        direction = jax.tree.map(
            lambda leaf: jax.random.normal(jax.random.key(3), leaf.shape, leaf.dtype), params
        )

        def loss(step):
            moved = jax.tree.map(lambda p, d: p + step * d, params, direction)
            return loss_and_grad(net, moved, state, images, labels, l2=0.1).loss

        grads = loss_and_grad(net, params, state, images, labels, l2=0.1).grads
        slope = sum(
            float((g * d).sum())
            for g, d in zip(jax.tree.leaves(grads), jax.tree.leaves(direction), strict=True)
        )
        # Central differences at 1e-5 in float64: truncation and rounding both near 1e-10.
        numeric = float(loss(1e-5) - loss(-1e-5)) / 2e-5
        assert abs(slope - numeric) < 1e-8 * abs(numeric)


def test_parameters_are_those_of_the_course_network():
    net = fully_connected((20, 30), 10, norm="batch", dropout_rate=0.5)
    params, state, shape = net.init(jax.random.key(0), (15,))
    assert jax.tree.map(jnp.shape, params) == {
        "affine_1": {"w": (15, 20), "b": (20,)},
        "batchnorm_1": {"scale": (20,), "shift": (20,)},
        "affine_2": {"w": (20, 30), "b": (30,)},
        "batchnorm_2": {"scale": (30,), "shift": (30,)},
        "affine_3": {"w": (30, 10), "b": (10,)},
    }
    assert sorted(state) == ["batchnorm_1", "batchnorm_2"]
    assert shape == (10,)


@pytest.mark.parametrize("classes", [3, 10])
def test_first_loss_of_small_weights_is_ln_classes(classes):
    net = two_layer(50, classes)
    params, state, _ = net.init(jax.random.key(0), (FEATURES,))
    images = jnp.ones((8, FEATURES))
    result = loss_and_grad(net, params, state, images, jnp.arange(8, dtype=jnp.int32) % classes)
    assert abs(float(result.loss) - np.log(classes)) < 1e-5  # scores of 1e-7
    assert result.scores.shape == (8, classes)


def test_dropout_and_init_scale_may_be_traced():
    images, labels = example(np.float32)

    def loss(rate, scale):
        net = fully_connected((5,), CLASSES, dropout_rate=rate, init_scale=scale)
        params, state, _ = net.init(jax.random.key(0), (FEATURES,))
        return loss_and_grad(net, params, state, images, labels, key=jax.random.key(1)).loss

    rates, scales = jnp.array([0.0, 0.5]), jnp.array([1.0, 0.3])
    together = jax.vmap(loss)(rates, scales)
    alone = [loss(0.0, 1.0), loss(0.5, 0.3)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-5)  # float32 sums reordered


@pytest.mark.parametrize("backward", ["manual", "autodiff"])
def test_labels_out_of_range_are_refused(backward):
    net = two_layer(5, CLASSES)
    params, state, _ = net.init(jax.random.key(0), (FEATURES,))
    images = jnp.ones((2, FEATURES))
    with pytest.raises(ConfigurationError, match="got 4 in row 1"):
        loss_and_grad(net, params, state, images, jnp.array([0, 4]), backward=backward)
    with pytest.raises(ConfigurationError, match="got -1 in row 0"):
        loss_and_grad(net, params, state, images, jnp.array([-1, 3]), backward=backward)


def test_unknown_names_show_the_near_match():
    net = two_layer(5, CLASSES)
    params, state, _ = net.init(jax.random.key(0), (FEATURES,))
    batch = jnp.ones((2, FEATURES)), jnp.array([0, 1])
    with pytest.raises(ConfigurationError, match="did you mean 'softmax'"):
        loss_and_grad(net, params, state, *batch, loss="sofmax")
    with pytest.raises(ConfigurationError, match="did you mean 'manual'"):
        loss_and_grad(net, params, state, *batch, backward="manul")
    with pytest.raises(ConfigurationError, match="did you mean 'batch'"):
        fully_connected((5,), CLASSES, norm="bach")
    with pytest.raises(ConfigurationError, match="did you mean 'relu'"):
        fully_connected((5,), CLASSES, activation="rel")
