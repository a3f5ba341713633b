"""`jaxnet.cs231n` against the same networks and loop in plain NumPy, in the same precision.

Training: both draw the same minibatches and masks from NumPy's generator and start from the same
weights, so that their losses agree; images of CIFAR-10's shape, float64 as the course loads them.
Small calls: one loss with gradients of the notebooks' smallest nets, where dispatch is all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.course_numpy import NumpyNet, NumpySolver
from benchmarks.timing import interleave
from jaxnet.cs231n.classifiers.fc_net import FullyConnectedNet
from jaxnet.cs231n.solver import Solver

FEATURES, CLASSES = 3 * 32 * 32, 10

DEEP = {"hidden_dims": [512, 256, 256], "rule": "adam", "rate": 1e-3, "batch": 256}
TRAINING: dict[str, dict[str, Any]] = {
    "two layers, 50": {"hidden_dims": [50], "rule": "sgd", "rate": 1e-3, "batch": 200},
    "two layers, 100": {"hidden_dims": [100], "rule": "sgd", "rate": 1e-3, "batch": 100},
    "five layers, momentum": {
        "hidden_dims": [100] * 4,
        "rule": "sgd_momentum",
        "rate": 1e-2,
        "batch": 100,
    },
    "five layers, adam": {"hidden_dims": [100] * 4, "rule": "adam", "rate": 1e-3, "batch": 100},
    "deep": DEEP,
    "deep, batchnorm": {**DEEP, "batchnorm": True},
    "deep, batchnorm, dropout": {**DEEP, "batchnorm": True, "keep": 0.5},
}
SMALL: dict[str, dict[str, Any]] = {
    "4-10-3, 5 rows": {"hidden_dims": [10], "features": 4, "classes": 3, "rows": 5},
    "15-20-30-10, 2 rows": {"hidden_dims": [20, 30], "features": 15, "rows": 2},
    "15-20-30-10, batchnorm": {
        "hidden_dims": [20, 30],
        "features": 15,
        "rows": 2,
        "batchnorm": True,
    },
}


def measure(*, smoke: bool) -> list[dict[str, Any]]:
    """Return one row a network and dtype: milliseconds a step, or a call, of either."""
    rows = []
    for name, settings in TRAINING.items():
        for dtype in (np.float32, np.float64):
            rows.append(_measure_training(name, settings, dtype, smoke))
    for name, settings in SMALL.items():
        rows.append(_measure_calls(name, settings, smoke))
    return rows


def _nets(settings: dict[str, Any], dtype: Any) -> tuple[FullyConnectedNet, NumpyNet]:
    np.random.seed(0)
    batchnorm, keep = settings.get("batchnorm", False), settings.get("keep", 1)
    net = FullyConnectedNet(
        settings["hidden_dims"],
        settings.get("features", FEATURES),
        settings.get("classes", CLASSES),
        dropout_keep_ratio=keep,
        normalization="batchnorm" if batchnorm else None,
        reg=1e-2,
        weight_scale=2e-2,
        dtype=dtype,
    )
    return net, NumpyNet(net.params, batchnorm=batchnorm, keep=keep, reg=1e-2)


def _measure_training(
    name: str, settings: dict[str, Any], dtype: Any, smoke: bool
) -> dict[str, Any]:
    examples, steps = (300, 2) if smoke else (5000, 30)
    generator = np.random.default_rng(0)
    images = generator.normal(0, 60, (examples, 3, 32, 32))
    labels = generator.integers(0, CLASSES, examples)
    net, peer = _nets(settings, dtype)
    solver = Solver(
        net,
        {"X_train": images, "y_train": labels, "X_val": images[:10], "y_val": labels[:10]},
        update_rule=settings["rule"],
        optim_config={"learning_rate": settings["rate"]},
        batch_size=settings["batch"],
        verbose=False,
    )
    loop = NumpySolver(peer, settings["rule"], settings["rate"])
    peer_losses: list[Any] = []

    def ours() -> None:
        np.random.seed(1)
        solver.run(steps)

    def numpy_loop() -> None:
        np.random.seed(1)
        for _ in range(steps):
            rows = np.random.choice(examples, settings["batch"])
            peer_losses.append(loop.step(images, labels, rows))

    timings = interleave({"jaxnet": ours, "numpy": numpy_loop}, repeats=1 if smoke else 7)
    return _row(name, dtype, timings, steps, solver.loss_history[steps - 1], peer_losses[steps - 1])


def _measure_calls(name: str, settings: dict[str, Any], smoke: bool) -> dict[str, Any]:
    calls = 5 if smoke else 1000
    net, peer = _nets(settings, np.float64)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(settings["rows"], settings["features"]))
    y = generator.integers(0, settings.get("classes", CLASSES), settings["rows"])
    loops: dict[str, Callable[[], object]] = {
        "jaxnet": lambda: [net.loss(x, y)[0] for _ in range(calls)][-1],
        "numpy": lambda: [peer.loss(x, y)[0] for _ in range(calls)][-1],
    }
    timings = interleave(loops, repeats=1 if smoke else 7)
    return _row(name, np.float64, timings, calls, net.loss(x, y)[0], peer.loss(x, y)[0])


def _row(name: str, dtype: Any, timings: Any, count: int, loss: Any, peer: Any) -> dict[str, Any]:
    ours, numpy_time = timings["jaxnet"].median / count, timings["numpy"].median / count
    return {
        "what": name,
        "dtype": np.dtype(dtype).name,
        "jaxnet_ms": ours * 1e3,
        "numpy_ms": numpy_time * 1e3,
        "times_faster": numpy_time / ours,
        "compile_s": timings["jaxnet"].first - timings["jaxnet"].median,
        "loss": float(loss),
        "numpy_loss": float(peer),
    }
