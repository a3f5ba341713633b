"""The layer functions against NumPy formulas written here, and against finite differences."""

import numpy as np
import pytest

from jaxnet.cs231n import conventions, course_year, layer_utils, layers as L
from jaxnet.errors import ConfigurationError

RNG = np.random.default_rng(0)


def draw(*shape, dtype=np.float64):
    return RNG.normal(size=shape).astype(dtype)


def differences(f, x, dout, h=1e-5):
    """d(Σ f(x)·dout)/dx by central differences; error about h²·f'''/6 + 1e-16/h = 1e-10."""
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        old = x[i]
        x[i] = old + h
        above = f()
        x[i] = old - h
        grad[i] = ((above - f()) * dout).sum() / (2 * h)
        x[i] = old
    return grad


def standardized(x, axis):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def train():
    return {"mode": "train"}


x, w, b = draw(4, 2, 3), draw(6, 5), draw(5)
a, gamma, beta = draw(4, 5), draw(5), draw(5)
keep = (np.random.RandomState(3).rand(4, 5) < 0.7) / 0.7
seeded = {"mode": "train", "p": 0.7, "seed": 3}
affine = x.reshape(4, 6) @ w + b
LAYERS = {
    "affine": (L.affine_forward, L.affine_backward, (x, w, b), (), affine),
    "relu": (L.relu_forward, L.relu_backward, (a,), (), np.maximum(a, 0)),
    "batchnorm": (
        L.batchnorm_forward,
        L.batchnorm_backward,
        (a, gamma, beta),
        (train(),),
        gamma * standardized(a, 0) + beta,
    ),
    "batchnorm_alt": (
        L.batchnorm_forward,
        L.batchnorm_backward_alt,
        (a, gamma, beta),
        (train(),),
        gamma * standardized(a, 0) + beta,
    ),
    "layernorm": (
        L.layernorm_forward,
        L.layernorm_backward,
        (a, gamma, beta),
        ({},),
        gamma * standardized(a, 1) + beta,
    ),
    "dropout": (L.dropout_forward, L.dropout_backward, (a,), (seeded,), a * keep),
    "affine_relu": (
        layer_utils.affine_relu_forward,
        layer_utils.affine_relu_backward,
        (x, w, b),
        (),
        np.maximum(affine, 0),
    ),
    "affine_bn_relu": (
        layer_utils.affine_bn_relu_forward,
        layer_utils.affine_bn_relu_backward,
        (x, w, b, gamma, beta),
        (train(),),
        np.maximum(gamma * standardized(affine, 0) + beta, 0),
    ),
    "affine_ln_relu": (
        layer_utils.affine_ln_relu_forward,
        layer_utils.affine_ln_relu_backward,
        (x, w, b, gamma, beta),
        ({},),
        np.maximum(gamma * standardized(affine, 1) + beta, 0),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_forward_is_the_formula_and_backward_its_derivative(name):
    forward, backward, arrays, settings, expected = LAYERS[name]
    out, cache = forward(*arrays, *settings)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-13)
    dout = draw(*out.shape)
    grads = backward(dout, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    assert len(grads) == len(arrays)
    for array, grad in zip(arrays, grads, strict=True):
        numeric = differences(lambda: forward(*arrays, *settings)[0], array, dout)
        np.testing.assert_allclose(grad, numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_come_back_as_writable_numpy_arrays_of_the_dtype_that_went_in(name, dtype):
    forward, backward, arrays, settings, _ = LAYERS[name]
    out, cache = forward(*(array.astype(dtype) for array in arrays), *settings)
    grads = backward(out, cache)
    for array in (out, *(grads if isinstance(grads, tuple) else (grads,))):
        assert type(array) is np.ndarray
        assert array.dtype == dtype
        array += 1


def test_integers_and_mixed_dtypes_are_promoted_as_numpy_would():
    out, _ = L.affine_forward(np.arange(6).reshape(2, 3), np.ones((3, 2), np.float32), np.zeros(2))
    assert out.dtype == np.float64
    np.testing.assert_array_equal(out, [[3, 3], [12, 12]])
    assert L.relu_forward([-1, 2])[0].tolist() == [0.0, 2.0]


def test_the_two_batchnorm_backwards_are_two_computations_that_agree():
    out, cache = L.batchnorm_forward(50 * a + 12, gamma, beta, train())
    graph, closed = L.batchnorm_backward(out, cache), L.batchnorm_backward_alt(out, cache)
    for left, right in zip(graph, closed, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)
    assert any((left != right).any() for left, right in zip(graph, closed, strict=True))


def test_batchnorm_keeps_running_statistics_and_uses_them_in_test_mode():
    param = {"mode": "train", "momentum": 0.5}
    L.batchnorm_forward(a, gamma, beta, param)
    np.testing.assert_allclose(param["running_mean"], 0.5 * a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(param["running_var"], 0.5 * a.var(0), rtol=1e-12)
    param["mode"], before = "test", param["running_mean"].copy()
    out, cache = L.batchnorm_forward(a, gamma, beta, param)
    np.testing.assert_array_equal(param["running_mean"], before)
    scale = 1 / np.sqrt(param["running_var"] + 1e-5)
    np.testing.assert_allclose(out, gamma * (a - before) * scale + beta, rtol=1e-12)
    for backward in (L.batchnorm_backward, L.batchnorm_backward_alt):
        np.testing.assert_allclose(backward(a, cache)[0], a * gamma * scale, rtol=1e-9)


def test_dropout_draws_the_course_s_mask_and_keeps_everything_in_test_mode():
    np.random.seed(7)  # noqa: NPY002
    out, cache = L.dropout_forward(a, {"mode": "train", "p": 0.3})
    np.random.seed(7)  # noqa: NPY002
    np.testing.assert_allclose(out, a * (np.random.rand(*a.shape) < 0.3) / 0.3)  # noqa: NPY002
    out, cache = L.dropout_forward(a, {"mode": "test", "p": 0.3})
    np.testing.assert_array_equal(out, a)
    np.testing.assert_array_equal(L.dropout_backward(a, cache), a)
    assert not np.shares_memory(out, a)


def test_until_2017_p_is_the_probability_to_drop():
    big = np.ones((200, 200))
    try:
        course_year(2017)
        old, _ = L.dropout_forward(big, {"mode": "train", "p": 0.3, "seed": 0})
        with pytest.raises(ConfigurationError, match=r"to drop.*got 1\. .*course_year\(2018\)"):
            L.dropout_forward(big, {"mode": "train", "p": 1})
    finally:
        course_year(conventions.LATEST)
    new, _ = L.dropout_forward(big, {"mode": "train", "p": 0.3, "seed": 0})
    # 40,000 draws: the standard deviation of a fraction is 0.0023.
    assert abs((old == 0).mean() - 0.3) < 0.01
    assert abs((new == 0).mean() - 0.7) < 0.01


def test_losses_of_uniform_scores_are_known():
    y = np.array([0, 1, 2])
    loss, dx = L.softmax_loss(np.zeros((3, 10)), y)
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-14)
    np.testing.assert_allclose(dx, (0.1 - np.eye(10)[:3]) / 3, rtol=1e-14)
    loss, dx = L.svm_loss(np.zeros((3, 10)), y)
    assert loss == 9
    assert isinstance(loss, float)
    np.testing.assert_allclose(dx, (1 - 10 * np.eye(10)[:3]) / 3, rtol=1e-14)


@pytest.mark.parametrize("loss", [L.softmax_loss, L.svm_loss])
def test_loss_gradients_are_derivatives(loss):
    scores, y = draw(6, 4), RNG.integers(0, 4, 6)
    numeric = differences(lambda: loss(scores, y)[0], scores, 1.0)
    np.testing.assert_allclose(loss(scores, y)[1], numeric, rtol=1e-7, atol=1e-9)


MISTAKES = {
    "x of another width": (
        lambda: L.affine_forward(draw(4, 7), w, b),
        r"6 values a row for weights \(6, 5\), got x \(4, 7\)",
    ),
    "bias of another width": (
        lambda: L.affine_forward(x, w, draw(4)),
        r"biases b \[outputs\], got w \(6, 5\) and b \(4,\)",
    ),
    "dout of another shape": (
        lambda: L.affine_backward(draw(5, 4), L.affine_forward(x, w, b)[1]),
        r"output \(4, 5\), got \(5, 4\)",
    ),
    "gamma of another width": (
        lambda: L.batchnorm_forward(a, draw(4), beta, train()),
        r"gamma \(4,\), beta \(5,\)",
    ),
    "no mode": (lambda: L.batchnorm_forward(a, gamma, beta, {}), "bn_param lacks 'mode'"),
    "a mode that is none": (
        lambda: L.dropout_forward(a, {"mode": "training", "p": 0.5}),
        "unknown mode in dropout_param 'training': did you mean 'train'",
    ),
    "no p": (lambda: L.dropout_forward(a, {"mode": "train"}), "dropout_param lacks 'p'"),
    "p of 0": (
        lambda: L.dropout_forward(a, {"mode": "train", "p": 0}),
        r"to keep, above 0 and at most 1, got 0\. .*course_year\(2017\)",
    ),
    "a label out of range": (
        lambda: L.softmax_loss(draw(2, 3), np.array([0, 3])),
        r"labels from 0 to 2 \(3 classes\), got 3 in row 1",
    ),
    "labels of another length": (
        lambda: L.svm_loss(draw(2, 3), np.array([0])),
        "got 1 labels, 2 rows",
    ),
    "scores of one image": (
        lambda: L.softmax_loss(draw(3), np.array([0])),
        r"scores x \[batch, classes\], got \(3,\)",
    ),
    "no array": (lambda: L.relu_forward(None), "x: expected an array of real numbers, got None"),
    "a ragged list": (lambda: L.relu_forward([[1], [1, 2]]), "x: expected an array, got list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    call, text = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=text):
        call()
