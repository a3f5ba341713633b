import math

import numpy as np
import pytest

from jaxnet.cs231n.classifiers import KNearestNeighbor
from jaxnet.errors import ConfigurationError


def distances_by_hand(X, T):
    return np.array([[math.dist(x, t) for t in T] for x in X])


METHODS = [
    "compute_distances_two_loops",
    "compute_distances_one_loop",
    "compute_distances_no_loops",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1 << 27, 200])
def test_distances(method, size, monkeypatch):
    monkeypatch.setattr("jaxnet.cs231n.classifiers.k_nearest_neighbor._BLOCK_BYTES", size)
    rng = np.random.default_rng(0)
    T, X = rng.normal(size=(23, 5)), rng.normal(size=(11, 5))
    net = KNearestNeighbor()
    net.train(T, rng.integers(0, 4, 23))
    dists = getattr(net, method)(X)
    assert dists.flags.writeable
    np.testing.assert_allclose(dists, distances_by_hand(X, T), rtol=1e-12)
    assert getattr(net, method)(X.astype("f4")).dtype == np.float64
    own = getattr(net, method)(T)  # equal rows: rounding must not turn 0 into NaN
    np.testing.assert_allclose(np.diag(own), 0, atol=1e-6 if "no_loops" in method else 0)


@pytest.mark.parametrize("method", METHODS)
def test_bytes_do_not_wrap_around(method):
    net = KNearestNeighbor()
    net.train(np.array([[0, 0], [255, 255]], np.uint8), [0, 1])
    dists = getattr(net, method)(np.array([[200, 100]], np.uint8))
    np.testing.assert_allclose(dists, distances_by_hand([[200, 100]], [[0, 0], [255, 255]]))


def predicted_by_hand(dists, y, k):
    result = []
    for row in dists:
        order = sorted(range(len(row)), key=lambda j: (row[j], j))[:k]
        votes = [y[j] for j in order]
        result.append(min(set(votes), key=lambda label: (-votes.count(label), label)))
    return result


@pytest.mark.parametrize("k", [1, 2, 3, 5, 23])
@pytest.mark.parametrize("ties", [False, True])
def test_predictions(k, ties):
    rng = np.random.default_rng(k)
    X, y = rng.normal(size=(23, 5)), rng.integers(0, 4, 23)
    X = X.round() if ties else X
    net = KNearestNeighbor()
    net.train(X, y)
    test = rng.normal(size=(30, 5)).round() if ties else rng.normal(size=(30, 5))
    dists = net.compute_distances_one_loop(test)
    labels = net.predict_labels(dists, k=k)
    assert labels.dtype == np.float64
    assert labels.tolist() == predicted_by_hand(dists, y.tolist(), k)
    assert net.predict(test, k=k, num_loops=1).tolist() == labels.tolist()
    if not ties:
        for num_loops in (0, 2):
            assert net.predict(test, k, num_loops).tolist() == labels.tolist()


def test_equal_votes_go_to_the_smaller_label():
    net = KNearestNeighbor()
    net.train(np.zeros((4, 1)), np.array([3, 1, 3, 1]))
    assert net.predict_labels(np.array([[1.0, 2.0, 3.0, 4.0]]), k=4).tolist() == [1]
    assert net.predict_labels(np.array([[1.0, 2.0, 3.0, 4.0]]), k=1).tolist() == [3]


def test_neighbour_mistakes_are_named():
    net = KNearestNeighbor()
    with pytest.raises(ConfigurationError, match=r"call train\(X, y\) first"):
        net.predict(np.zeros((1, 2)))
    with pytest.raises(ConfigurationError, match="3 labels, 4 rows"):
        net.train(np.zeros((4, 2)), [0, 1, 2])
    with pytest.raises(ConfigurationError, match=r"make rows of images"):
        net.train(np.zeros((4, 2, 2)), [0, 1, 2, 3])
    net.train(np.zeros((4, 2)), [0, 1, 2, 3])
    with pytest.raises(ConfigurationError, match=r"\[N, 2\] as in training, got \(1, 3\)"):
        net.predict(np.zeros((1, 3)))
    with pytest.raises(ConfigurationError, match="num_loops of 0, 1 or 2, got 3"):
        net.predict(np.zeros((1, 2)), num_loops=3)
    with pytest.raises(ConfigurationError, match="k from 1 to 4 training rows, got 5"):
        net.predict(np.zeros((1, 2)), k=5)
    with pytest.raises(ConfigurationError, match="without NaN"):
        net.predict_labels(np.full((1, 4), np.nan))
