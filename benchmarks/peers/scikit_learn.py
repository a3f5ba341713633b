"""scikit-learn's MLPClassifier, one network after the other."""

import numpy as np
from sklearn.neural_network import MLPClassifier  # pyright: ignore[reportMissingImports]

from benchmarks.tasks import Task, Weights


class ScikitLearn:
    """One pass of `partial_fit`, unshuffled, over the task's minibatches laid end to end.

    Its penalty is divided by the batch size, so `alpha` is l2·batch.
    """

    def __init__(self, task: Task):
        if task.rule != "sgd" or task.images.classes == 2:
            raise ValueError("of two classes it makes one logistic output: another net")
        batch = task.rows.shape[1]
        self.task, self.flat = task, task.rows.ravel()
        self.nets = []
        for rate, l2 in zip(task.rates, task.l2, strict=True):
            net = MLPClassifier(
                hidden_layer_sizes=[len(b) for _, b in task.start[:-1]],
                solver="sgd",
                momentum=0.0,
                nesterovs_momentum=False,
                alpha=float(l2) * batch,
                batch_size=batch,
                learning_rate_init=float(rate),
                shuffle=False,
            )
            # Its first call makes the arrays that the task's weights are put into.
            some = self.task.images.inputs[:batch], self.task.images.labels[:batch]
            net.partial_fit(*some, classes=np.arange(task.images.classes))
            for i, (w, b) in enumerate(task.start):
                net.coefs_[i][...], net.intercepts_[i][...] = w, b
            self.nets.append(net)

    def run(self) -> object:
        """Make the task's updates of every network."""
        for net in self.nets:
            net.partial_fit(self.task.images.inputs[self.flat], self.task.images.labels[self.flat])
        return [net.loss_ for net in self.nets]

    def weights(self) -> list[Weights]:
        """Return the weights of every network."""
        return [
            [(w.copy(), b.copy()) for w, b in zip(net.coefs_, net.intercepts_, strict=True)]
            for net in self.nets
        ]
