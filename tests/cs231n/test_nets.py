"""The course's networks: its published numbers, derivatives, and mistakes named."""

import numpy as np
import pytest

from jaxnet.cs231n import conventions, course_year
from jaxnet.cs231n.classifiers import programs
from jaxnet.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from jaxnet.cs231n.classifiers.neural_net import TwoLayerNet as FirstNet
from jaxnet.errors import ConfigurationError, DataError

np_random = np.random  # the course draws from NumPy's global generator


def toy():
    """The toy model and data of the course's first network notebook."""
    np_random.seed(1)
    X = 10 * np_random.randn(5, 4)
    np_random.seed(0)
    return FirstNet(4, 10, 3, std=1e-1), X, np.array([0, 1, 2, 2, 1])


def test_the_toy_net_prints_the_course_s_numbers():
    net, X, y = toy()
    scores = [
        [-0.81233741, -1.27654624, -0.70335995],
        [-0.17129677, -1.18803311, -0.47310444],
        [-0.51590475, -1.01354314, -0.8504215],
        [-0.15419291, -0.48629638, -0.52901952],
        [-0.00618733, -0.12435261, -0.15226949],
    ]
    np.testing.assert_allclose(net.loss(X), scores, atol=5.1e-9)  # printed to 8 digits
    loss, _ = net.loss(X, y, reg=0.05)
    assert abs(loss - 1.30378789133) < 1e-12
    history = net.train(X, y, X, y, learning_rate=1e-1, reg=5e-6, num_iters=100)["loss_history"]
    assert len(history) == 100
    assert history[-1] == pytest.approx(0.017149607938732, abs=1e-12)


def test_to_2016_the_toy_net_s_penalty_has_a_half():
    try:
        course_year(2016)
        net, X, y = toy()
    finally:
        course_year(conventions.LATEST)
    loss, grads = net.loss(X, y, reg=0.1)
    assert abs(loss - 1.30378789133) < 1e-12
    now, X, y = toy()
    for name, grad in now.loss(X, y, reg=0.05)[1].items():
        np.testing.assert_allclose(grads[name], grad, rtol=1e-12)


def test_the_deep_net_starts_at_the_course_s_loss():
    np_random.seed(231)
    X, y = np_random.randn(2, 15), np_random.randint(10, size=2)
    losses = [
        FullyConnectedNet(
            [20, 30], input_dim=15, reg=reg, weight_scale=5e-2, dtype=np.float64
        ).loss(X, y)[0]
        for reg in (0, 3.14)
    ]
    np.testing.assert_allclose(losses, [2.3004790897684924, 7.052114776533016], rtol=1e-14)


def test_the_two_layer_net_of_fc_net_scores_what_the_course_says():
    np_random.seed(231)
    net = TwoLayerNet(input_dim=5, hidden_dim=50, num_classes=7, weight_scale=1e-3)
    assert abs(net.params["W1"].std() - 1e-3) < 1e-4
    for name, low, high in (("W1", -0.7, 0.3), ("b1", -0.1, 0.9), ("W2", -0.3, 0.4)):
        shape = net.params[name].shape
        net.params[name] = np.linspace(low, high, num=net.params[name].size).reshape(shape)
    net.params["b2"] = np.linspace(-0.9, 0.1, num=7)
    X = np.linspace(-5.5, 4.5, num=15).reshape(5, 3).T
    scores = [11.53165108, 12.2917344, 13.05181771, 13.81190102]
    np.testing.assert_allclose(net.loss(X)[0, :4], scores, atol=5.1e-9)
    y = np.array([0, 5, 1])
    assert net.loss(X, y)[0] == pytest.approx(3.4702243556, abs=1e-10)
    net.reg = 1.0
    assert net.loss(X, y)[0] == pytest.approx(26.5948426952, abs=1e-10)


NETS = {
    "plain": {},
    "one hidden": {"hidden_dims": [7]},
    "linear": {"hidden_dims": []},
    "batchnorm": {"normalization": "batchnorm"},
    "layernorm": {"normalization": "layernorm"},
    "use_batchnorm": {"use_batchnorm": True},
    "dropout": {"dropout": 0.75},
    "all": {"normalization": "batchnorm", "dropout_keep_ratio": 0.6, "hidden_dims": [7, 6, 5]},
}


