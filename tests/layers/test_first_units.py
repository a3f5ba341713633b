"""What is said to be beyond the width is not looked at, and what stands within is untouched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("width", [3, 3.0, np.int32(3), np.float32(3), np.float64(3)])
def test_first_units_whatever_the_type_of_the_width(width):
    x = jnp.asarray(RNG.normal(size=(2, 5)))
    layer = layers.first_units(width)
    out, cache, state = layer.forward({}, {}, x, key=None, train=True)
    np.testing.assert_array_equal(out, np.where(np.arange(5) < 3, x, 0))
    np.testing.assert_array_equal(layer.backward(x, cache)[0], out)
    assert (out.dtype, state, layer.backward(x, cache)[1]) == (x.dtype, {}, {})


def test_widths_differ_under_vmap():
    x = jnp.ones((2, 4))
    out = jax.vmap(lambda width: layers.first_units_forward(x, width)[0])(jnp.arange(5))
    np.testing.assert_array_equal(out.sum(axis=(1, 2)), 2 * np.arange(5))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 7.0])
def test_nothing_comes_out_of_the_padding(bad):
    x = jnp.array([[1.0, 2.0, bad], [4.0, 3.0, bad]])
    out, cache = layers.first_units_forward(x, 2)
    np.testing.assert_array_equal(out, [[1, 2, 0], [4, 3, 0]])
    np.testing.assert_array_equal(layers.first_units_backward(x, cache), out)


@pytest.mark.parametrize(("width", "bad"), [(3, jnp.nan), (3, jnp.inf), (3, 7.0), (1, jnp.nan)])
def test_layernorm_of_a_width_is_that_of_the_cropped_array(width, bad):
    x, dout = jnp.asarray(RNG.normal(size=(2, 4, 5)))
    scale, shift = jnp.asarray(RNG.normal(size=(2, 5)))

    def run(x, scale, shift, dout, **settings):
        out, cache = layers.layernorm_forward(x, scale, shift, **settings)
        return out, *layers.layernorm_backward(dout, cache)

    arrays = x, scale, shift, dout
    want = run(*(a[..., :width] for a in arrays))
    x, dout = (a.at[:, width:].set(bad) for a in (x, dout))
    got = run(x, scale, shift, dout, width=jnp.int32(width))
    for a, b in zip(got, want, strict=True):
        # The same sums with zeros at their end: a few units in the last place.
        np.testing.assert_allclose(a[..., :width], b, rtol=1e-13, atol=1e-14)
        assert not a[..., width:].any()
