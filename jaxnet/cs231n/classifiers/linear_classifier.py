"""Linear classifiers trained by stochastic gradient descent."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, ScalarLike

from jaxnet import losses
from jaxnet.cs231n import conventions
from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.cs231n.classifiers import weights
from jaxnet.cs231n.classifiers.linear import LossAndGradient, descent, inputs
from jaxnet.cs231n.classifiers.linear_svm import svm_loss_vectorized
from jaxnet.cs231n.classifiers.softmax import softmax_loss_vectorized
from jaxnet.cs231n.layers import labels
from jaxnet.errors import ConfigurationError
from jaxnet.host.tensors import read_tensors

_ROWS_AT_ONCE = 4096  # of a prediction, so that the copy on the device stays small
_best_class = compiled(lambda X, W: jnp.argmax(X @ W, axis=1))


class LinearClassifier:
    """A classifier with scores X·W. `W` is None until `train` draws it as a NumPy array [D, C].

    Subclasses define the loss: LinearSVM and Softmax, or one with a `loss` of your own.
    """

    W: np.ndarray | None

    def __init__(self) -> None:
        self.W = None

    def train(
        self,
        X: Any,
        y: Any,
        learning_rate: ScalarLike = 1e-3,
        reg: ScalarLike = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> list[Any]:
        """Make num_iters steps W ← W − η·dW on random batches of X [N, D]; return their losses.

        The first call draws W as 0.001·np.random.randn(D, C), where C is max(y) + 1. Batches are
        np.random.choice(N, batch_size), with replacement, so np.random.seed repeats a run.
        `verbose` prints the loss every 100 steps. Each call makes a new array W, where the course
        changes the old one; Ctrl-C leaves W at the last step.

        Raises ConfigurationError for shapes that do not fit, and labels beyond the columns of W.
        """
        X, y = np.asarray(X), np.asarray(y)
        if X.ndim != 2 or not len(X) or batch_size < 1:
            raise ConfigurationError(
                f"expected inputs X [N, D], N > 0, and batches of 1 or more, got X {X.shape}, "
                f"batch_size {batch_size}: make rows of images by X.reshape(len(X), -1)"
            )
        classes = self.W.shape[1] if self.W is not None else max(np.max(y, initial=0) + 1, 1)
        y = labels(y, len(X), int(classes))
        if self.W is None:
            self.W = 0.001 * np.random.randn(X.shape[1], classes)
        W, _ = inputs(self.W, X[:1])
        step = _STEPS.get(type(self).loss, self._step_by_loss)
        convention, history = conventions.first_assignment_penalty(), []
        try:
            for it in range(num_iters):
                rows = np.random.choice(len(X), batch_size)
                (batch,) = floats(X=X[rows])
                batch = batch.astype(W.dtype, copy=False)
                W, loss = step(W, batch, y[rows], learning_rate, reg, convention=convention)
                history.append(loss)
                if verbose and it % 100 == 0:
                    print(f"iteration {it} / {num_iters}: loss {float(loss):f}")
        finally:
            self.W = numpy(W)
        return [numpy(loss) for loss in history]

    def _step_by_loss(self, W, X, y, learning_rate, reg, *, convention):
        self.W = W
        loss, dW = self.loss(X, y, reg)
        return W - np.asarray(learning_rate, W.dtype) * dW, loss

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """Return the class with the highest score for each row of X; ties go to the first."""
        if self.W is None:
            raise ConfigurationError("there are no weights to predict with: call train first")
        X = np.asarray(X)
        result = np.zeros(len(X), np.int64)
        for start in range(0, len(X), _ROWS_AT_ONCE):
            W, rows = inputs(self.W, X[start : start + _ROWS_AT_ONCE])
            result[start : start + _ROWS_AT_ONCE] = _best_class(rows, W)
        return result

    def loss(self, X_batch: Any, y_batch: Any, reg: Any) -> LossAndGradient:
        """Return loss and dW at self.W; subclasses define it."""
        raise NotImplementedError(
            f"{type(self).__name__} has no loss: use LinearSVM or Softmax, or define "
            f"loss(self, X_batch, y_batch, reg) that returns (loss, gradient)"
        )

    def save(self, fname: str | os.PathLike) -> None:
        """Write W to a file that `load` reads."""
        if self.W is None:
            raise ConfigurationError("there are no weights to save: call train first")
        weights.save(fname, {"W": self.W})

    def load(self, fname: str | os.PathLike) -> bool:
        """Read W from a file of `save`; print a line and return False if there is none."""
        path, params = weights.path_for(fname), {"W": np.zeros((0, 0))}
        if self.W is not None:
            params["W"] = self.W
        elif path.exists():  # before training, W may have any shape
            params.update({k: v for k, v in read_tensors(path)[0].items() if k == "W"})
        if loaded := weights.load(fname, params):
            self.W = params["W"]
        return loaded


class LinearSVM(LinearClassifier):
    """The linear classifier with the multiclass SVM loss, `linear_svm.svm_loss_vectorized`."""

    def loss(self, X_batch: Any, y_batch: Any, reg: Any) -> LossAndGradient:
        """Return loss and dW at self.W."""
        return svm_loss_vectorized(self.W, X_batch, y_batch, reg)


class Softmax(LinearClassifier):
    """The linear classifier with the softmax loss, `softmax.softmax_loss_vectorized`."""

    def loss(self, X_batch: Any, y_batch: Any, reg: Any) -> LossAndGradient:
        """Return loss and dW at self.W."""
        return softmax_loss_vectorized(self.W, X_batch, y_batch, reg)


# A subclass with a loss of its own has no row here, and trains by calls of its loss.
_STEPS = {
    LinearSVM.loss: descent(losses.multiclass_svm),
    Softmax.loss: descent(losses.softmax_cross_entropy),
}
