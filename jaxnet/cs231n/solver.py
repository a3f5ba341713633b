"""The course's Solver: it trains a model, prints, and records histories and best parameters."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnet.cs231n import optim
from jaxnet.cs231n.classifiers.network import Network
from jaxnet.cs231n.classifiers.training import Training
from jaxnet.cs231n.layers import labels
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.host.tensors import write_tensors
from jaxnet.host.texts import to_json

DATA = ("X_train", "y_train", "X_val", "y_val")


class Solver:
    """Trains any model that has `params`, `loss(X, y) -> loss, grads` and `loss(X) -> scores`.

    `data` holds X_train, y_train, X_val, y_val. After each epoch the Solver multiplies the learning
    rate of `optim_config` by `lr_decay`, measures the accuracies on `num_train_samples` drawn rows
    and on `num_val_samples` (None: all), and with a `checkpoint_name` writes a file. Minibatches
    are drawn with replacement from NumPy's global generator.

    Networks of this package train by a compiled step, whose parameters stay on the device within
    an epoch; other models train by calls of their own `loss`.
    """

    def __init__(
        self,
        model: Any,
        data: dict[str, Any],
        *,
        update_rule: str = "sgd",
        optim_config: dict[str, Any] | None = None,
        lr_decay: Any = 1.0,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        checkpoint_name: str | None = None,
        print_every: int = 10,
        verbose: bool = True,
        **unexpected: Any,
    ):
        self.optim_config = {} if optim_config is None else optim_config
        self.lr_decay = lr_decay
        self.batch_size = batch_size
        self.num_epochs = num_epochs
        self.num_train_samples = num_train_samples
        self.num_val_samples = num_val_samples
        self.checkpoint_name = checkpoint_name
        self.print_every = print_every
        self.verbose = verbose
        for name in unexpected:
            known = ("update_rule", *(name for name in vars(self)))
            raise ConfigurationError(unknown("argument of Solver", name, known))
        for name in DATA:
            if name not in data:
                raise ConfigurationError(f"data lacks {name!r}: expected {', '.join(DATA)}")
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        self.update_rule = optim.get(update_rule)
        self._rule = update_rule
        self._check()
        self._reset()

    def _check(self) -> None:
        for name in ("batch_size", "num_epochs", "print_every"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < 1:
                raise ConfigurationError(f"{name}: expected an integer of 1 or more, got {value!r}")
        for part in ("train", "val"):
            X, y = getattr(self, f"X_{part}"), getattr(self, f"y_{part}")
            if isinstance(self.model, Network):
                labels(y, len(X), self.model.classes)
            elif len(X) != len(y):
                raise ConfigurationError(f"X_{part} has {len(X)} rows, y_{part} has {len(y)}")
        if len(self.X_train) == 0:
            raise ConfigurationError("X_train is empty")

    def _reset(self) -> None:
        self.epoch = 0
        self.best_val_acc = 0
        self.best_params: dict[str, np.ndarray] = {}
        self.loss_history: list[Any] = []
        self.train_acc_history: list[Any] = []
        self.val_acc_history: list[Any] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}
        for name, config in self.optim_configs.items():
            optim.defaults(self._rule, self.model.params[name], config)
        self._training: Training | None = None

    @property
    def _compiles(self) -> bool:
        # A subclass with a loss of its own trains through it, as any other model.
        return getattr(type(self.model), "loss", None) is Network.loss

    def _minibatch(self) -> tuple[np.ndarray, np.ndarray]:
        rows = np.random.choice(len(self.X_train), self.batch_size)
        return self.X_train[rows], self.y_train[rows]

    def _step(self) -> None:
        self.run(1)

    def run(self, steps: int) -> None:
        """Make this many updates, without evaluation, printed lines or decay of the rate."""
        try:
            for _ in range(steps):
                self._advance()
        finally:  # an interrupted training leaves the model at its last step
            self._write_back()

    def _advance(self) -> None:
        if not self._compiles:
            self._advance_through_loss()
            return
        if self._training is None:
            self.model.inputs(self.X_train[:1])  # checks shapes once, on the host
            self._training = Training(self.model, self._rule, self.optim_configs)
        self._training.step(*self._minibatch())

    def _advance_through_loss(self) -> None:
        loss, grads = self.model.loss(*self._minibatch())
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def _write_back(self) -> None:
        """Update model.params, optim_configs and loss_history with all steps so far."""
        if self._training is not None:
            self._training.write_back()
            self._collect_losses()
            self._training = None

    def _collect_losses(self) -> None:
        if self._training is not None:
            self.loss_history += self._training.losses()

    def check_accuracy(
        self, X: Any, y: Any, num_samples: int | None = None, batch_size: int = 100
    ) -> Any:
        """Return the fraction of right predictions on all rows, or on `num_samples` drawn rows."""
        if num_samples is not None and len(X) > num_samples:
            rows = np.random.choice(len(X), num_samples)
            X, y = X[rows], y[rows]
        predicted = [
            np.argmax(self.model.loss(X[i : i + batch_size]), axis=1)
            for i in range(0, len(X), batch_size)
        ]
        return np.mean(np.concatenate(predicted) == y)

    def train(self) -> None:
        """Train for `num_epochs`, then give the model the parameters of the best epoch."""
        iterations_per_epoch = max(len(self.X_train) // self.batch_size, 1)
        num_iterations = self.num_epochs * iterations_per_epoch
        try:
            for t in range(num_iterations):
                self._advance()
                if self.verbose and t % self.print_every == 0:
                    self._collect_losses()
                    print(f"(Iteration {t + 1} / {num_iterations}) loss: {self.loss_history[-1]:f}")
                epoch_end = (t + 1) % iterations_per_epoch == 0
                if epoch_end or t in (0, num_iterations - 1):
                    self._write_back()
                if epoch_end:
                    self.epoch += 1
                    for config in self.optim_configs.values():
                        config["learning_rate"] *= self.lr_decay
                if epoch_end or t in (0, num_iterations - 1):
                    self._evaluate()
        finally:  # an interrupted training leaves the model at its last step
            self._write_back()
        if self.best_params:
            self.model.params = self.best_params

    def _evaluate(self) -> None:
        train_acc = self.check_accuracy(
            self.X_train, self.y_train, num_samples=self.num_train_samples
        )
        val_acc = self.check_accuracy(self.X_val, self.y_val, num_samples=self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self._save_checkpoint()
        if self.verbose:
            print(
                f"(Epoch {self.epoch} / {self.num_epochs}) "
                f"train acc: {train_acc:f}; val_acc: {val_acc:f}"
            )
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}

    def _save_checkpoint(self) -> None:
        """Write NAME_epoch_N.safetensors with parameters, and settings and histories as metadata.

        The course pickles the model object; but opening an untrusted file must not run code.
        """
        if self.checkpoint_name is None:
            return
        path = Path(f"{self.checkpoint_name}_epoch_{self.epoch}.safetensors")
        if self.verbose:
            print(f'Saving checkpoint to "{path}"')
        facts = {
            "update_rule": self._rule,
            "optim_config": self.optim_config,
            "lr_decay": self.lr_decay,
            "batch_size": self.batch_size,
            "num_train_samples": self.num_train_samples,
            "num_val_samples": self.num_val_samples,
            "epoch": self.epoch,
            "loss_history": self.loss_history,
            "train_acc_history": self.train_acc_history,
            "val_acc_history": self.val_acc_history,
        }
        write_tensors(path, self.model.params, {"solver": to_json(facts, default=float)})
