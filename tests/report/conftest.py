"""Two small runs in folders: a sweep with seeds, of which some diverge, and a single network."""

import numpy as np
import pytest

import jaxnet
from jaxnet.data import DataSet


@pytest.fixture(scope="session")
def data():
    """Three noisy shapes on 4×3 pixels; one class has a name that would end a script."""
    rng = np.random.default_rng(0)
    centres, labels = rng.uniform(60, 200, (3, 4, 3, 1)), np.arange(300) % 3
    images = np.clip(centres[labels] + rng.normal(0, 60, (300, 4, 3, 1)), 0, 255).astype(np.uint8)
    names = ["a", "b", "</script><b>"]
    return DataSet.from_arrays(images[:200], labels[:200], images[200:], labels[200:], names)


@pytest.fixture(scope="session")
def swept(data, tmp_path_factory):
    space = jaxnet.grid(learning_rate=[1e9, 1e-1, 1e-3], l2=[0.0, 1e-3])
    out = tmp_path_factory.mktemp("runs") / "swept"
    return jaxnet.sweep(space, data, out=out, steps=40, hidden=(6,), batch_size=20, replicates=2)


@pytest.fixture(scope="session")
def halved(data, tmp_path_factory):
    space = jaxnet.grid(learning_rate=[1e9, 1e-1, 1e-2, 1e-3])
    out = tmp_path_factory.mktemp("runs") / "halved"
    settings = {"hidden": (6,), "batch_size": 20}
    return jaxnet.sweep(space, data, out=out, steps=40, halving=2, **settings)


@pytest.fixture(scope="session")
def single(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "single"
    return jaxnet.train(data, out=out, steps=40, hidden=(6,), batch_size=20, learning_rate=1e-1)
