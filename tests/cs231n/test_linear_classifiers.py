import math

import numpy as np
import pytest

from jaxnet.cs231n import course_year
from jaxnet.cs231n.classifiers import (
    LinearClassifier,
    LinearSVM,
    Softmax,
    linear_classifier as module,
)
from jaxnet.cs231n.classifiers.linear_svm import svm_loss_naive, svm_loss_vectorized
from jaxnet.cs231n.classifiers.softmax import softmax_loss_naive, softmax_loss_vectorized
from jaxnet.errors import ConfigurationError, DataError


def svm_by_hand(W, X, y, reg, half=False):
    """Loss and gradient by loops over rows and classes, from the notes."""
    loss, dW = 0.0, np.zeros(W.shape)
    for x, label in zip(X, y, strict=True):
        for c in range(W.shape[1]):
            margin = x @ W[:, c] - x @ W[:, label] + 1
            if c != label and margin > 0:
                loss += margin / len(X)
                dW[:, c] += x / len(X)
                dW[:, label] -= x / len(X)
    return penalized(loss, dW, W, reg, half)


def softmax_by_hand(W, X, y, reg, half=False):
    loss, dW = 0.0, np.zeros(W.shape)
    for x, label in zip(X, y, strict=True):
        scores = [float(x @ W[:, c]) for c in range(W.shape[1])]
        powers = [math.exp(s - max(scores)) for s in scores]
        for c, power in enumerate(powers):
            dW[:, c] += (power / sum(powers) - (c == label)) * x / len(X)
        loss -= math.log(powers[label] / sum(powers)) / len(X)
    return penalized(loss, dW, W, reg, half)


def penalized(loss, dW, W, reg, half):
    factor = 0.5 if half else 1
    return loss + factor * reg * (W * W).sum(), dW + 2 * factor * reg * W


PAIRS = {
    "svm naive": (svm_loss_naive, svm_by_hand),
    "svm vectorized": (svm_loss_vectorized, svm_by_hand),
    "softmax naive": (softmax_loss_naive, softmax_by_hand),
    "softmax vectorized": (softmax_loss_vectorized, softmax_by_hand),
}
CLASSIFIERS = {LinearSVM: svm_by_hand, Softmax: softmax_by_hand}


def problem(n=40, d=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X, W = rng.normal(size=(n, d)), rng.normal(size=(d, classes))
    return W * 0.3, X, (X @ W).argmax(axis=1)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("reg", [0.0, 5e-2, 1, np.float64(20)])
@pytest.mark.parametrize("year", [2016, 2018])
def test_loss_and_gradient(pair, reg, year):
    ours, by_hand = PAIRS[pair]
    W, X, y = problem()
    course_year(year)
    try:
        loss, dW = ours(W, X, y, reg)
    finally:
        course_year(2018)
    expected, gradient = by_hand(W, X, y, reg, half=year < 2017)
    assert type(loss) is np.float64
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(dW, gradient, rtol=1e-11, atol=1e-14)
    dW += 1.0  # the caller's own


@pytest.mark.parametrize("pair", PAIRS)
def test_float32_stays_and_integers_become_float64(pair):
    ours, by_hand = PAIRS[pair]
    W, X, y = problem()
    loss, dW = ours(W.astype("f4"), X.astype("f4"), y.astype("u1"), 0.1)
    assert (loss.dtype, dW.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(loss, by_hand(W, X, y, 0.1)[0], rtol=1e-5)
    pixels = np.random.default_rng(0).integers(0, 9, X.shape, np.uint8)
    loss, _ = ours(W, pixels, y.tolist(), 0.1)
    np.testing.assert_allclose(loss, by_hand(W, pixels.astype(float), y, 0.1)[0], rtol=1e-12)


@pytest.mark.parametrize("pair", PAIRS)
def test_scores_too_large_for_an_exponential(pair):
    ours, _ = PAIRS[pair]
    W, X, y = problem()
    loss, dW = ours(W * 1e4, X, y, 0.0)
    assert np.isfinite(loss)
    assert np.isfinite(dW).all()


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda W, X, y: (W.T, X, y), r"got W \(3, 6\) and X \(40, 6\)"),
        (lambda W, X, y: (W, X.reshape(40, 2, 3), y), r"X.reshape\(len\(X\), -1\)"),
        (lambda W, X, y: (W, X[:, :5], y), "a column of ones at the end if"),
        (lambda W, X, y: (W, X, y + 1), "expected labels from 0 to 2"),
        (lambda W, X, y: (W, X, y[:-1]), "39 labels, 40 rows"),
        (lambda W, X, y: (W, X, y * 1.0), "expected labels as integers"),
        (lambda W, X, y: (None, X, y), "W: expected an array of real numbers"),
    ],
)
def test_mistakes_are_named(pair, change, match):
    with pytest.raises(ConfigurationError, match=match):
        PAIRS[pair][0](*change(*problem()), 0.1)


