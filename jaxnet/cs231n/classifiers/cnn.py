"""The course's convolutional network."""

from typing import Any

import numpy as np

from jaxnet.cs231n import fast_layers, layer_utils, layers
from jaxnet.cs231n.classifiers.network import Network
from jaxnet.cs231n.classifiers.programs import Structure
from jaxnet.cs231n.fast_layers import *  # noqa: F403
from jaxnet.cs231n.layer_utils import *  # noqa: F403
from jaxnet.cs231n.layers import *  # noqa: F403
from jaxnet.errors import ConfigurationError

__all__ = ["ThreeLayerConvNet"]
__all__ += layers.__all__
__all__ += layer_utils.__all__
__all__ += fast_layers.__all__


class ThreeLayerConvNet(Network):
    """conv – relu – 2×2 max pool – affine – relu – affine – softmax on images [N, C, H, W].

    The convolution has stride 1 and keeps the size of the image, so `filter_size` must be odd.
    The penalty is ½·reg·Σ‖W‖². W1 [F, C, HH, WW], W2, W3 are drawn from NumPy's global generator.
    """

    def __init__(
        self,
        input_dim: tuple[int, int, int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: Any = 1e-3,
        reg: Any = 0.0,
        dtype: Any = np.float32,
    ):
        channels, height, width = input_dim
        if filter_size % 2 != 1 or height < 2 or width < 2:
            raise ConfigurationError(
                f"ThreeLayerConvNet expects an odd filter_size and images of 2×2 or more, got "
                f"filter_size {filter_size} and images of {height}×{width}"
            )
        self.reg, self.dtype = reg, np.dtype(dtype)
        shapes = {
            1: (num_filters, channels, filter_size, filter_size),
            2: (num_filters * (height // 2) * (width // 2), hidden_dim),
            3: (hidden_dim, num_classes),
        }
        self.params = {}
        for i, shape in shapes.items():
            outputs = shape[0] if i == 1 else shape[1]
            draw = np.random.randn(*shape)
            self.params[f"W{i}"] = (weight_scale * draw).astype(self.dtype, copy=False)
            self.params[f"b{i}"] = np.zeros(outputs, self.dtype)

    @property
    def structure(self) -> Structure:
        """The static part of the network, for which its programs are compiled."""
        return Structure(None, self.l2_convention, convolution=True)

    def _check_shapes(self, x: np.ndarray, params: dict[str, np.ndarray]) -> None:
        filters, channels = params["W1"].shape[:2]
        if x.ndim != 4 or len(x) == 0 or x.shape[1] != channels:
            raise ConfigurationError(
                f"expected images X [N, {channels}, H, W], got {x.shape}: for one pass X[None]"
            )
        pooled = filters * (x.shape[2] // 2) * (x.shape[3] // 2)
        if len(params["W2"]) != pooled:
            raise ConfigurationError(
                f"X {x.shape} gives {pooled} features after convolution and pooling, W2 "
                f"{params['W2'].shape} expects {len(params['W2'])}: check input_dim"
            )
