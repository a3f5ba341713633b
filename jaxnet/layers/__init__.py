"""Layers: forward and hand-written backward of one operation side by side in one file."""

from jaxnet.layers.activations import (
    ACTIVATIONS,
    activation,
    gelu,
    gelu_backward,
    gelu_forward,
    leaky_relu,
    leaky_relu_backward,
    leaky_relu_forward,
    relu,
    relu_backward,
    relu_forward,
    sigmoid,
    sigmoid_backward,
    sigmoid_forward,
    tanh,
    tanh_backward,
    tanh_forward,
)
from jaxnet.layers.affine import (
    INITIALIZERS,
    affine,
    affine_backward,
    affine_forward,
)
from jaxnet.layers.batchnorm import (
    batchnorm,
    batchnorm_backward,
    batchnorm_forward,
)
from jaxnet.layers.convolution import (
    conv2d,
    conv2d_backward,
    conv2d_forward,
)
from jaxnet.layers.dropout import (
    dropout,
    dropout_backward,
    dropout_forward,
)
from jaxnet.layers.first_units import (
    first_units,
    first_units_backward,
    first_units_forward,
)
from jaxnet.layers.flatten import (
    flatten,
    flatten_backward,
    flatten_forward,
)
from jaxnet.layers.group_norm import (
    group_norm,
    group_norm_backward,
    group_norm_forward,
)
from jaxnet.layers.layer import Layer
from jaxnet.layers.layernorm import (
    layernorm,
    layernorm_backward,
    layernorm_forward,
)
from jaxnet.layers.pooling import (
    average_pool,
    average_pool_backward,
    average_pool_forward,
    global_average_pool,
    global_average_pool_backward,
    global_average_pool_forward,
    max_pool,
    max_pool_backward,
    max_pool_forward,
)
from jaxnet.layers.spatial_batchnorm import (
    spatial_batchnorm,
    spatial_batchnorm_backward,
    spatial_batchnorm_forward,
)

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "Layer",
    "activation",
    "affine",
    "affine_backward",
    "affine_forward",
    "average_pool",
    "average_pool_backward",
    "average_pool_forward",
    "batchnorm",
    "batchnorm_backward",
    "batchnorm_forward",
    "conv2d",
    "conv2d_backward",
    "conv2d_forward",
    "dropout",
    "dropout_backward",
    "dropout_forward",
    "first_units",
    "first_units_backward",
    "first_units_forward",
    "flatten",
    "flatten_backward",
    "flatten_forward",
    "gelu",
    "gelu_backward",
    "gelu_forward",
    "global_average_pool",
    "global_average_pool_backward",
    "global_average_pool_forward",
    "group_norm",
    "group_norm_backward",
    "group_norm_forward",
    "layernorm",
    "layernorm_backward",
    "layernorm_forward",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "max_pool",
    "max_pool_backward",
    "max_pool_forward",
    "relu",
    "relu_backward",
    "relu_forward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_forward",
    "spatial_batchnorm",
    "spatial_batchnorm_backward",
    "spatial_batchnorm_forward",
    "tanh",
    "tanh_backward",
    "tanh_forward",
]
