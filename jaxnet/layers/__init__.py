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
from jaxnet.layers.layer import Layer
from jaxnet.layers.layernorm import (
    layernorm,
    layernorm_backward,
    layernorm_forward,
)

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "Layer",
    "activation",
    "affine",
    "affine_backward",
    "affine_forward",
    "batchnorm",
    "batchnorm_backward",
    "batchnorm_forward",
    "dropout",
    "dropout_backward",
    "dropout_forward",
    "first_units",
    "first_units_backward",
    "first_units_forward",
    "gelu",
    "gelu_backward",
    "gelu_forward",
    "layernorm",
    "layernorm_backward",
    "layernorm_forward",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu",
    "relu_backward",
    "relu_forward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_forward",
    "tanh",
    "tanh_backward",
    "tanh_forward",
]
