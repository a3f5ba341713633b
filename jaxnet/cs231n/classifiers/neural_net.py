"""The two-layer network of the course's first assignment, with a training loop of its own."""

from typing import Any

import numpy as np

from jaxnet.cs231n import conventions
from jaxnet.cs231n.classifiers.fc_net import draw_weights
from jaxnet.cs231n.classifiers.network import Network
from jaxnet.cs231n.classifiers.training import Training
from jaxnet.cs231n.layers import labels


class TwoLayerNet(Network):
    """affine – relu – affine – softmax, in float64; `std` scales the initial normal weights.

    The penalty is reg·Σ‖W‖² (½·reg·Σ‖W‖² in notebooks up to 2016: `jaxnet.cs231n.conventions`).
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, std: Any = 1e-4):
        self.params = draw_weights([input_size, hidden_size, output_size], std, np.float64)
        self.l2_convention = conventions.first_assignment_penalty()

    def loss(self, X: Any, y: Any = None, reg: Any = 0.0) -> Any:
        """Return the scores of X [N, D], or with labels y the loss and its gradients."""
        self.reg = reg
        return super().loss(X, y)

    def train(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        learning_rate: Any = 1e-3,
        learning_rate_decay: Any = 0.95,
        reg: Any = None,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> dict[str, list]:
        """Train by SGD on minibatches drawn with replacement from NumPy's global generator.

        The rate is multiplied by `learning_rate_decay` after each epoch of N/batch_size steps.
        Returns loss_history, one loss a step, and train_acc_history and val_acc_history, one
        accuracy an epoch: on the last minibatch and on X_val. The default of `reg` is the course's
        5e-6, or 1e-5 for the penalty with ½.
        """
        X = np.asarray(X)
        y, y_val = labels(y, len(X), self.classes), labels(y_val, len(X_val), self.classes)
        self.inputs(X[:1])  # shapes are checked once, before the first step
        self.reg = {"full": 5e-6, "half": 1e-5}[self.l2_convention] if reg is None else reg
        iterations_per_epoch = max(len(X) / batch_size, 1)
        configs = {name: {"learning_rate": float(learning_rate)} for name in self.params}
        training = Training(self, "sgd", configs)
        loss_history, train_acc_history, val_acc_history = [], [], []
        try:
            for it in range(num_iters):
                rows = np.random.choice(len(X), batch_size)
                training.step(X[rows], y[rows])
                if verbose and it % 100 == 0:
                    loss_history += training.losses()
                    print(f"iteration {it} / {num_iters}: loss {loss_history[-1]:f}")
                if it % iterations_per_epoch == 0:
                    loss_history += training.losses()
                    training.write_back()
                    train_acc_history.append((self.predict(X[rows]) == y[rows]).mean())
                    val_acc_history.append((self.predict(X_val) == y_val).mean())
                    for config in configs.values():
                        config["learning_rate"] *= learning_rate_decay
                    training = Training(self, "sgd", configs)
        finally:  # an interrupted training leaves the network at its last step
            training.write_back()
            loss_history += training.losses()
        return {
            "loss_history": loss_history,
            "train_acc_history": train_acc_history,
            "val_acc_history": val_acc_history,
        }

    def predict(self, X: Any) -> np.ndarray:
        """Return the class with the largest score for each row."""
        return self.loss(X, reg=self.reg).argmax(axis=1)
