import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from jaxnet.cs231n import gradient_check as gc
from jaxnet.errors import ConfigurationError


def points():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4))
    wide = rng.normal(size=(6, 8))
    return {
        "plain": x,
        "transposed": x.T,
        "strided": wide[::2, ::2],
        "fortran": np.asfortranarray(x),
        "backwards": x[::-1, ::-1],
        "vector": rng.normal(size=5),
        "number": np.array(0.7),
        "empty": np.zeros((0, 3)),
        "four axes": rng.normal(size=(2, 1, 2, 2)),
    }


@pytest.mark.parametrize("kind", points())
def test_slopes_of_a_function_with_a_known_derivative(kind):
    x = points()[kind]
    before = x.copy()
    grad = gc.eval_numerical_gradient(lambda x: np.sum(np.sin(x) * 3), x, verbose=False)
    np.testing.assert_allclose(grad, 3 * np.cos(before), rtol=1e-9)
    df = np.random.default_rng(1).normal(size=x.shape)
    grad = gc.eval_numerical_gradient_array(np.exp, x, df)
    np.testing.assert_allclose(grad, np.exp(before) * df, rtol=1e-8)
    np.testing.assert_array_equal(x, before)


def test_array_gradient_of_a_function_into_another_shape():
    rng = np.random.default_rng(2)
    w, x, df = rng.normal(size=(4, 2)), rng.normal(size=(3, 4)), rng.normal(size=(3, 2))
    grad = gc.eval_numerical_gradient_array(lambda w: x @ w, w, df)
    np.testing.assert_allclose(grad, x.T @ df, rtol=1e-9)
    out = np.empty((3, 2))  # f may write into the same array each time
    grad = gc.eval_numerical_gradient_array(lambda w: np.matmul(x, w, out=out), w, df)
    np.testing.assert_allclose(grad, x.T @ df, rtol=1e-9)


def test_f_may_read_x_from_elsewhere():
    net = SimpleNamespace(params={"W1": np.array([1.0, 2.0])})
    f = lambda _: float(net.params["W1"] @ net.params["W1"])  # noqa: E731 (as notebooks have it)
    grad = gc.eval_numerical_gradient(f, net.params["W1"], verbose=False, h=1e-6)
    np.testing.assert_allclose(grad, [2, 4], rtol=1e-8)


def test_the_formula_is_the_courses():
    x, h = np.array([0.3]), 0.5
    grad = gc.eval_numerical_gradient(lambda x: float(x[0] ** 3), x, False, h)
    assert grad[0] == (0.8**3 - (0.3 - h) ** 3) / (2 * h)


def test_verbose_prints_index_and_slope(capsys):
    grad = gc.eval_numerical_gradient(lambda x: (x**2).sum(), np.array([[1.0, 2.0]]))
    assert capsys.readouterr().out == f"(0, 0) {grad[0, 0]}\n(0, 1) {grad[0, 1]}\n"
    gc.eval_numerical_gradient(lambda x: x.sum(), np.ones(2), verbose=False)
    assert capsys.readouterr().out == ""


class Blob:
    def __init__(self, vals, diffs):
        self.vals, self.diffs = vals, diffs


def blobs():
    rng = np.random.default_rng(3)
    x, w = (Blob(rng.normal(size=s), np.zeros(s)) for s in [(2, 3), (3, 2)])
    return (x, w), Blob(np.zeros((2, 2)), rng.normal(size=(2, 2)))


def product(x, w, out):
    out.vals[...] = x.vals @ w.vals


@pytest.mark.parametrize("kind", [tuple, list])
def test_blobs_and_nets(kind):
    inputs, out = blobs()
    x, w = inputs
    expected = [out.diffs @ w.vals.T, x.vals.T @ out.diffs]
    by_function = gc.eval_numerical_gradient_blobs(product, kind(inputs), out, h=1e-5)
    net = SimpleNamespace(forward=lambda: product(x, w, out))
    by_net = gc.eval_numerical_gradient_net(net, kind(inputs), out, h=1e-5)
    for grads in (by_function, by_net):
        for grad, want in zip(grads, expected, strict=True):
            np.testing.assert_allclose(grad, want, rtol=1e-9)


