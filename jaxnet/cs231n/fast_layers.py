"""The course's fast layers: here the layers of `jaxnet.cs231n.layers` are the fast ones already."""

from jaxnet.cs231n.later import convolution

__all__ = [
    "conv_backward_fast",
    "conv_backward_im2col",
    "conv_backward_strides",
    "conv_forward_fast",
    "conv_forward_im2col",
    "conv_forward_strides",
    "max_pool_backward_fast",
    "max_pool_backward_im2col",
    "max_pool_backward_reshape",
    "max_pool_forward_fast",
    "max_pool_forward_im2col",
    "max_pool_forward_reshape",
]

conv_forward_fast = convolution("conv_forward_fast")
conv_backward_fast = convolution("conv_backward_fast")
conv_forward_im2col = convolution("conv_forward_im2col")
conv_backward_im2col = convolution("conv_backward_im2col")
conv_forward_strides = convolution("conv_forward_strides")
conv_backward_strides = convolution("conv_backward_strides")
max_pool_forward_fast = convolution("max_pool_forward_fast")
max_pool_backward_fast = convolution("max_pool_backward_fast")
max_pool_forward_im2col = convolution("max_pool_forward_im2col")
max_pool_backward_im2col = convolution("max_pool_backward_im2col")
max_pool_forward_reshape = convolution("max_pool_forward_reshape")
max_pool_backward_reshape = convolution("max_pool_backward_reshape")
