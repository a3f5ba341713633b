"""What was not resolved is not PASS: tails, tiny leaves, leaves of mixed scale, exact zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import check_grads

WRONG = {"FAIL", "INCONCLUSIVE"}


def with_rule(f, derivative):
    """Return f, elementwise, with a derivative by hand."""

    @jax.custom_vjp
    def function(x):
        return f(x)

    function.defvjp(lambda x: (f(x), x), lambda x, dout: (dout * derivative(x),))
    return function


def shifted_square(w, b):
    return jnp.sum((w + b - 1.0) ** 2)


W = np.array([0.3, -0.2, 0.5])


@pytest.mark.parametrize("factor", [1, 3, -1, 1.001])
@pytest.mark.parametrize("b", [1e-8, 1e-16, -1.6e-17, 1e-30, 1e-300])
def test_a_tiny_leaf_is_judged_on_the_length_on_which_f_changes(b, factor):
    def grad(w, b):
        dw, db = jax.grad(shifted_square, (0, 1))(w, b)
        return dw, factor * db

    report = check_grads(shifted_square, (W, np.float64(b)), grad=grad)
    assert report.leaves[1].verdict == ("PASS" if factor == 1 else "FAIL")
    assert report.leaves[1].numeric_zero is None
    assert report.leaves[1].bound < 1e-4


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_zeros_with_one_rounding_error_hide_no_wrong_entry(mode):
    bias = np.array([1e-17, 0.0, 0.0])

    def f(b):
        return jnp.sum((b + 1) ** 2)

    wrong = check_grads(f, (bias,), grad=lambda b: jnp.array([2.0, -7.0, 2.0]), mode=mode)
    assert wrong.verdict == "FAIL"
    assert wrong.leaves[0].worst.index == (1,)
    assert wrong.leaves[0].worst.numeric == pytest.approx(2.0, rel=1e-6)  # as far as bounds demand
    assert check_grads(f, (bias,), grad=lambda b: 2 * (b + 1), mode=mode).verdict == "PASS"


def test_a_leaf_whose_share_of_the_loss_is_below_its_rounding():
    def f(a, b):
        return jnp.sum(a**2) + jnp.sum(b**2)

    args = np.array([1e-5]), np.array([1.0, 1e5])
    assert check_grads(f, args, grad=lambda a, b: (-7000 * a, 2 * b)).verdict == "FAIL"
    assert check_grads(f, args, grad=lambda a, b: (2 * a, 2 * b)).verdict == "PASS"


def test_a_function_that_jax_cannot_trace_is_measured_on_its_own_length():
    def f(x):
        return float(np.sum((np.asarray(x) + 1) ** 2))

    x = 1e-17 * W
    assert check_grads(f, (x,), grad=lambda x: 2 * (np.asarray(x) + 1)).verdict == "PASS"
    assert check_grads(f, (x,), grad=lambda x: 2.01 * (np.asarray(x) + 1)).verdict == "FAIL"


def test_a_stop_of_the_gradient_shows_at_a_tiny_leaf():
    def f(x):
        return jnp.sum((jax.lax.stop_gradient(x) + 1) ** 2)

    assert check_grads(f, (1e-20 * W,)).verdict == "FAIL"


TAILS = {
    "expm1": (jnp.expm1, lambda x: jnp.expm1(x) + 1, -40.0),
    "sigmoid": (jax.nn.sigmoid, lambda x: jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x)), 40.0),
    "tanh": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, 20.0),
    "tanh further": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, 50.0),
}


@pytest.mark.parametrize("name", TAILS)
def test_a_tail_without_digits_is_not_both_zero(name):
    f, lossy, x = TAILS[name]
    for report in (
        check_grads(with_rule(f, lossy), (np.float64(x),)),
        check_grads(f, (np.float64(x),), grad=lossy),
    ):
        assert report.verdict in WRONG
        assert report.leaves[0].numeric_zero is None
        assert "move the point" in report.leaves[0].reason


def test_where_autodiff_keeps_its_digits_it_decides():
    def f(x):
        return jnp.exp(x) - 1

    x = np.float64(-40.0)
    assert check_grads(f, (x,), grad=jnp.exp).verdict == "PASS"
    lossy = check_grads(f, (x,), grad=lambda x: jnp.expm1(x) + 1).leaves[0]
    assert lossy.verdict == "INCONCLUSIVE"
    assert "loses its digits" in lossy.reason
    assert (lossy.worst.manual, lossy.worst.autodiff) == (0, pytest.approx(np.exp(-40.0)))
    for wrong in (lambda x: -jnp.exp(x), lambda x: 1.001 * jnp.exp(x), lambda x: 0 * x):
        for report in (check_grads(with_rule(f, wrong), (x,)), check_grads(f, (x,), grad=wrong)):
            assert report.verdict == "FAIL"
            assert "without rules of its own" in report.leaves[0].reason


def test_without_autodiff_a_flat_tail_is_inconclusive():
    def f(x):
        return float(np.sum(np.tanh(np.asarray(x))))

    report = check_grads(f, (25 + W,), grad=lambda x: 0 * np.asarray(x))
    assert report.verdict == "INCONCLUSIVE"
    assert "reference=" in report.leaves[0].reason


MIXED = 10.0 ** np.arange(-20, 21, 4.0)
ELEMENTWISE = {
    "square": (jnp.square, lambda x: 2 * x),
    "log": (jnp.log, lambda x: 1 / x),
    "arctan": (jnp.arctan, lambda x: 1 / (1 + x * x)),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("at", [None, 0, 5, 10])
def test_entries_of_all_scales_are_judged_each_by_itself(name, at):
    f, derivative = ELEMENTWISE[name]

    def tested(x):
        return derivative(x) if at is None else derivative(x).at[at].multiply(1.5)

    expected = "PASS" if at is None else "FAIL"
    assert check_grads(with_rule(f, tested), (MIXED,)).verdict == expected
    assert check_grads(lambda x: f(x).sum(), (MIXED,), grad=tested).verdict == expected


def batchnorm_sum(x):
    centred = x - x.mean(0, keepdims=True)
    return (centred / jnp.sqrt(jnp.square(centred).mean(0, keepdims=True) + 1e-5)).sum()


def batchnorm_sum_gradient(x):
    centred = x - x.mean(0, keepdims=True)
    scale = 1 / jnp.sqrt(jnp.square(centred).mean(0, keepdims=True) + 1e-5)
    hat, dout = centred * scale, jnp.ones_like(x)
    return scale * (dout - dout.mean(0, keepdims=True) - hat * (dout * hat).mean(0, keepdims=True))


def cross_entropy_bias(x, b):
    return jnp.sum(jnp.sin(x) * jax.nn.softmax(x + b[:, None], axis=1))


X = np.random.default_rng(0).normal(size=(6, 4))
ZEROS = {
    "unused": (lambda x, y: jnp.sum(x**2) + 0 * jnp.sum(y), (W, W)),
    "dead relu": (lambda x: jax.nn.relu(x - 50).sum(), (W,)),
    "dead maximum with a rule": (
        lambda x: with_rule(lambda x: jnp.maximum(x, 0), lambda x: jnp.where(x > 0, 1.0, 0.0))(
            x - 50
        ).sum(),
        (W,),
    ),
    "square at 0": (lambda x: jnp.sum(x**2), (0 * W,)),
    "cosine at 0": (lambda x: jnp.sum(jnp.cos(x)), (0 * W,)),
    "softmax of shifted rows": (cross_entropy_bias, (X, X[:, 0])),
    "softmax of rows shifted by next to nothing": (cross_entropy_bias, (X, 1e-17 * X[:, 0])),
    "sum of a batchnorm": (batchnorm_sum, (X,)),
}


@pytest.mark.parametrize("name", ZEROS)
def test_a_zero_that_is_one_passes(name):
    f, args = ZEROS[name]
    report = check_grads(f, args)
    assert report.verdict == "PASS"
    assert report.leaves[-1].numeric_zero == "both zero"


@pytest.mark.parametrize(("size", "verdicts"), [(1e-9, WRONG), (1e-3, {"FAIL"})])
def test_a_gradient_where_f_is_constant_does_not_pass(size, verdicts):
    report = check_grads(batchnorm_sum, (X,), grad=lambda x: jnp.full_like(x, size))
    assert report.verdict in verdicts


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("grad", [None, batchnorm_sum_gradient, jnp.zeros_like])
def test_the_sum_of_a_batchnorm_is_no_false_alarm(grad, dtype):
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(6, 4)).astype(dtype)
        assert check_grads(batchnorm_sum, (x,), grad=grad).verdict != "FAIL"


def stairs(x, w):
    return jnp.square((x @ w).astype(jnp.bfloat16).astype(x.dtype)).mean()


def short_product(x, w):
    product = x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)
    return jnp.square(product.astype(x.dtype)).mean()


def cut_short(x, w):
    return jnp.tanh(jax.lax.reduce_precision(x @ w, 8, 7)).mean()


@pytest.mark.parametrize("f", [stairs, short_product, cut_short])
def test_stairs_of_bfloat16_are_not_refuted(f):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        args = rng.normal(size=(8, 5)), rng.normal(size=(5, 3))
        report = check_grads(f, args)
        assert report.verdict == "INCONCLUSIVE"
        assert all("stairs" in leaf.reason for leaf in report.leaves if leaf.reason)

        def twice(x, w):
            return tuple(2 * g for g in jax.grad(f, (0, 1))(x, w))

        assert check_grads(f, args, grad=twice).verdict == "FAIL"


@pytest.mark.parametrize("seed", range(8))
def test_a_saturated_cross_entropy_is_not_refuted(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.choice([-50.0, 50.0], (4, 5)), rng.integers(0, 5, 4)

    def loss(z):
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(4), labels])

    def grad(z):
        return (jax.nn.softmax(z) - jax.nn.one_hot(labels, 5, dtype=z.dtype)) / 4

    for mode in ("directional", "full"):
        assert check_grads(loss, (scores,), grad=grad, mode=mode, seed=seed).verdict != "FAIL"
    assert check_grads(loss, (scores,), seed=seed).verdict != "FAIL"
    assert check_grads(loss, (scores,), grad=lambda z: 2 * grad(z) + 0.1).verdict == "FAIL"


@pytest.mark.parametrize("exponent", [-280, -160, 160, 280])
def test_gradients_whose_squares_leave_the_range_have_a_verdict_and_a_hint(exponent):
    size = 10.0**exponent

    def f(x):
        return jnp.sum(size * jnp.sin(x))

    report = check_grads(f, (W,), grad=lambda x: 2 * size * jnp.cos(x))
    assert report.verdict == "FAIL"
    assert "factor 2" in str(report.leaves[0].hint)
    assert check_grads(f, (W,), grad=lambda x: size * jnp.cos(x)).verdict == "PASS"