def test_sparse_check_prints_the_courses_lines_at_pythons_random_places(capsys):
    x = np.arange(12.0).reshape(3, 4) + 1
    random.seed(231)
    places = [(random.randrange(3), random.randrange(4)) for _ in range(4)]
    random.seed(231)
    gc.grad_check_sparse(lambda x: (x**2).sum(), x, 2 * x * 1.5, 4)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"numerical: {n:f} analytic: {a:f}, relative error: {abs(n - a) / (abs(n) + abs(a)):e}"
        for n, a in ((slope(x, place), 3 * x[place]) for place in places)
    ]
    assert "relative error: 2.000000e-01" in lines[0]  # (3 − 2)/(3 + 2): a factor of 1.5 shows


def slope(x, place, h=1e-5):
    up, down = x.copy(), x.copy()
    up[place] += h
    down[place] -= h
    return ((up**2).sum() - (down**2).sum()) / (2 * h)


def test_sparse_check_of_two_zeros_is_no_division_by_zero(capsys):
    gc.grad_check_sparse(lambda x: 1.0, np.ones(3), np.zeros(3), num_checks=1)
    line = "numerical: 0.000000 analytic: 0.000000, relative error: 0.000000e+00\n"
    assert capsys.readouterr().out == line


CHECKS = {
    "scalar": lambda f, x: gc.eval_numerical_gradient(f, x, verbose=False),
    "array": lambda f, x: gc.eval_numerical_gradient_array(f, x, np.ones(())),
    "sparse": lambda f, x: gc.grad_check_sparse(f, x, np.zeros(x.shape)),
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("calls", [1, 2, 3, 4])
def test_x_is_restored_when_f_raises(check, error, calls):
    x = np.array([1.0, -2.0, 3.0])
    before, count = x.copy(), iter(range(100))

    def f(x):
        if next(count) + 1 == calls:
            raise error
        return x.sum()

    with pytest.raises(error):
        CHECKS[check](f, x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.arange(3), r"x of int64 cannot be moved.*Pass x.astype\(np.float64\)"),
        (np.zeros(3, bool), "x of bool"),
        (np.broadcast_to(1.0, (3,)), r"read-only: pass x.copy\(\)"),
    ],
)
def test_points_that_cannot_be_moved(check, x, match):
    with pytest.raises(ConfigurationError, match=match):
        CHECKS[check](lambda x: x.sum(), x)


def test_other_mistakes_are_named():
    x = np.ones((2, 3))
    with pytest.raises(ConfigurationError, match="must be a NumPy array, got list"):
        gc.eval_numerical_gradient(sum, [1.0, 2.0])
    with pytest.raises(ConfigurationError, match=r"got an array \(2, 3\): .*_gradient_array"):
        gc.eval_numerical_gradient(lambda x: x, x)
    with pytest.raises(ConfigurationError, match=r"got a tuple: .*take \[0\]"):
        gc.eval_numerical_gradient(lambda x: (x.sum(), {}), x)
    with pytest.raises(ConfigurationError, match=r"got a tuple: .*take \[0\]"):
        gc.grad_check_sparse(lambda x: (x.sum(), {}), x, x)
    with pytest.raises(ConfigurationError, match=r"got df \(2, 1\), f\(x\) \(2, 3\)"):
        gc.eval_numerical_gradient_array(lambda x: x, x, np.ones((2, 1)))
    with pytest.raises(ConfigurationError, match=r"x \(2, 3\), analytic_grad \(3, 2\)"):
        gc.grad_check_sparse(lambda x: x.sum(), x, x.T)
    with pytest.raises(ConfigurationError, match=r"h > 0, got 0\.0"):
        gc.eval_numerical_gradient(lambda x: x.sum(), x, h=0.0)
    np.testing.assert_array_equal(x, 1)


@pytest.mark.parametrize("check", CHECKS)
def test_float32_is_warned_of(check):
    x = np.ones(2, np.float32)
    with pytest.warns(UserWarning, match="x is float32: .*Use float64 arrays"):
        CHECKS[check](lambda x: x.sum(dtype=np.float64), x)
    with warnings.catch_warnings(action="ignore"):
        assert gc.eval_numerical_gradient(lambda x: x.sum(), x, False).dtype == np.float32
