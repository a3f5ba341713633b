"""Draws of a layer do not depend on its width: what lets a padded network equal the solo one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.kernels.draws import by_rows
from jaxnet.layers import affine, dropout_forward

KEY = jax.random.key(5)


@pytest.mark.parametrize(
    ("draw", "dtype"),
    [("normal", "float32"), ("normal", "float64"), ("uniform", "float32")],
)
def test_a_smaller_matrix_is_the_corner_of_a_larger_one(draw, dtype):
    with jax.enable_x64(True):

        def matrix(rows, columns):
            one_row = functools.partial(getattr(jax.random, draw), dtype=dtype)
            return np.asarray(by_rows(one_row, KEY, (rows, columns)))

        large = matrix(6, 33)
        assert large.dtype == dtype
        assert np.unique(large).size == large.size
        for rows, columns in [(1, 1), (3, 8), (4, 31), (6, 32)]:
            np.testing.assert_array_equal(matrix(rows, columns), large[:rows, :columns])


def test_the_key_is_used_and_so_are_its_values():
    draws = by_rows(jax.random.normal, KEY, (200, 301))
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
    assert abs(draws.std() - 1) < 4 / np.sqrt(2 * draws.size)
    # Rows of keys that have something in common would be correlated.
    others = by_rows(jax.random.normal, jax.random.key(6), (200, 301))
    correlation = np.corrcoef(draws, others)[np.triu_indices(400, 1)]
    assert abs(correlation).max() < 6 / np.sqrt(301)


def test_a_global_flag_of_jax_changes_nothing():
    with jax.threefry_partitionable(False):
        plain = jax.random.normal(KEY, (5,))
        other = by_rows(jax.random.normal, KEY, (3, 5))
    np.testing.assert_array_equal(other, by_rows(jax.random.normal, KEY, (3, 5)))
    assert not np.array_equal(plain, jax.random.normal(KEY, (5,)))  # the flag does change draws


def test_leading_axes_are_rows():
    flat = by_rows(jax.random.normal, KEY, (6, 4))
    np.testing.assert_array_equal(by_rows(jax.random.normal, KEY, (2, 3, 4)), flat.reshape(2, 3, 4))
    np.testing.assert_array_equal(by_rows(jax.random.normal, KEY, (4,)), flat[0])
    assert by_rows(jax.random.normal, KEY, ()) == flat[0, 0]
    assert by_rows(jax.random.normal, KEY, (0, 4)).shape == (0, 4)


def test_weights_before_the_gain_are_the_corner_of_those_of_a_wider_layer():
    def weights(inputs, outputs):
        return affine(outputs, init="normal").init(KEY, (inputs,))[0]["w"]

    np.testing.assert_array_equal(weights(4, 3), weights(7, 9)[:4, :3])


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6)])
def test_the_mask_of_the_first_features_does_not_depend_on_the_others(shape):
    wider = (*shape[:-1], 11)
    small, large = (dropout_forward(jnp.ones(s), 0.4, KEY, train=True)[0] for s in (shape, wider))
    np.testing.assert_array_equal(small, large[..., :6])
    assert 0 < (large == 0).mean() < 1