def deep(**settings):
    settings = {"hidden_dims": [7, 6], "reg": 0.3, "dtype": np.float64, "seed": 5, **settings}
    np_random.seed(2)
    net = FullyConnectedNet(input_dim=6, num_classes=4, weight_scale=0.4, **settings)
    return net, np_random.randn(5, 2, 3), np_random.randint(4, size=5)


@pytest.mark.parametrize("name", NETS)
def test_gradients_are_derivatives_of_the_loss_by_every_parameter(name):
    net, X, y = deep(**NETS[name])
    _, grads = net.loss(X, y)
    assert grads.keys() == net.params.keys()
    h = 1e-6
    for key, value in net.params.items():
        numeric = np.empty_like(value)
        for i in np.ndindex(value.shape):
            old = value[i]
            value[i] = old + h
            above = net.loss(X, y)[0]
            value[i] = old - h
            numeric[i] = (above - net.loss(X, y)[0]) / (2 * h)
            value[i] = old
        # Central differences: rounding 1e-16/h = 1e-10, curvature h² = 1e-12.
        np.testing.assert_allclose(grads[key], numeric, rtol=1e-6, atol=2e-9, err_msg=key)


@pytest.mark.parametrize("name", NETS)
def test_a_small_net_s_numbers_in_one_array_are_those_of_arrays_of_their_own(name, monkeypatch):
    found = []
    for few in (programs.MAX_PACKED_FLOATS, 0):
        monkeypatch.setattr(programs, "MAX_PACKED_FLOATS", few)
        net, X, y = deep(**NETS[name])
        found.append((*net.loss(X, y), *[param.get("running_var", 0.0) for param in net.bn_params]))
    (loss, grads, *state), (other_loss, other_grads, *other_state) = found
    # Two programs, two orders of summation: a few roundings of float64 apart.
    assert loss == pytest.approx(other_loss, rel=1e-13)
    assert loss.shape == other_loss.shape == ()
    assert grads.keys() == other_grads.keys() == net.params.keys()
    pairs = [(grad, other_grads[name]) for name, grad in grads.items()]
    for one, other in [*pairs, *zip(state, other_state, strict=True)]:
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14)


def test_gradients_are_the_caller_s_to_change():
    net, X, y = deep()
    _, grads = net.loss(X, y)
    before = {name: grad.copy() for name, grad in grads.items()}
    grads["W1"] += 1
    again = net.loss(X, y)[1]
    for name, grad in before.items():
        np.testing.assert_array_equal(again[name], grad)
        np.testing.assert_array_equal(grads[name], grad + (name == "W1"))


def test_scores_are_the_formula_with_running_statistics_and_no_dropout():
    net, X, y = deep(normalization="batchnorm", dropout=0.5)
    for _ in range(3):
        net.loss(X, y)
    h = X.reshape(5, 6)
    for i in (1, 2):
        p, bn = net.params, net.bn_params[i - 1]
        a = h @ p[f"W{i}"] + p[f"b{i}"]
        a = (a - bn["running_mean"]) / np.sqrt(bn["running_var"] + 1e-5)
        h = np.maximum(a * p[f"gamma{i}"] + p[f"beta{i}"], 0)
    np.testing.assert_allclose(net.loss(X), h @ p["W3"] + p["b3"], rtol=1e-12)
    assert net.bn_params[0]["running_mean"].any()


def test_the_dropout_masks_come_from_the_global_generator_layer_by_layer():
    net, X, y = deep(dropout=0.6, seed=None, reg=0.0)
    np_random.seed(8)
    loss, _ = net.loss(X, y)
    np_random.seed(8)
    h = X.reshape(5, 6)
    for i in (1, 2):
        h = np.maximum(h @ net.params[f"W{i}"] + net.params[f"b{i}"], 0)
        h *= (np_random.rand(*h.shape) < 0.6) / 0.6
    scores = h @ net.params["W3"] + net.params["b3"]
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[np.arange(5), y]).mean(), rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_is_computed_in_dtype(dtype):
    net, X, y = deep(dtype=dtype, normalization="batchnorm")
    loss, grads = net.loss(X, y)
    arrays = (loss, net.loss(X), net.bn_params[0]["running_mean"])
    for array in (*arrays, *grads.values(), *net.params.values()):
        assert array.dtype == dtype
    for grad in grads.values():
        grad += 1  # what comes back is the caller's to change


