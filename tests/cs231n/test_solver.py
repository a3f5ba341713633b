"""Solver: the course's loop, whether it steps in one compiled program or through a model's loss."""

import json
import signal

import numpy as np
import pytest

from jaxnet.cs231n import optim
from jaxnet.cs231n.classifiers import training
from jaxnet.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from jaxnet.cs231n.classifiers.network import Network
from jaxnet.cs231n.solver import Solver
from jaxnet.errors import ConfigurationError
from jaxnet.host.tensors import read_tensors

np_random = np.random  # the course draws from NumPy's global generator


class Foreign(FullyConnectedNet):
    """A model with a loss of its own, which the solver cannot see into."""

    def loss(self, X, y=None):
        return Network.loss(self, X, y)


def data(rows=60, dtype=np.float64):
    np_random.seed(1)
    X, y = np_random.randn(rows, 2, 4).astype(dtype), np_random.randint(3, size=rows)
    X[:, 0, 0] += 2 * y  # something to learn
    return {"X_train": X[:-20], "y_train": y[:-20], "X_val": X[-20:], "y_val": y[-20:]}


def net(kind=FullyConnectedNet, **settings):
    np_random.seed(0)
    settings = {"dtype": np.float64, "weight_scale": 0.3, "reg": 0.1, **settings}
    return kind([6, 5], input_dim=8, num_classes=3, **settings)


def solve(model, dataset=None, **settings):
    settings = {
        "num_epochs": 3,
        "batch_size": 10,
        "optim_config": {"learning_rate": 1e-2},
        "lr_decay": 0.9,
        "verbose": False,
        "num_train_samples": 30,
        **settings,
    }
    np_random.seed(4)
    solver = Solver(model, dataset or data(), **settings)
    solver.train()
    return solver


RULES = ["sgd", "sgd_momentum", "rmsprop", "adam"]
NETS = {
    "plain": {},
    "batchnorm": {"normalization": "batchnorm"},
    "layernorm and dropout": {"normalization": "layernorm", "dropout_keep_ratio": 0.7},
    "all": {"normalization": "batchnorm", "dropout_keep_ratio": 0.7},
}


@pytest.mark.parametrize(
    ("rule", "name"),
    [*((rule, "all") for rule in RULES), *(("sgd_momentum", name) for name in NETS)],
)
def test_one_compiled_step_is_the_step_through_loss_and_update_rule(rule, name):
    fast = solve(net(**NETS[name]), update_rule=rule)
    slow = solve(net(Foreign, **NETS[name]), update_rule=rule)
    assert len(fast.loss_history) == 12
    # The same operations, fused differently: rounding of 12 steps of float64.
    close = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(fast.loss_history, slow.loss_history, **close)
    assert fast.train_acc_history == slow.train_acc_history
    assert fast.val_acc_history == slow.val_acc_history
    for key, value in slow.model.params.items():
        np.testing.assert_allclose(fast.model.params[key], value, err_msg=key, **close)
    for key, config in slow.optim_configs.items():
        assert fast.optim_configs[key].keys() == config.keys()
        for field, value in config.items():
            np.testing.assert_allclose(fast.optim_configs[key][field], value, **close)
            assert type(fast.optim_configs[key][field]) is type(value)
    for left, right in zip(fast.model.bn_params, slow.model.bn_params, strict=True):
        for field, value in right.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(left[field], value, **close)


