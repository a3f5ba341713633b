"""The base of the course's networks: NumPy parameters outside, compiled programs inside."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet.cs231n.arrays import floats, numpy
from jaxnet.cs231n.classifiers import weights
from jaxnet.cs231n.classifiers.programs import (
    Arguments,
    Structure,
    loss_and_gradients,
    scores,
)
from jaxnet.cs231n.layers import draw_mask, labels
from jaxnet.errors import ConfigurationError

NORMALIZATIONS = ("batchnorm", "layernorm")


class Network:
    """A fully-connected network under the course's names: `params["W1"]`, `params["b1"]`, ...

    Parameters are NumPy arrays that may be changed in place or replaced between calls.
    """

    params: dict[str, np.ndarray]
    reg: float = 0.0
    dtype: Any = None  # None: the dtype that NumPy promotes X and the parameters to
    normalization: str | None = None
    use_dropout: bool = False
    dropout_param: dict[str, Any]
    bn_params: Sequence[dict[str, Any]] = ()
    l2_convention: str = "half"

    def loss(self, X: Any, y: Any = None) -> Any:
        """Return the class scores of X [N, ...], or with labels y the loss and its gradients.

        loss = mean cross-entropy + ½·reg·Σ‖W‖². Batchnorm and dropout are in test mode without y,
        and in training mode with y. Gradients have the keys of `params`. Raises ConfigurationError
        for shapes that do not fit and for labels out of range.
        """
        x, params = self.inputs(X)
        if y is None:
            return numpy(scores(self.structure, params, self.arguments(len(x), train=False), x))
        y = labels(y, len(x), self.classes)
        arguments = self.arguments(len(x), train=True)
        loss, grads, state = loss_and_gradients(self.structure, params, arguments, x, y)
        self.keep(state)
        return loss, grads

    @property
    def structure(self) -> Structure:
        """The static part of the network, for which its programs are compiled."""
        return Structure(self.normalization, self.l2_convention)

    @property
    def depth(self) -> int:
        """The number of affine layers."""
        return sum([name[0] == "W" for name in self.params])

    @property
    def classes(self) -> int:
        """The number of scores of an input."""
        return self.params[f"b{self.depth}"].shape[0]

    def inputs(self, X: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return X and parameters in one dtype; raise ConfigurationError if shapes do not fit."""
        x, *values = floats(X=X, **self.params)
        params = dict(zip(self.params, values, strict=True))
        if self.dtype is not None and x.dtype != self.dtype:
            x, *values = (array.astype(self.dtype, copy=False) for array in (x, *values))
            params = dict(zip(self.params, values, strict=True))
        self._check_shapes(x, params)
        return x, params

    def arguments(self, rows: int, *, train: bool) -> Arguments:
        """Return the remaining arguments of a program; training draws a mask for each dropout."""
        state = []
        if self.normalization == "batchnorm":
            state = [_batchnorm_arguments(param) for param in self.bn_params]
        masks = []
        if self.use_dropout:
            self.dropout_param["mode"] = "train" if train else "test"
            for layer in range(1, self.depth):
                shape = (rows, len(self.params[f"b{layer}"]))
                if (mask := draw_mask(self.dropout_param, shape)) is not None:
                    masks.append(mask)
        return Arguments(state, masks, self.reg)

    def keep(self, state: list[dict[str, Any]]) -> None:
        """Write running statistics back into `bn_params`."""
        for param, new in zip(self.bn_params, state, strict=False):
            param.update(running_mean=new["running_mean"], running_var=new["running_var"])

    def save(self, fname: str | os.PathLike) -> None:
        """Write the parameters and any running statistics to a safetensors file."""
        weights.save(fname, self.params, self.bn_params)

    def load(self, fname: str | os.PathLike) -> bool:
        """Read a file of `save`; print a line and return False if there is no such file."""
        return weights.load(fname, self.params, self.bn_params)

    def _check_shapes(self, x: np.ndarray, params: dict[str, np.ndarray]) -> None:
        if x.ndim < 2 or len(x) == 0:
            raise ConfigurationError(
                f"expected inputs X [N, ...] of {len(params['W1'])} features, got {x.shape}: "
                f"for one image pass X[None]"
            )
        features = math.prod(x.shape[1:])
        for layer in range(1, self.depth + 1):
            w, b = params[f"W{layer}"], params[f"b{layer}"]
            if w.ndim != 2 or len(w) != features or b.shape != w.shape[1:]:
                given = (
                    f"the {features} outputs of layer {layer - 1}" if layer > 1 else f"X {x.shape}"
                )
                raise ConfigurationError(
                    f"layer {layer}: expected weights W{layer} [{features}, outputs] for {given} "
                    f"and biases b{layer} [outputs], got W{layer} {w.shape}, b{layer} {b.shape}: "
                    f"check input_dim and what was written into params"
                )
            features = w.shape[1]


def _batchnorm_arguments(param: dict[str, Any]) -> dict[str, Any]:
    return {
        "running_mean": param["running_mean"],
        "running_var": param["running_var"],
        "momentum": float(param.get("momentum", 0.9)),
        "eps": float(param.get("eps", 1e-5)),
    }