def by_loop(by_hand, X, y, rate, reg, steps, batch):
    """The course's training on NumPy, drawing as the course does; what is left in the stream."""
    W, history = 0.001 * np.random.randn(X.shape[1], y.max() + 1), []  # noqa: NPY002
    for _ in range(steps):
        rows = np.random.choice(len(X), batch)  # noqa: NPY002
        loss, dW = by_hand(W, X[rows], y[rows], reg)
        history.append(loss)
        W = W - rate * dW
    return W, history, np.random.rand()  # noqa: NPY002


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_training_draws_and_steps_as_the_course(kind):
    _, X, y = problem()
    np.random.seed(231)  # noqa: NPY002
    W, history, following = by_loop(CLASSIFIERS[kind], X, y, 0.1, 1e-2, 30, 16)
    np.random.seed(231)  # noqa: NPY002
    net = kind()
    assert net.W is None
    losses = net.train(X, y, learning_rate=0.1, reg=1e-2, num_iters=30, batch_size=16)
    assert np.random.rand() == following  # noqa: NPY002 (nothing else was drawn)
    np.testing.assert_allclose(losses, history, rtol=1e-12)
    np.testing.assert_allclose(net.W, W, rtol=1e-11, atol=1e-13)
    assert isinstance(net.W, np.ndarray)
    net.W[0, 0] += 1.0
    np.testing.assert_array_equal(net.predict(X), (X @ net.W).argmax(axis=1))
    loss, _ = net.loss(X, y, 0.5)
    np.testing.assert_allclose(loss, CLASSIFIERS[kind](net.W, X, y, 0.5)[0], rtol=1e-12)
    assert (net.predict(X) == y).mean() > 0.7


def test_training_continues_from_the_weights_there_are():
    _, X, y = problem()
    net = LinearSVM()
    net.W = start = np.ones((6, 4), np.float64)
    net.train(X, y, num_iters=3, batch_size=5)
    assert net.W.shape == (6, 4)
    assert not np.array_equal(net.W, start)
    np.testing.assert_array_equal(start, 1)
    net.train(X, y, num_iters=0)


def test_verbose_prints_the_courses_lines(capsys):
    _, X, y = problem()
    losses = Softmax().train(X, y, num_iters=201, verbose=True)
    assert capsys.readouterr().out == "".join(
        f"iteration {it} / 201: loss {losses[it]:f}\n" for it in (0, 100, 200)
    )
    assert len(losses) == 201


class Perceptron(LinearClassifier):
    def loss(self, X_batch, y_batch, reg):
        assert isinstance(self.W, np.ndarray)
        return svm_by_hand(self.W, X_batch, y_batch, reg)


class MySVM(LinearSVM):
    loss = Perceptron.loss


@pytest.mark.parametrize("kind", [Perceptron, MySVM])
def test_a_subclass_trains_by_its_own_loss(kind):
    _, X, y = problem()
    runs = []
    for net in (kind(), LinearSVM()):
        np.random.seed(0)  # noqa: NPY002
        runs.append(net.train(X, y, 0.1, 0.01, 10, 8))
    np.testing.assert_allclose(*runs, rtol=1e-12)
    with pytest.raises(NotImplementedError, match="use LinearSVM or Softmax"):
        LinearClassifier().train(X, y)


def test_an_interrupt_keeps_what_was_reached(monkeypatch):
    _, X, y = problem()
    step, calls = module._STEPS[Softmax.loss], iter(range(100))

    def interrupted(*args, **settings):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return step(*args, **settings)

    monkeypatch.setitem(module._STEPS, Softmax.loss, interrupted)
    np.random.seed(3)  # noqa: NPY002
    net = Softmax()
    with pytest.raises(KeyboardInterrupt):
        net.train(X, y, 0.1, 0.01, 50, 8)
    np.random.seed(3)  # noqa: NPY002
    W, _, _ = by_loop(softmax_by_hand, X, y, 0.1, 0.01, 5, 8)
    np.testing.assert_allclose(net.W, W, rtol=1e-11, atol=1e-13)


def test_training_mistakes_are_named():
    _, X, y = problem()
    with pytest.raises(ConfigurationError, match=r"X \(40, 2, 3\)"):
        LinearSVM().train(X.reshape(40, 2, 3), y)
    with pytest.raises(ConfigurationError, match="batch_size 0"):
        LinearSVM().train(X, y, batch_size=0)
    with pytest.raises(ConfigurationError, match="39 labels, 40 rows"):
        LinearSVM().train(X, y[1:])
    with pytest.raises(ConfigurationError, match="expected labels as integers"):
        LinearSVM().train(X, y / 2)
    with pytest.raises(ConfigurationError, match="call train first"):
        LinearSVM().predict(X)
    net = LinearSVM()
    net.train(X, y)
    with pytest.raises(ConfigurationError, match=r"W \(6, 3\) and X \(40, 5\)"):
        net.predict(X[:, 1:])
    with pytest.raises(ConfigurationError, match="expected labels from 0 to 2"):
        net.train(X, y + 1)


def test_weights_are_saved_and_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, X, y = problem()
    net, other = Softmax(), Softmax()
    assert other.load("best_softmax.npy") is False
    assert other.W is None
    with pytest.raises(ConfigurationError, match="call train first"):
        net.save("best_softmax.npy")
    net.train(X, y)
    net.save("best_softmax.npy")
    assert other.load("best_softmax.npy") is True
    np.testing.assert_array_equal(other.W, net.W)
    other.W = np.zeros((2, 2))
    with pytest.raises(DataError, match="another network"):
        other.load("best_softmax.npy")
    assert "saved" in capsys.readouterr().out


def test_predictions_do_not_depend_on_the_blocks(monkeypatch):
    W, X, _ = problem()
    net = LinearSVM()
    net.W = W
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(net.predict(X), (X @ W).argmax(axis=1))
    assert net.predict(X[:0]).shape == (0,)
