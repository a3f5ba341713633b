"""The course's fully-connected networks, with two layers and with any number."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnet.cs231n import conventions, layer_utils, layers
from jaxnet.cs231n.classifiers.network import NORMALIZATIONS, Network
from jaxnet.cs231n.layer_utils import *  # noqa: F403
from jaxnet.cs231n.layers import *  # noqa: F403
from jaxnet.errors import ConfigurationError, unknown

# Notebooks rely on `from cs231n.classifiers.fc_net import *` for the layer functions, and for np.
__all__ = ["FullyConnectedNet", "TwoLayerNet"]
__all__ += layers.__all__
__all__ += layer_utils.__all__


class TwoLayerNet(Network):
    """affine – relu – affine – softmax, in float64.

    The penalty is ½·reg·Σ‖W‖². W1, then W2 are drawn from NumPy's global generator, normal with
    standard deviation `weight_scale`.
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: Any = 1e-3,
        reg: Any = 0.0,
    ):
        self.reg = reg
        self.params = draw_weights([input_dim, hidden_dim, num_classes], weight_scale, np.float64)


class FullyConnectedNet(Network):
    """{affine – [batchnorm or layernorm] – relu – [dropout]} × (L − 1) – affine – softmax.

    `hidden_dims` are the widths of the hidden layers. `normalization` is None, "batchnorm" or
    "layernorm"; notebooks up to 2017 pass `use_batchnorm` instead. `dropout_keep_ratio` is the
    probability to keep a value. Notebooks up to 2020 call it `dropout`, which up to 2017 is the
    probability to drop (`jaxnet.cs231n.conventions`). The penalty is ½·reg·Σ‖W‖² over weights.
    Everything is computed in `dtype`. With a `seed`, every dropout mask is drawn anew from it.
    Weights are normal with standard deviation `weight_scale`, drawn layer by layer from NumPy's
    global generator.
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: Any = None,
        normalization: str | None = None,
        reg: Any = 0.0,
        weight_scale: Any = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
        *,
        dropout: Any = None,
        use_batchnorm: bool | None = None,
    ):
        if use_batchnorm is not None:
            if normalization is not None:
                raise ConfigurationError(
                    f"got normalization={normalization!r} and {use_batchnorm=}: give one of them"
                )
            normalization = "batchnorm" if use_batchnorm else None
        if normalization is not None and normalization not in NORMALIZATIONS:
            raise ConfigurationError(unknown("normalization", str(normalization), NORMALIZATIONS))
        if dropout is not None and dropout_keep_ratio is not None:
            raise ConfigurationError(f"got {dropout=} and {dropout_keep_ratio=}: give one of them")
        self.normalization = normalization
        self.reg = reg
        self.num_layers = 1 + len(hidden_dims)
        self.dtype = np.dtype(dtype)
        if self.dtype.kind != "f":
            raise ConfigurationError(f"dtype: expected a floating type, got {self.dtype}")
        self.params = draw_weights([input_dim, *hidden_dims, num_classes], weight_scale, self.dtype)
        if normalization is not None:
            for i, width in enumerate(hidden_dims, start=1):
                self.params[f"gamma{i}"] = np.ones(width, self.dtype)
                self.params[f"beta{i}"] = np.zeros(width, self.dtype)

        keep = 1.0
        if dropout is not None:
            keep = conventions.keep_probability(dropout, name="dropout")
        elif dropout_keep_ratio is not None:
            keep = dropout_keep_ratio
            if not 0 < keep <= 1:
                raise ConfigurationError(
                    f"dropout_keep_ratio: expected the probability to keep, above 0 and at "
                    f"most 1, got {keep}"
                )
        self.use_dropout = keep != 1
        self.dropout_param = {}
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": keep if conventions.p_keeps() else 1 - keep}
            if seed is not None:
                self.dropout_param["seed"] = seed
        self.bn_params = []
        if normalization == "batchnorm":
            self.bn_params = [
                {
                    "mode": "train",
                    "running_mean": np.zeros(width, self.dtype),
                    "running_var": np.zeros(width, self.dtype),
                }
                for width in hidden_dims
            ]
        elif normalization == "layernorm":
            self.bn_params = [{} for _ in hidden_dims]


def draw_weights(sizes: Sequence[int], scale: Any, dtype: Any) -> dict[str, np.ndarray]:
    """Return W1, b1, W2, b2, ...: weights scale·N(0, 1) from NumPy's generator, and zero biases."""
    if len(sizes) < 2 or min(sizes) < 1:
        raise ConfigurationError(f"expected layer sizes of 1 or more, got {list(sizes)}")
    params = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=1):
        draw = np.random.randn(inputs, outputs)
        params[f"W{i}"] = (scale * draw).astype(dtype, copy=False)
        params[f"b{i}"] = np.zeros(outputs, dtype)
    return params
