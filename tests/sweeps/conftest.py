"""A data set small enough to train on in milliseconds, and a way past the annotations."""

import jaxtyping
import numpy as np
import pytest

from jaxnet.data import DataSet


@pytest.fixture
def as_a_user():
    """Switch the checks of annotations off: what a user sees who gives a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _images(generator, count, dtype):
    """Three noisy shapes on 4×3 pixels: learnt in some steps, but not without errors."""
    labels = np.arange(count) % 3
    centres = np.random.default_rng(0).uniform(60, 200, (3, 4, 3, 1))
    pixels = np.clip(centres[labels] + generator.normal(0, 45, (count, 4, 3, 1)), 0, 255)
    return (pixels.astype(np.uint8) if dtype == "uint8" else np.float32(pixels / 255)), labels


@pytest.fixture(scope="session")
def make_data():
    def make(dtype="uint8", seed=1, rows=150):
        generator = np.random.default_rng(seed)
        images, labels = _images(generator, rows, dtype)
        return DataSet.from_arrays(
            images, labels, *_images(generator, 77, dtype), class_names=["a", "b", "c"]
        )

    return make


@pytest.fixture(scope="session")
def data(make_data):
    return make_data()
