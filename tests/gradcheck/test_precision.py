"""Low precision is judged by float64 at the same inputs; without float64, by wider bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.gradcheck import check_grads

LOW = [jnp.float32, jnp.bfloat16, jnp.float16]
RNG = np.random.default_rng(0)
X, W, V = RNG.normal(size=(16, 8)), RNG.normal(size=(8, 12)) / 3, RNG.normal(size=(12, 4)) / 3


def network(x, w, v):
    return jnp.mean(jnp.tanh(jnp.tanh(x @ w) @ v) ** 2)


def network_gradient(x, w, v):
    hidden = jnp.tanh(x @ w)
    out = jnp.tanh(hidden @ v)
    inner = 2 * out / out.size * (1 - out**2)
    dw = x.T @ ((inner @ v.T) * (1 - hidden**2))
    return (inner @ v.T * (1 - hidden**2)) @ w.T, dw, hidden.T @ inner


def cast(dtype, *arrays):
    return tuple(jnp.asarray(a, dtype) for a in arrays)


@pytest.mark.parametrize("dtype", LOW)
def test_right_gradients_pass_in_any_dtype(dtype):
    args = cast(dtype, X, W, V)
    report = check_grads(network, args, grad=network_gradient)
    assert report.verdict == "PASS", str(report)
    assert report.leaves[0].dtype == jnp.dtype(dtype).name
    assert report.precision == "float64"
    assert check_grads(network, args).verdict == "PASS"


@pytest.mark.parametrize("dtype", LOW)
def test_wrong_gradients_fail_in_any_dtype(dtype):
    def wrong(x, w, v):
        dx, dw, dv = network_gradient(x, w, v)
        return dx, dw, dv * 1.0001

    report = check_grads(network, cast(dtype, X, W, V), grad=wrong)
    assert [leaf.verdict for leaf in report.leaves] == ["PASS", "PASS", "FAIL"]


def cancels(x):
    """Return x − 1000 by a formula that loses three digits."""
    return (x * x - 1000 * x) / x


def test_what_is_right_in_float64_only_fails_in_float32():
    def f(x):
        return jnp.sum(jnp.sin(x - 1000))

    args = cast(jnp.float32, X + 1000)
    report = check_grads(f, args, grad=lambda x: jnp.cos(cancels(x)))
    (leaf,) = report.leaves
    assert leaf.verdict == "FAIL"
    assert "float32" in leaf.hint
    assert leaf.worst is not None
    with jax.enable_x64(True):
        report = check_grads(f, (X + 1000,), grad=lambda x: jnp.cos(cancels(x)))
    assert report.verdict == "PASS"


def test_what_the_function_itself_loses_is_not_held_against_its_gradient():
    def f(x):
        return jnp.sum(jnp.sin(cancels(x)))

    args = cast(jnp.float32, X + 1000)
    report = check_grads(f, args, grad=lambda x: jnp.cos(cancels(x)))
    assert report.verdict == "PASS", str(report)


def needs_float64(x):
    if x.dtype != np.float64:
        raise TypeError(f"no rule for {x.dtype}")
    return x


def called_back(x):
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(lambda v: needs_float64(np.asarray(v)), like, x)


RAISED = r"raised TypeError on the given arguments in .*no rule for float32.*astype"


def test_a_gradient_that_raises_in_its_own_dtype_is_inconclusive():
    def ruled(check):
        rule = jax.custom_vjp(jnp.sin)
        rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (jnp.cos(check(x)) * dout,))
        return lambda x: jnp.sum(rule(x))

    def f(x):
        return jnp.sum(jnp.sin(x))

    (x,) = cast(jnp.float32, X)
    reports = [
        check_grads(f, (x,), grad=lambda x: jnp.cos(needs_float64(x))),
        check_grads(f, (x,), grad=lambda x: jnp.cos(called_back(x))),
        check_grads(
            lambda x: (jnp.sin(x), x),
            (x,),
            backward=lambda dout, x: jnp.cos(needs_float64(x)) * dout,
        ),
        check_grads(ruled(needs_float64), (x,)),
        check_grads(ruled(called_back), (x,)),
    ]
    for report in reports:
        assert report.verdict == report.leaves[0].verdict == "INCONCLUSIVE", str(report)
        with pytest.raises(AssertionError, match=RAISED):
            raise AssertionError(report.leaves[0].reason)
    assert check_grads(f, (X,), grad=lambda x: jnp.cos(needs_float64(x))).verdict == "PASS"
    wrong = check_grads(f, (x,), grad=lambda x: 2 * jnp.cos(needs_float64(x)))
    assert wrong.verdict == wrong.leaves[0].verdict == "FAIL"


def test_a_function_that_raises_in_its_own_dtype_is_inconclusive():
    def f(x):
        return jnp.sum(jnp.sin(needs_float64(x)))

    report = check_grads(f, cast(jnp.float32, X), grad=jnp.cos)
    assert report.verdict == "INCONCLUSIVE"
    assert "f raised TypeError" in report.leaves[0].reason


@pytest.mark.parametrize(("loses", "verdict"), [(False, "PASS"), (True, "FAIL")])
def test_the_own_dtype_is_compared_without_autodiff_too(loses, verdict):
    def f(x):  # a loop that JAX cannot differentiate
        x = jax.lax.while_loop(lambda x: jnp.sum(x) < -1e9, lambda x: 2 * x, x)
        return jnp.sum(jnp.sin(x - 1000))

    def grad(x):
        return jnp.cos(cancels(x) if loses else x - 1000)

    report = check_grads(f, cast(jnp.float32, X + 1000), grad=grad)
    assert report.verdict == verdict, str(report)


def test_dropout_draws_other_numbers_in_other_dtypes():
    def f(x, key):
        keep = jax.random.bernoulli(key, 0.5, x.shape)
        return jnp.sum(jnp.where(keep, jnp.sin(x) / 0.5, 0))

    def gradient(x, key):
        keep = jax.random.bernoulli(key, 0.5, x.shape)
        return jnp.where(keep, jnp.cos(x) / 0.5, 0), None

    args = (*cast(jnp.float32, X), jax.random.key(1))
    assert check_grads(f, args, grad=gradient).verdict == "PASS"
    unscaled = check_grads(f, args, grad=lambda x, key: (gradient(x, key)[0] / 2, None))
    assert unscaled.verdict == "FAIL"


def test_constants_in_float32_do_not_stop_a_check_in_float64():
    data = jnp.asarray(V[:, 0], jnp.float32)
    report = check_grads(lambda w: jnp.sum(w @ data), cast(jnp.float32, W))
    assert report.verdict == "PASS"
    assert report.precision == "float64"
    assert any("standard promotion" in note for note in report.notes)


def test_functions_that_stay_in_float32_are_checked_in_it():
    def f(x):
        return jnp.sum(jnp.sin(x.astype(jnp.float32)))

    report = check_grads(f, (X,), grad=jnp.cos)
    assert (report.verdict, report.precision) == ("PASS", "float32")
    assert any("float32 only" in note for note in report.notes)
    assert check_grads(f, (X,), grad=lambda x: 1.01 * jnp.cos(x)).verdict == "FAIL"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_float32_only_finds_errors_of_a_thousandth_and_accuses_nobody(seed):
    args = cast(jnp.float32, X, W, V)
    right = check_grads(network, args, grad=network_gradient, float32_only=True, seed=seed)
    assert (right.verdict, right.precision) == ("PASS", "float32")

    def wrong(x, w, v):
        dx, dw, dv = network_gradient(x, w, v)
        return dx, dw * 1.003, dv

    report = check_grads(network, args, grad=wrong, float32_only=True, seed=seed)
    assert [leaf.verdict for leaf in report.leaves] == ["PASS", "FAIL", "PASS"]


def test_parts_in_float32_widen_the_bound():
    def f(x):
        return jnp.sum(jnp.sin(x.astype(jnp.float32)).astype(x.dtype) * x)

    report = check_grads(f, (X,))
    assert report.verdict == "PASS"
    assert 1e-10 < report.leaves[0].bound < 1e-2


def test_the_matmul_precision_in_force_is_reported():
    with jax.default_matmul_precision("bfloat16"):
        report = check_grads(network, cast(jnp.float32, X, W, V))
    assert report.precision == "float64, matmul precision bfloat16"


KEY = jax.random.key(3)
DRAWS = {
    "dropout": lambda x: jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), 2 * x, 0),
    "old key": lambda x: jnp.where(jax.random.bernoulli(jax.random.PRNGKey(3), 0.5, x.shape), x, 0),
    "uniform": lambda x: jnp.where(jax.random.uniform(KEY, x.shape, x.dtype) < 0.5, x, 0),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shift", [0.0, 1e6])  # of a value beside which the mask does not show
def test_another_mask_in_float64_is_no_loss_of_digits(name, shift):
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")

    def f(x):
        return shift + DRAWS[name](x).sum()

    report = check_grads(f, (x,))
    assert report.verdict == "PASS"
    (note,) = [note for note in report.notes if "float64" in note]
    assert "a dropout mask is another in float64" in note
    assert note.endswith("own dtype not compared")
    by_hand = check_grads(f, (x,), grad=jax.grad(f))
    assert by_hand.verdict == "PASS"
    assert any(note.endswith("own dtype compared with autodiff") for note in by_hand.notes)


def test_the_same_draws_in_both_dtypes_are_compared():
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")

    def masked(x):  # the probability is a float32 in both
        return jnp.where(jax.random.bernoulli(KEY, np.float32(0.5), x.shape), x, 0).sum()

    assert not any("draws" in note for note in check_grads(masked, (x,)).notes)

    def narrow(x):
        exact = jax.grad(masked)(x)
        return exact if x.dtype == jnp.float64 else exact * 1.01

    assert check_grads(masked, (x,), grad=narrow).verdict == "FAIL"
