"""Losses against autodiff, plain loops, the course's printed numbers and their own edges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import layers, losses
from jaxnet.errors import ConfigurationError

RNG = np.random.default_rng(0)


def draw(batch, classes, dtype="float64"):
    scores = jnp.asarray(RNG.normal(0, 3, size=(batch, classes)), dtype)
    return scores, jnp.asarray(RNG.integers(classes, size=batch), "int32")


def svm_margin(scores, labels, label_smoothing=0.0):
    return losses.multiclass_svm(scores, labels, margin=0.3)


FUNCTIONS = {**losses.LOSSES, "svm_margin": svm_margin}
CASES = [(name, 0.0) for name in FUNCTIONS]
CASES += [(name, 0.1) for name in losses.SMOOTHED_LOSSES]


def relative_error(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    return np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-3)


def autodiff_error(function, scores, labels, smoothing, change=lambda dscores: dscores):
    def both(scores):
        got = change(function(scores, labels, smoothing)[1])
        return got, jax.grad(lambda s: function(s, labels, smoothing)[0])(scores)

    return relative_error(*jax.jit(both)(scores))


@pytest.mark.parametrize(("name", "smoothing"), CASES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (7, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
def test_gradient_equals_autodiff(name, smoothing, shape, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        scores, labels = draw(*shape, dtype)
        assert autodiff_error(FUNCTIONS[name], scores, labels, smoothing) < tolerance


@pytest.mark.parametrize(("name", "smoothing"), CASES)
def test_gradient_equals_central_differences(name, smoothing):
    with jax.enable_x64(True):
        scores, labels = map(np.asarray, draw(6, 5))
        function = jax.jit(lambda s: FUNCTIONS[name](s, jnp.asarray(labels), smoothing))
        dscores = np.asarray(function(scores)[1])
        for _ in range(3):
            step = 1e-6 * RNG.normal(size=scores.shape)
            numeric = float(function(scores + step)[0] - function(scores - step)[0]) / 2
            bound = 1e-7 * np.linalg.norm(dscores * step)
            assert abs(numeric - np.vdot(dscores, step)) < bound


@pytest.mark.parametrize(("name", "smoothing"), CASES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda d: 1.001 * d, id="scaled"),
        pytest.param(lambda d: d * len(d), id="batch-forgotten"),
        pytest.param(lambda d: -d, id="sign"),
        pytest.param(lambda d: d.T, id="transposed"),
    ],
)
def test_planted_fault_is_caught(name, smoothing, fault):
    with jax.enable_x64(True):
        scores, labels = draw(5, 5)
        assert autodiff_error(FUNCTIONS[name], scores, labels, smoothing, fault) > 1e-4


def loop_softmax(scores, label, smoothing):
    total = sum(math.exp(s) for s in scores)
    target = [smoothing / len(scores)] * len(scores)
    target[label] += 1 - smoothing
    return -sum(t * math.log(math.exp(s) / total) for t, s in zip(target, scores, strict=True))


def loop_svm(scores, label, smoothing):
    wrong = (s for c, s in enumerate(scores) if c != label)
    return sum(max(0, s - scores[label] + 1) for s in wrong)


def loop_squared_error(scores, label, smoothing):
    target = [smoothing / len(scores)] * len(scores)
    target[label] += 1 - smoothing
    return sum((s - t) ** 2 for t, s in zip(target, scores, strict=True))


LOOPS = {"softmax": loop_softmax, "svm": loop_svm, "squared_error": loop_squared_error}


@pytest.mark.parametrize(("name", "smoothing"), [c for c in CASES if c[0] in LOOPS])
def test_value_equals_plain_loop(name, smoothing):
    with jax.enable_x64(True):
        scores, labels = draw(6, 5)
        rows = zip(np.asarray(scores).tolist(), labels.tolist(), strict=True)
        want = sum(LOOPS[name](row, label, smoothing) for row, label in rows) / 6
        assert losses.LOSSES[name](scores, labels, smoothing)[0] == pytest.approx(want, rel=1e-12)


def test_squared_error_of_published_examples():
    with jax.enable_x64(True):
        uniform = losses.squared_error(jnp.full((3, 20), 1 / 20), jnp.array([0, 7, 19]))[0]
        assert uniform == pytest.approx(0.95, abs=1e-12)
        prediction = jnp.full((1, 9), 0.1).at[0, 4].set(0.2)
        assert losses.squared_error(prediction, jnp.array([4]))[0] == pytest.approx(0.72, abs=1e-12)


def test_course_toy_net():
    """CS231n assignment 1, two_layer_net.ipynb: its printed scores, loss and regularization."""
    random = np.random.RandomState(0)
    w1, w2 = 1e-1 * random.randn(4, 10), 1e-1 * random.randn(10, 3)
    x = 10 * np.random.RandomState(1).randn(5, 4)
    with jax.enable_x64(True):
        w1, w2 = jnp.asarray(w1), jnp.asarray(w2)
        hidden, _ = layers.affine_forward(jnp.asarray(x), w1, jnp.zeros(10))
        active, _ = layers.relu_forward(hidden)
        scores, _ = layers.affine_forward(active, w2, jnp.zeros(3))
        printed = [
            [-0.81233741, -1.27654624, -0.70335995],
            [-0.17129677, -1.18803311, -0.47310444],
            [-0.51590475, -1.01354314, -0.8504215],
            [-0.15419291, -0.48629638, -0.52901952],
            [-0.00618733, -0.12435261, -0.15226949],
        ]
        np.testing.assert_allclose(scores, printed, atol=5.1e-9, rtol=0)
        data_loss, _ = losses.softmax_cross_entropy(scores, jnp.array([0, 1, 2, 2, 1]))
        params = {"affine_1": {"w": w1}, "affine_2": {"w": w2}}
        full, _ = losses.l2_penalty(params, 0.05, convention="full")
        half, _ = losses.l2_penalty(params, 0.05)
        assert float(data_loss + full) == pytest.approx(1.30378789133, abs=1e-11)
        difference = 1.30378789133 - float(data_loss + half)
        assert difference == pytest.approx(0.01896541960606335, abs=1e-15)


@pytest.mark.parametrize("name", losses.SMOOTHED_LOSSES)
def test_smoothing_zero_equals_none_and_may_be_traced(name):
    scores, labels = draw(6, 5, "float32")
    plain = losses.LOSSES[name](scores, labels)
    zero = losses.LOSSES[name](scores, labels, jnp.float32(0))
    assert all(map(np.array_equal, plain, zero))
    smoothings = jnp.array([0.0, 0.2])
    stack, _ = jax.vmap(losses.LOSSES[name], (None, None, 0))(scores, labels, smoothings)
    alone, _ = losses.LOSSES[name](scores, labels, 0.2)
    assert float(stack[1]) == pytest.approx(float(alone), rel=1e-6)


@pytest.mark.parametrize("name", ["softmax", "svm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_extreme_scores(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        scores = jnp.asarray([[1e30, -1e30, 0.0], [-1e30, 1e30, 0.0]], dtype)
        loss, dscores = losses.LOSSES[name](scores, jnp.array([0, 0]))
        assert jnp.isfinite(loss)
        assert jnp.isfinite(dscores).all()
        assert loss == pytest.approx({"softmax": 1e30, "svm": 1.5e30}[name], rel=1e-6)


def test_softmax_admits_minus_infinity_for_a_wrong_class():
    scores = jnp.array([[0.0, 0.0, -jnp.inf]])
    loss, dscores = losses.softmax_cross_entropy(scores, jnp.array([0]))
    assert loss == pytest.approx(math.log(2), rel=1e-6)
    assert dscores.tolist() == [[-0.5, 0.5, 0.0]]


def test_svm_derivative_at_the_hinge_is_zero():
    loss, dscores = losses.multiclass_svm(jnp.array([[2.0, 1.0]]), jnp.array([0]))
    assert loss == 0
    assert not dscores.any()


def hidden_net(params, x, labels, smoothing=0.0):
    """Return loss and gradients of affine – relu – affine, by hand."""
    hidden, cache_1 = layers.affine_forward(x, *params[0])
    active, cache_2 = layers.relu_forward(hidden)
    scores, cache_3 = layers.affine_forward(active, *params[1])
    loss, dscores = losses.softmax_cross_entropy(scores, labels, smoothing)
    dactive, *dparams_2 = layers.affine_backward(dscores, cache_3)
    _, *dparams_1 = layers.affine_backward(layers.relu_backward(dactive, cache_2), cache_1)
    return loss, (dparams_1, dparams_2)


def test_zero_padded_hidden_units_stay_zero_and_permuted_ones_change_nothing():
    with jax.enable_x64(True):
        shapes = [(4, 6), (6,), (6, 3), (3,)]
        w1, b1, w2, b2 = (jnp.asarray(RNG.normal(size=s)) for s in shapes)
        x, labels = jnp.asarray(RNG.normal(size=(5, 4))), jnp.array([0, 1, 2, 2, 1])
        loss, _ = hidden_net(((w1, b1), (w2, b2)), x, labels)

        w1_wide, b1_wide = jnp.pad(w1, ((0, 0), (0, 3))), jnp.pad(b1, (0, 3))
        wide = (w1_wide, b1_wide), (jnp.pad(w2, ((0, 3), (0, 0))), b2)
        padded_loss, ((dw1, db1), (dw2, _)) = hidden_net(wide, x, labels)
        assert float(padded_loss) == pytest.approx(float(loss), rel=1e-14)
        assert dw1[:, :6].any()
        for padding in (dw1[:, 6:], db1[6:], dw2[6:]):
            assert not padding.any()

        order = jnp.array([3, 1, 5, 0, 2, 4])
        shuffled = (w1[:, order], b1[order]), (w2[order], b2)
        shuffled_loss, _ = hidden_net(shuffled, x, labels)
        assert float(shuffled_loss) == pytest.approx(float(loss), rel=1e-14)


@pytest.mark.parametrize("convention", ["half", "full"])
def test_l2_gradient_equals_autodiff_and_spares_all_but_weights(convention):
    with jax.enable_x64(True):
        params = {
            "affine_1": {"w": jnp.asarray(RNG.normal(size=(3, 2))), "b": jnp.ones(2)},
            "batchnorm_1": {"scale": jnp.ones(2), "shift": jnp.ones(2)},
            "concat_1": {"branch_1": {"w": jnp.asarray(RNG.normal(size=(2, 2))), "b": jnp.ones(2)}},
        }

        def penalty(params):
            return losses.l2_penalty(params, jnp.float32(0.3), convention=convention)[0]

        _, grads = losses.l2_penalty(params, jnp.float32(0.3), convention=convention)
        want = jax.grad(penalty)(params)
        assert jax.tree.structure(grads) == jax.tree.structure(params)
        for got, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(want), strict=True):
            assert relative_error(got, expected) < 1e-12
        assert not grads["batchnorm_1"]["scale"].any()
        added = losses.add_l2(params, params, 0.3, convention=convention)
        factor = 1.3 if convention == "half" else 1.6
        assert np.allclose(added["affine_1"]["w"], factor * params["affine_1"]["w"])
        assert added["affine_1"]["b"] is params["affine_1"]["b"]


def test_l2_without_weights_is_zero():
    assert losses.l2_penalty({}, 0.5)[0] == 0


@pytest.mark.parametrize("labels", [np.array([0, 4]), np.array([0, 255], "uint8"), []])
def test_labels_in_range_pass(labels):
    losses.check_labels(np.asarray(labels, getattr(labels, "dtype", int)), 256)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.array([0, 1, 10, 12]), r"from 0 to 9 \(10 classes\), got 10 in row 2 \(2 such rows\)"),
        (np.array([0, -1]), r"got -1 in row 1"),
        (np.array([[0], [1]]), r"integers \[batch\], got int64 \(2, 1\)"),
        (np.array([0.0, 1.0]), r"got float64 \(2,\)"),
    ],
)
def test_labels_out_of_range_are_refused(labels, match):
    with pytest.raises(ConfigurationError, match=match):
        losses.check_labels(labels, 10)


def test_errors_say_what_to_change():
    scores, labels = draw(2, 3, "float32")
    with pytest.raises(ConfigurationError, match="softmax or squared_error"):
        losses.LOSSES["svm"](scores, labels, 0.1)
    with pytest.raises(ConfigurationError, match="did you mean 'half'"):
        losses.l2_penalty({}, 0.1, convention="hal")


# What a value tells


def test_chance_losses_are_those_of_the_losses_themselves():
    rng = np.random.default_rng(5)
    for classes in (2, 10):
        draws = 40_000
        p = rng.dirichlet(np.ones(classes), draws)
        scores = {"softmax": np.log(p), "squared_error": p, "svm": rng.normal(size=p.shape)}
        uniform = {"softmax": 0.0, "squared_error": 1 / classes, "svm": 0.3}
        labels = jnp.asarray(rng.integers(classes, size=draws), "int32")
        for name in losses.LOSSES:
            expected = losses.chance_loss(name, classes)
            alike = jnp.full((3, classes), uniform[name])
            value = float(losses.LOSSES[name](alike, jnp.zeros(3, "int32"))[0])
            assert value == pytest.approx(expected.uniform, rel=1e-5)
            value = float(losses.LOSSES[name](jnp.asarray(scores[name], "float32"), labels)[0])
            # Standard errors of the means are below 0.6 %.
            assert value == pytest.approx(expected.random, rel=0.03)


def test_the_values_of_the_sources():
    assert losses.chance_loss("softmax", 10).uniform == pytest.approx(math.log(10))
    assert losses.chance_loss("squared_error", 20).uniform == pytest.approx(0.95)
    scores = jnp.asarray([[0.2] + [0.1] * 8])
    assert float(losses.squared_error(scores, jnp.zeros(1, "int32"))[0]) == pytest.approx(0.72)
    with pytest.raises(ConfigurationError, match="did you mean 'softmax'"):
        losses.chance_loss("sofmax", 10)
    with pytest.raises(ConfigurationError, match="from 1 up, got 0"):
        losses.chance_loss("svm", 0)
