import numpy as np
import pytest

from jaxnet.cs231n.vis_utils import vis_grid, vis_nn, visualize_grid
from jaxnet.errors import ConfigurationError


def images(count, height=3, width=2, channels=3, dtype=np.float64):
    rng = np.random.default_rng(count)
    return (rng.normal(size=(count, height, width, channels)) * 100).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
@pytest.mark.parametrize(("count", "side"), [(1, 1), (4, 2), (5, 3), (9, 3), (10, 4)])
def test_each_image_is_stretched_and_placed_by_rows(count, side, dtype):
    x = images(count, dtype=dtype).astype(np.float64)
    grid = visualize_grid(images(count, dtype=dtype), ubound=10.0, padding=2)
    assert grid.shape == (side * 3 + (side - 1) * 2, side * 2 + (side - 1) * 2, 3)
    seen = np.zeros(grid.shape, bool)
    for i in range(side * side):
        y0, x0 = (i // side) * 5, (i % side) * 4
        seen[y0 : y0 + 3, x0 : x0 + 2] = True
        cell = grid[y0 : y0 + 3, x0 : x0 + 2]
        if i < count:
            want = 10 * (x[i] - x[i].min()) / (x[i].max() - x[i].min())
            np.testing.assert_allclose(cell, want, rtol=1e-5)
        else:
            np.testing.assert_array_equal(cell, 0)
    np.testing.assert_array_equal(grid[~seen], 0)


def test_defaults_padding_none_and_flat_images():
    grid = visualize_grid(images(4))
    assert grid.shape == (7, 5, 3)
    assert (grid.min(), grid.max()) == (0, 255)
    assert visualize_grid(images(4), padding=0).shape == (6, 4, 3)
    np.testing.assert_array_equal(visualize_grid(np.full((1, 2, 2, 3), 7.0)), 0)


def test_vis_grid_stretches_all_together():
    x = images(3)
    grid = vis_grid(x)
    assert grid.shape == (8, 6, 3)
    np.testing.assert_allclose(grid[4:7, 0:2], (x[2] - x.min()) / (x.max() - x.min()))
    np.testing.assert_array_equal(grid[3], 0)
    np.testing.assert_array_equal(grid[:, 5], 0)
    np.testing.assert_array_equal(grid[4:, 3:], 0)
    assert grid.max() == 1


def test_vis_nn_places_rows():
    x = images(6, dtype=np.uint8)
    grid = vis_nn([list(x[:3]), list(x[3:])])
    assert grid.shape == (8, 9, 3)
    low, high = min(1, x.min()), x.max()
    np.testing.assert_allclose(grid[4:7, 6:8], (x[5] - float(low)) / (high - low))
    np.testing.assert_allclose(grid[3], (1.0 - low) / (high - low))


def test_mistakes_are_named():
    with pytest.raises(ConfigurationError, match=r"got \(4, 6\): reshape flat pixels"):
        visualize_grid(np.zeros((4, 6)))
    with pytest.raises(ConfigurationError, match="add an axis to grey images"):
        vis_grid(np.zeros((4, 6, 6)))
    with pytest.raises(ConfigurationError, match=r"got \(0, 2, 2, 3\)"):
        visualize_grid(np.zeros((0, 2, 2, 3)))
    with pytest.raises(ConfigurationError, match=r"2 images in each row, .* got 1 in row 1"):
        vis_nn([list(images(2)), list(images(1))])
