"""check_grads: argument kinds, conventions, custom rules, scales, large leaves, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck import assert_grads, check_grads

X = np.array([0.3, -1.2, 2.0])


def square(x):
    return jnp.sum(x**2)


def verdicts(report):
    return {leaf.path: leaf.verdict for leaf in report.leaves}


# Conventions


def test_a_gradient_may_be_bare_or_a_tuple():
    for grad in (lambda x: 2 * x, lambda x: (2 * x,)):
        assert check_grads(square, (X,), grad=grad).verdict == "PASS"
    for grad in (lambda x: 2.001 * x, lambda x: (2.001 * x,)):
        assert check_grads(square, (X,), grad=grad).verdict == "FAIL"


def test_a_layer_returns_a_cache_and_its_backward_pass_takes_it():
    def forward(x, w):
        return jnp.tanh(x @ w), (x, w, jnp.tanh(x @ w))

    def backward(dout, cache):
        x, w, out = cache
        inner = dout * (1 - out**2)
        return inner @ w.T, x.T @ inner

    def cotangent_forgotten(dout, cache):
        return backward(jnp.ones_like(dout), cache)

    rng = np.random.default_rng(0)
    args = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    assert check_grads(forward, args, backward=backward).verdict == "PASS"
    report = check_grads(forward, args, backward=cotangent_forgotten)
    assert verdicts(report) == {"x": "FAIL", "w": "FAIL"}
    outcomes = {c.name: c.outcome for c in report.exact}
    assert outcomes["linear in cotangent"] == outcomes["zero cotangent"] == "failed"


def test_a_layer_may_return_the_gradients_of_its_first_arguments():
    def forward(x, slope):
        return x * slope, slope

    report = check_grads(forward, (X, np.float64(2)), backward=lambda dout, slope: dout * slope)
    assert verdicts(report) == {"x": "PASS"}
    assert any("slope" in note for note in report.notes)


def test_auxiliary_output_is_not_differentiated():
    def f(x):
        return jnp.sum(x**3), {"mean": x.mean(), "step": 3, "name": "batch"}

    assert check_grads(f, (X,), has_aux=True).verdict == "PASS"
    assert check_grads(f, (X,), grad=lambda x: 3 * x**2, has_aux=True).verdict == "PASS"
    assert check_grads(f, (X,), grad=lambda x: 3 * x, has_aux=True).verdict == "FAIL"


def test_every_kind_of_argument_is_taken():
    def f(params, key, labels, mask, rate, mode, nothing, count):
        noise = jax.random.normal(key, params["w"].shape, params["w"].dtype)
        scores = (params["w"] + 0.1 * noise) * (2.0 if mode == "train" else 1.0)
        picked = jnp.take(scores, labels, axis=0) * rate * count
        assert nothing is None
        return jnp.sum(jnp.where(mask, picked**2, 0.0)) + params["b"][0].sum()

    params = {"w": np.arange(12.0).reshape(4, 3), "b": [np.ones(2), None], "step": np.int32(3)}
    mask = np.array([[True, False, True], [True, True, True]])
    args = (params, jax.random.key(0), np.array([3, 1]), mask, 0.5, "train", None, 2)
    report = check_grads(f, args)
    assert report.verdict == "PASS"
    assert set(verdicts(report)) == {"params/w", "params/b/0", "rate"}


def test_only_the_selected_arguments_are_checked():
    def f(x, y):
        return jnp.sum(x * y)

    args = (X, X + 1)
    assert set(verdicts(check_grads(f, args, argnums=1))) == {"y"}
    assert check_grads(f, args, argnums=0, grad=lambda x, y: y).verdict == "PASS"
    assert check_grads(f, args, argnums=(1,), grad=lambda x, y: (x,)).verdict == "PASS"
    assert check_grads(f, args, argnums=0, grad=lambda x, y: x).verdict == "FAIL"


def test_none_for_a_leaf_means_zero():
    report = check_grads(
        lambda x, y: square(x) + square(y), (X, X), grad=lambda x, y: (2 * x, None)
    )
    assert verdicts(report) == {"x": "PASS", "y": "FAIL"}
    assert "argnums" in str(report)
    report = check_grads(lambda x, y: square(x), (X, X), grad=lambda x, y: (2 * x, None))
    assert verdicts(report) == {"x": "PASS", "y": "PASS"}


def test_numpy_functions_are_checked_in_a_loop():
    def f(x):
        return float(np.sum(np.sin(x)))

    assert check_grads(f, (X,), grad=np.cos).verdict == "PASS"
    assert check_grads(f, (X,), grad=lambda x: 1.001 * np.cos(x)).verdict == "FAIL"


def test_callbacks_are_checked_one_by_one():
    def f(x):
        like = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return jnp.sum(jax.pure_callback(lambda v: np.asarray(v) ** 2, like, x))

    report = check_grads(f, (X,), grad=lambda x: 2 * x)
    assert report.verdict == "PASS"
    assert any("one by one" in note for note in report.notes)
    assert check_grads(f, (X,), grad=lambda x: x).verdict == "FAIL"


@pytest.mark.parametrize("mode", ["directional", "sampled", "full"])
def test_every_mode_finds_one_wrong_entry_of_some(mode):
    w = np.random.default_rng(0).normal(size=(5, 6))

    def grad(w):
        return jnp.cos(w).at[3, 2].multiply(1.01)

    report = check_grads(lambda w: jnp.sin(w).sum(), (w,), grad=grad, mode=mode)
    assert report.verdict == "FAIL"
    worst = report.leaves[0].worst
    assert worst.index == (3, 2)
    np.testing.assert_allclose([worst.autodiff, worst.numeric], np.cos(w[3, 2]), rtol=1e-8)
    np.testing.assert_allclose(worst.manual, 1.01 * np.cos(w[3, 2]))
    assert check_grads(lambda w: jnp.sin(w).sum(), (w,), mode=mode).verdict == "PASS"


# Custom rules


def custom(backward):
    rule = jax.custom_vjp(lambda x: jnp.sin(x))
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (backward(x, dout),))
    return lambda x: rule(x)


def test_custom_rules_are_under_test():
    assert check_grads(custom(lambda x, dout: jnp.cos(x) * dout), (X,)).verdict == "PASS"
    for wrong in (
        lambda x, dout: -jnp.cos(x) * dout,
        lambda x, dout: jnp.cos(x),
        lambda x, dout: jnp.cos(x) * dout * (1 + 1e-7),
    ):
        assert check_grads(custom(wrong), (X,)).verdict == "FAIL"


def test_a_cotangent_ignored_is_seen_at_a_scalar_too():
    f = custom(lambda x, dout: jnp.cos(x))
    report = check_grads(lambda x: f(x).sum(), (X,))
    assert report.verdict == "FAIL"
    assert "zero cotangent failed" in " ".join(str(report).split())


def test_custom_jvp_rules_are_under_test():
    def rule(factor):
        f = jax.custom_jvp(jnp.sin)
        f.defjvp(lambda p, t: (jnp.sin(p[0]), factor * jnp.cos(p[0]) * t[0]))
        return f

    assert check_grads(rule(1.0), (X,)).verdict == "PASS"
    assert check_grads(rule(2.0), (X,)).verdict == "FAIL"


def test_a_reference_is_a_second_opinion():
    right = custom(lambda x, dout: jnp.cos(x) * dout)
    report = check_grads(right, (X,), reference=jnp.sin)
    assert report.verdict == "PASS"
    assert report.leaves[0].versus_autodiff < 1e-14
    assert check_grads(right, (X,), reference=jnp.tanh).verdict == "FAIL"


def test_a_changed_rule_is_not_answered_from_a_cache():
    factor = [1.0]
    rule = jax.custom_vjp(lambda x: jnp.sin(x))
    rule.defvjp(lambda x: (jnp.sin(x), x), lambda x, dout: (factor[0] * jnp.cos(x) * dout,))

    def f(x):
        return rule(x).sum()

    assert check_grads(f, (X,)).verdict == "PASS"
    factor[0] = 1.5
    assert check_grads(f, (X,)).verdict == "FAIL"


def test_data_that_is_closed_over_is_not_answered_from_a_cache():
    for scale in (2.0, 3.0):
        data = np.full(3, scale)
        inner = jax.jit(lambda x, data=data: (x * data).sum())
        assert check_grads(inner, (X,), grad=lambda x, s=scale: s * jnp.ones(3)).verdict == "PASS"
        assert check_grads(inner, (X,), grad=lambda x: 2.5 * jnp.ones(3)).verdict == "FAIL"


def test_a_callback_is_not_answered_from_the_cache_of_another():
    def calling(function):
        like = jax.ShapeDtypeStruct((3,), np.float64)
        return lambda x: jnp.sum(jax.pure_callback(lambda v: function(np.asarray(v)), like, x))

    assert check_grads(calling(np.sin), (X,), grad=jnp.cos).verdict == "PASS"
    assert check_grads(calling(np.cos), (X,), grad=jnp.cos).verdict == "FAIL"
    assert check_grads(calling(np.cos), (X,), grad=lambda x: -jnp.sin(x)).verdict == "PASS"


def test_surrogates_are_compared_with_autodiff_only():
    def straight_through(x):
        return jnp.sum(x + jax.lax.stop_gradient(jnp.round(x) - x))

    assert check_grads(straight_through, (X,)).verdict == "FAIL"
    assert "surrogate" in str(check_grads(straight_through, (X,), grad=jnp.ones_like))
    for factor, verdict in [(1, "PASS"), (2, "FAIL")]:
        report = check_grads(
            straight_through, (X,), grad=lambda x, k=factor: k * jnp.ones(3), expected="surrogate"
        )
        assert report.verdict == verdict


def ruled(f, backward):
    rule = jax.custom_vjp(f)
    rule.defvjp(lambda x: (f(x), x), backward)
    return rule


STRAIGHT_THROUGH = {
    "stop_gradient": lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x),
    "round": ruled(lambda x: jnp.round(x), lambda x, d: (d,)),
    "sign, clipped": ruled(lambda x: jnp.sign(x), lambda x, d: (jnp.where(abs(x) < 1, d, 0),)),
    "in 256 steps": ruled(lambda x: jnp.round(x * 256) / 256, lambda x, d: (d,)),
    "to integers": ruled(lambda x: x.astype(int).astype(x.dtype), lambda x, d: (d,)),
    "threshold": ruled(lambda x: jnp.where(x > 0, 1.0, -1.0), lambda x, d: (d,)),
    "smooth beside steps": ruled(lambda x: x**2 + jnp.floor(x), lambda x, d: (d * (2 * x + 1),)),
    "hard softmax": lambda x: (
        jax.nn.softmax(x)
        + jax.lax.stop_gradient(jax.nn.one_hot(x.argmax(), 3, dtype=x.dtype) - jax.nn.softmax(x))
    ),
}


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
@pytest.mark.parametrize("mode", ["directional", "full"])
def test_a_straight_through_estimator_that_fails_is_told_what_to_declare(name, mode):
    f, x = STRAIGHT_THROUGH[name], np.array([0.3, -0.7, 1.4])
    report = check_grads(f, (x,), mode=mode)
    assert report.verdict == "FAIL"
    assert report.leaves[0].reason.endswith('then expected="surrogate"')
    assert check_grads(f, (x,), mode=mode, expected="surrogate").verdict == "PASS"


def test_a_surrogate_by_hand_is_told_to_come_with_its_function():
    def surrogate(x):
        return jnp.sum(x + jax.lax.stop_gradient(jnp.round(x) - x))

    arguments = (lambda x: jnp.round(x).sum(), (np.array([0.3, -0.7, 1.4]),))
    report = check_grads(*arguments, grad=jnp.ones_like)
    assert report.verdict == "FAIL"
    assert 'expected="surrogate", and reference= a function' in report.leaves[0].reason
    declared = {"reference": surrogate, "expected": "surrogate"}
    assert check_grads(*arguments, grad=jnp.ones_like, **declared).verdict == "PASS"
    smooth = check_grads(lambda x: (x**2).sum(), (X,), grad=lambda x: x)
    assert "surrogate" not in str(smooth)


# Scale and size


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize(("error", "verdict"), [(1.0, "PASS"), (1 + 1e-6, "FAIL"), (-1.0, "FAIL")])
def test_the_verdict_does_not_depend_on_the_scale_of_the_loss(scale, error, verdict):
    report = check_grads(
        lambda x: scale * jnp.mean(jnp.tanh(x) ** 2),
        (X,),
        grad=lambda x: error * scale * 2 / 3 * jnp.tanh(x) * (1 - jnp.tanh(x) ** 2),
    )
    assert report.verdict == verdict


def test_one_entry_of_a_million_off_by_one_percent_is_found():
    w = np.random.default_rng(1).normal(size=1_000_000)

    def grad(w):
        return jnp.cos(w).at[654_321].multiply(1.01)

    report = check_grads(lambda w: jnp.sin(w).sum(), (w,), grad=grad, directions=2)
    assert report.verdict == "FAIL"
    assert report.leaves[0].worst.index == (654_321,)


def test_without_autodiff_the_wrong_entry_is_found_by_halving():
    rule = jax.custom_vjp(lambda w: jnp.sin(w).sum())

    def backward(w, dout):
        return (dout * jnp.cos(w).at[7_777].multiply(1.01),)

    rule.defvjp(lambda w: (jnp.sin(w).sum(), w), backward)
    w = np.random.default_rng(1).normal(size=20_000)
    report = check_grads(lambda w: rule(w), (w,), directions=2)
    assert report.verdict == "FAIL"
    assert report.leaves[0].worst.index == (7_777,)


def test_three_seeds_look_along_other_directions():
    reports = [check_grads(square, (X,), seed=seed) for seed in (0, 1, 2)]
    assert [r.seed for r in reports] == [0, 1, 2]
    assert len({r.leaves[0].versus_numeric for r in reports}) > 1
    again = check_grads(square, (X,), seed=2)
    assert again.leaves == reports[2].leaves


# Kinks and degenerate points


def test_a_kink_is_named_and_either_convention_accepted():
    x = np.array([-1.0, 0.0, 2.0])
    for slope in (0.0, 0.5, 1.0):
        report = check_grads(
            lambda x: jnp.maximum(x, 0).sum(),
            (x,),
            grad=lambda x, s=slope: jnp.where(x > 0, 1.0, jnp.where(x < 0, 0.0, s)),
        )
        assert report.verdict == "KINK"
        assert report
        (kink,) = report.leaves[0].kinks
        assert kink.startswith("max, test_check.py:")


def test_a_kink_does_not_excuse_a_wrong_gradient():
    x = np.array([-1.0, 0.0, 2.0])
    for wrong in (lambda x: jnp.where(x > 0, 1.1, 0.0), lambda x: jnp.where(x < 0, 1.0, 0.0)):
        assert check_grads(lambda x: jax.nn.relu(x).sum(), (x,), grad=wrong).verdict == "FAIL"


def test_a_kink_nearby_does_not_matter():
    x = np.array([1e-7, -1e-7, 1e-9, 2.0])
    report = check_grads(lambda x: jax.nn.relu(x).sum(), (x,))
    assert report.verdict == "PASS"


def test_degenerate_points_are_warned_about_and_left_by_jitter():
    def forward(x, gamma):
        return x**2 * gamma, (x, gamma)

    def gamma_missing(dout, cache):
        x, _ = cache
        return 2 * x * dout, x**2 * dout

    report = check_grads(forward, (X, np.ones(3)), backward=gamma_missing)
    assert report.verdict == "PASS"
    assert any("gamma is all ones" in note for note in report.notes)
    report = check_grads(forward, (X, np.ones(3)), backward=gamma_missing, jitter=True)
    assert report.verdict == "FAIL"
    assert "moved point" in str(report)


def test_leaves_declared_live_must_have_a_gradient():
    def f(params):
        return square(params["used"])

    args = ({"used": X, "dead": X},)
    assert check_grads(f, args).verdict == "PASS"
    report = check_grads(f, args, live=("dead",))
    assert verdicts(report) == {"params/dead": "FAIL", "params/used": "PASS"}
    assert check_grads(f, args, live=("params/used",)).verdict == "PASS"


# Bad input: a report or an error that says which leaf and what to change


def refused(match, f, args, **settings):
    with pytest.raises(ConfigurationError, match=match):
        check_grads(f, args, **settings)


def test_refusals_say_what_to_change():
    refused("int.*return a floating-point", lambda x: jnp.argmax(x), (X,))
    refused(r"x: int64\[3\].*floating-point array", square, (np.arange(3),))
    refused("ZeroDivisionError", lambda x: 1 / 0, (X,))
    refused(r"x\[1\] is nan", square, (np.array([1.0, np.nan]),))
    refused("inside its domain", lambda x: jnp.log(x).sum(), (X,))
    refused(r"write \(x,\)", square, X)
    refused("0 to 0", square, (X,), argnums=3)
    refused("did you mean 'full'", square, (X,), mode="ful")
    refused("has_aux=True", lambda x: x**2, (X,), grad=lambda x: 2 * x)
    refused(r"\(out, cache\)", lambda x: x**2, (X,), backward=lambda dout, cache: dout)
    refused("complex", lambda x: abs(x).sum(), (X + 1j,))
    refused("real and imaginary", lambda x: jax.lax.complex(x, x), (X,))
    refused(r"5 evaluations|evaluations of f, about", square, (X,), mode="full", max_evaluations=9)
    refused("'z'. Known: x", square, (X,), live=("z",))
    refused("not both", square, (X,), grad=jnp.sin, backward=jnp.sin)
    refused("2 entries", lambda x, y: square(x) + square(y), (X, X), grad=lambda x, y: (x,) * 3)
    refused("structure", lambda x: x, (X,), cotangent=(X, X))
    refused("leave cotangent= out", square, (X,), grad=lambda x: 2 * x, cotangent=np.array(-1.0))


def test_what_jax_cannot_differentiate_needs_a_gradient():
    def f(x):
        return jax.lax.while_loop(lambda x: jnp.sum(x) < 100, lambda x: 2 * x, abs(x)).sum()

    refused("give its gradient with grad=", f, (X,))
    assert check_grads(f, (X,), grad=lambda x: 32 * jnp.sign(x)).verdict == "PASS"
    assert check_grads(f, (X,), grad=lambda x: 31 * jnp.sign(x)).verdict == "FAIL"


@pytest.mark.parametrize(
    ("gradient", "says"),
    [
        (lambda p: {"a": 2 * p["a"]}, "no gradient of p/b"),
        (lambda p: {"a": 2 * p["a"], "b": jnp.ones(2)}, r"shape \(2,\), expected \(3,\)"),
        (lambda p: {"a": 2 * p["a"], "b": jnp.ones(3, int)}, "dtype int64, expected floats"),
        (lambda p: {"a": 2 * p["a"], "b": 2 * p["b"] * jnp.nan}, "not finite"),
    ],
)
def test_gradients_of_the_wrong_kind_fail_by_leaf(gradient, says):
    report = check_grads(
        lambda p: square(p["a"]) + square(p["b"]), ({"a": X, "b": X},), grad=gradient
    )
    assert verdicts(report) == {"p/a": "PASS", "p/b": "FAIL"}
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(str(report))


def test_entries_that_no_argument_has_fail():
    report = check_grads(
        lambda p: square(p["a"]), ({"a": X},), grad=lambda p: {"a": 2 * p["a"], "z": X}
    )
    assert report.verdict == "FAIL"
    assert "p/z" in str(report)


def test_side_effects_and_randomness_are_inconclusive():
    calls = []

    def counts(x):
        calls.append(1)
        return square(x) * len(calls)

    rng = np.random.default_rng(0)
    for f in (
        counts,
        lambda x: square(x) * rng.uniform(),
        lambda x: jnp.sum(x * rng.normal(size=3)),
    ):
        report = check_grads(f, (X,))
        assert report.verdict == "INCONCLUSIVE"
        assert "random key" in " ".join(str(report).split())


def test_a_gradient_that_accumulates_fails():
    total = [0.0]

    def grad(x):
        total[0] = total[0] + 2.0
        return total[0] * x

    report = check_grads(square, (X,), grad=grad)
    assert report.verdict == "FAIL"
    assert "gradient deterministic failed" in " ".join(str(report).split())


def test_what_oscillates_is_inconclusive():
    report = check_grads(lambda x: jnp.sin(1e13 * x).sum(), (X,))
    assert report.verdict == "INCONCLUSIVE"
    assert "oscillates" in str(report)
    with pytest.raises(AssertionError, match="INCONCLUSIVE"):
        assert_grads(lambda x: jnp.sin(1e13 * x).sum(), (X,))


def test_assert_grads_raises_the_report():
    assert assert_grads(square, (X,)).verdict == "PASS"
    assert assert_grads(lambda x: abs(x).sum(), (np.zeros(2),)).verdict == "KINK"
    with pytest.raises(AssertionError, match=r"factor 0\.5"):
        assert_grads(square, (X,), grad=lambda x: x)


def test_jax_settings_are_left_alone():
    before = jax.config.jax_enable_x64
    check_grads(square, (jnp.asarray(X, jnp.float32),))
    assert jax.config.jax_enable_x64 == before
    assert jnp.asarray(1.5).dtype == (jnp.float64 if before else jnp.float32)


def test_a_python_float_is_a_leaf_like_any_other():
    def f(x, rate):
        return rate * square(x)

    for factor, verdict in [(1, "PASS"), (1.01, "FAIL")]:
        report = check_grads(
            f, (X, 0.5), grad=lambda x, rate, k=factor: (2 * rate * x, k * jnp.sum(x**2))
        )
        assert verdicts(report) == {"x": "PASS", "rate": verdict}
    assert set(verdicts(check_grads(f, (X, 0.5), grad=lambda x, rate: (2 * rate * x, None)))) == {
        "x"
    }


@pytest.mark.parametrize(
    "flag",
    [
        {"jax_debug_nans": True},
        {"jax_debug_infs": True},
        {"jax_disable_jit": True},
        {"jax_transfer_guard": "disallow"},
    ],
    ids=lambda flag: next(iter(flag)),
)
def test_debugging_flags_of_the_process_change_no_verdict(flag):
    """Infinities at sqrt'(0) are what the report is to tell."""

    def verdicts():
        smooth = check_grads(lambda x: (x**3).sum(), (np.arange(1.0, 4.0),))
        infinite = check_grads(lambda x: jnp.sqrt(x).sum(), (np.zeros(3),))
        return smooth.verdict, infinite.verdict

    expected = verdicts()
    ((name, value),) = flag.items()
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        assert verdicts() == expected == ("PASS", "FAIL")
    finally:
        jax.config.update(name, before)