def test_training_is_the_loop_written_in_numpy():
    np_random.seed(0)
    model = TwoLayerNet(8, 6, 3, weight_scale=0.3, reg=0.1)
    p = {name: value.copy() for name, value in model.params.items()}
    d = data()
    solver = solve(model, d, num_train_samples=None)
    np_random.seed(4)
    losses, rate = [], 1e-2
    for t in range(12):
        rows = np_random.choice(40, 10)
        x, y = d["X_train"][rows].reshape(10, 8), d["y_train"][rows]
        h = np.maximum(x @ p["W1"] + p["b1"], 0)
        s = h @ p["W2"] + p["b2"]
        q = np.exp(s - s.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
        losses.append(
            -np.log(q[np.arange(10), y]).mean()
            + 0.05 * ((p["W1"] ** 2).sum() + (p["W2"] ** 2).sum())
        )
        ds = (q - np.eye(3)[y]) / 10
        dh = ds @ p["W2"].T * (h > 0)
        grads = {
            "W1": x.T @ dh + 0.1 * p["W1"],
            "b1": dh.sum(0),
            "W2": h.T @ ds + 0.1 * p["W2"],
            "b2": ds.sum(0),
        }
        p = {name: value - rate * grads[name] for name, value in p.items()}
        if t % 4 == 3:
            rate *= 0.9
    np.testing.assert_allclose(solver.loss_history, losses, rtol=1e-12)


def test_it_prints_the_course_s_lines(capsys):
    solver = solve(net(), verbose=True, print_every=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(")")[0] + ")" for line in lines] == [
        "(Iteration 1 / 12)",
        "(Epoch 0 / 3)",
        "(Epoch 1 / 3)",
        "(Iteration 6 / 12)",
        "(Epoch 2 / 3)",
        "(Iteration 11 / 12)",
        "(Epoch 3 / 3)",
    ]
    assert lines[0] == f"(Iteration 1 / 12) loss: {solver.loss_history[0]:f}"
    train, val = solver.train_acc_history[0], solver.val_acc_history[0]
    assert lines[1] == f"(Epoch 0 / 3) train acc: {train:f}; val_acc: {val:f}"


def test_the_model_ends_with_the_parameters_of_the_best_epoch():
    d = data()
    solver = solve(net(), d, num_epochs=12, optim_config={"learning_rate": 0.5})
    assert solver.best_val_acc == max(solver.val_acc_history)
    assert solver.check_accuracy(d["X_val"], d["y_val"]) == solver.best_val_acc
    assert all(type(value) is np.ndarray for value in solver.model.params.values())


def test_single_steps_keep_the_model_up_to_date():
    model, d = net(), data()
    np_random.seed(4)
    solver = Solver(model, d, batch_size=10, optim_config={"learning_rate": 1e-2}, verbose=False)
    for step in range(3):
        before = {name: value.copy() for name, value in model.params.items()}
        solver._step()
        assert len(solver.loss_history) == step + 1
        assert all((model.params[name] != before[name]).any() for name in ("W1", "W2", "W3"))
    model.params["W1"][:] = 0  # seen by the next step
    solver._step()
    np.testing.assert_allclose(model.params["b1"], 0, atol=0.1)


def test_an_interrupted_training_leaves_the_model_as_far_as_it_came(monkeypatch):
    model = net()
    solver = Solver(model, data(), batch_size=10, optim_config={"learning_rate": 1e-2})
    start = model.params["W1"].copy()
    steps, minibatch = [], Solver._minibatch

    def interrupted(self):
        if len(steps) == 3:
            raise KeyboardInterrupt
        steps.append(1)
        return minibatch(self)

    monkeypatch.setattr(Solver, "_minibatch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert len(solver.loss_history) == 3
    assert (model.params["W1"] != start).any()


def test_ctrl_c_within_a_step_loses_nothing(monkeypatch):
    model = net()
    solver = Solver(model, data(), batch_size=10, optim_config={"learning_rate": 1e-2})
    calls, train_step = [], training.train_step

    def pressed(*arguments):
        result = train_step(*arguments)
        calls.append(1)
        if len(calls) == 3:  # the new parameters are computed, but not kept yet
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(training, "train_step", pressed)
    with pytest.raises(KeyboardInterrupt):
        solver.train()
    assert len(solver.loss_history) == 3  # the step is finished first
    assert all(np.isfinite(value).all() for value in model.params.values())


def test_float32_networks_train_in_float32():
    solver = solve(net(dtype=np.float32, normalization="batchnorm"), update_rule="adam")
    assert {value.dtype for value in solver.model.params.values()} == {np.dtype(np.float32)}
    assert solver.optim_configs["W1"]["m"].dtype == np.float32
    assert solver.loss_history[0].dtype == np.float32


def test_a_diverging_run_is_a_history_of_nans_not_an_error():
    solver = solve(net(), num_epochs=8, optim_config={"learning_rate": 1e6})
    assert not np.isfinite(solver.loss_history[-1])
    assert len(solver.val_acc_history) == 9


def test_checkpoints_hold_weights_and_histories_and_no_pickle(tmp_path):
    solver = solve(net(), checkpoint_name=str(tmp_path / "net"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"net_epoch_{epoch}.safetensors" for epoch in range(4)
    ]
    tensors, metadata = read_tensors(tmp_path / "net_epoch_2.safetensors")
    facts = json.loads(metadata["solver"])
    assert tensors.keys() == solver.model.params.keys()
    assert facts["loss_history"] == pytest.approx(solver.loss_history[:8])
    assert facts["epoch"] == 2
    assert facts["update_rule"] == "sgd"


MISTAKES = {
    "an unknown rule": (
        {"update_rule": "adm"},
        "unknown update rule 'adm': did you mean 'adam'",
    ),
    "an unknown argument": ({"learning_rate": 1e-3}, "unknown argument of Solver 'learning_rate'"),
    "a misspelt rate": ({"optim_config": {"lr": 1e-3}}, "config of sgd 'lr'"),
    "a negative rate": ({"optim_config": {"learning_rate": -1}}, "learning_rate"),
    "a batch of 0": ({"batch_size": 0}, "batch_size: expected an integer of 1 or more, got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    settings, text = MISTAKES[mistake]
    with pytest.raises(ConfigurationError, match=text):
        Solver(net(), data(), **settings)


def test_mistakes_in_the_data_are_named_before_training():
    d = data()
    with pytest.raises(ConfigurationError, match="data lacks 'y_val'"):
        Solver(net(), {key: value for key, value in d.items() if key != "y_val"})
    with pytest.raises(ConfigurationError, match="labels from 0 to 2"):
        Solver(net(), {**d, "y_train": d["y_train"] + 1})
    with pytest.raises(ConfigurationError, match="got 39 labels, 40 rows"):
        Solver(net(), {**d, "y_train": d["y_train"][1:]})
    with pytest.raises(ConfigurationError, match="layer 1: expected weights"):
        solve(net(), {**d, "X_train": d["X_train"][:, :1]})


def test_optimizer_names_are_those_of_optim():
    assert sorted(RULES) == sorted(optim.RULES)
