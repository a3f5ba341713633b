"""The course's convolutional network, which is yet to come."""

from jaxnet.cs231n import fast_layers, layer_utils, layers
from jaxnet.cs231n.fast_layers import *  # noqa: F403
from jaxnet.cs231n.later import convolution
from jaxnet.cs231n.layer_utils import *  # noqa: F403
from jaxnet.cs231n.layers import *  # noqa: F403

__all__ = ["ThreeLayerConvNet"]
__all__ += layers.__all__
__all__ += layer_utils.__all__
__all__ += fast_layers.__all__

ThreeLayerConvNet = convolution("ThreeLayerConvNet")