def test_to_2017_dropout_is_the_probability_to_drop():
    try:
        course_year(2017)
        assert not deep(dropout=0)[0].use_dropout
        old, X, y = deep(dropout=0.25, hidden_dims=[7], reg=0)
        loss = old.loss(X, y)[0]
    finally:
        course_year(conventions.LATEST)
    p = old.params
    np_random.seed(5)
    h = np.maximum(X.reshape(5, 6) @ p["W1"] + p["b1"], 0)
    h *= (np_random.rand(5, 7) > 0.25) / 0.75  # how most of those years drew it
    scores = h @ p["W2"] + p["b2"]
    q = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(q[np.arange(5), y]).mean(), rel=1e-12)
    assert not deep(dropout=1)[0].use_dropout
    assert not deep()[0].use_dropout


def test_weights_are_saved_and_loaded_with_running_statistics(tmp_path, capsys):
    net, X, y = deep(normalization="batchnorm")
    net.loss(X, y)
    net.save(tmp_path / "best.npy")
    np_random.seed(77)
    other = FullyConnectedNet([7, 6], 6, 4, normalization="batchnorm", dtype=np.float64)
    assert not other.load(tmp_path / "none.npy")
    assert other.load(tmp_path / "best.npy")
    np.testing.assert_array_equal(other.loss(X), net.loss(X))
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "saved.",
        "available.",
        "loaded.",
    ]
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    with pytest.raises(DataError, match=r"belongs to another network: expected W1 \(6, 9\)"):
        TwoLayerNet(6, 9, 4).load(tmp_path / "best.npy")


MISTAKES = {
    "inputs of another width": (
        lambda net, X, y: net.loss(X[:, :, :2], y),
        r"layer 1: expected weights W1 \[4, outputs\] for X \(5, 2, 2\).*got W1 \(6, 7\)",
    ),
    "one image": (lambda net, X, y: net.loss(X[0, 0]), r"X \[N, ...\] of 6 features.*X\[None\]"),
    "a parameter of another shape": (
        lambda net, X, y: (net.params.update(W2=np.zeros((6, 7))), net.loss(X, y)),
        r"layer 2: expected weights W2 \[7, outputs\] for the 7 outputs of layer 1",
    ),
    "a label out of range": (
        lambda net, X, y: net.loss(X, y + 4),
        r"labels from 0 to 3 \(4 classes\)",
    ),
    "labels of another length": (lambda net, X, y: net.loss(X, y[:4]), "got 4 labels, 5 rows"),
    "one-hot labels": (lambda net, X, y: net.loss(X, np.eye(4)[y]), "argmax"),
    "two dropouts": (
        lambda net, X, y: deep(dropout=0.5, dropout_keep_ratio=0.5),
        "give one of them",
    ),
    "two norms": (
        lambda net, X, y: deep(normalization="layernorm", use_batchnorm=True),
        "give one of them",
    ),
    "an unknown norm": (
        lambda net, X, y: deep(normalization="batch_norm"),
        "unknown normalization 'batch_norm': did you mean 'batchnorm'",
    ),
    "a keep ratio above 1": (
        lambda net, X, y: deep(dropout_keep_ratio=50),
        "dropout_keep_ratio: expected the probability to keep.*got 50",
    ),
    "dropout of 0": (lambda net, X, y: deep(dropout=0), r"course_year\(2017\)"),
    "an integer dtype": (lambda net, X, y: deep(dtype=int), "expected a floating type, got int64"),
    "a width of 0": (lambda net, X, y: deep(hidden_dims=[0]), r"1 or more, got \[6, 0, 4\]"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    call, text = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=text):
        call(*deep())
