"""Networks as expressions of layers, and the loss with its gradient by either backward pass."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, ScalarLike

from jaxnet.arguments.signatures import checked
from jaxnet.compose import Layer, concat, identity, residual, serial
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.layers import (
    activation as activation_layer,
    affine,
    batchnorm,
    conv2d,
    dropout,
    first_units,
    global_average_pool,
    group_norm,
    layernorm,
    max_pool,
    relu,
    spatial_batchnorm,
)
from jaxnet.layers.layer import Tree
from jaxnet.losses import LOSSES, add_l2, check_labels, l2_penalty


@checked
def fully_connected(
    hidden: Sequence[int],
    classes: int,
    *,
    activation: str = "relu",
    norm: str = "none",
    dropout_rate: ScalarLike | None = None,
    init: str = "he",
    init_scale: ScalarLike = 1.0,
    widths: Sequence[ScalarLike] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Return {affine – [norm] – activation – [dropout]} × len(hidden) – affine as one layer.

    `hidden` () is the linear classifier, (50,) the two-layer net, (512, 256, 256) four affine
    layers. `norm` is "none", "batch" or "layer"; `dropout_rate` None leaves the layer out.
    Numbers may be traced. This is the course's FullyConnectedNet.

    `widths`, one a hidden layer and perhaps traced, makes `hidden` the sizes of the arrays only:
    the net is the one with hidden layers of these widths, in scores, gradients and the weights that
    a key gives, so that nets of several widths train under one `vmap`. Beyond the widths everything
    is zero, but for a normalization's scale: it starts at 1, its gradient is zero and nothing
    depends on it. `jaxnet.training.layout.crop` takes the net out.

    >>> net = fully_connected((20,), 10, norm="batch")
    >>> params, state, output_shape = net.init(jax.random.key(0), (784,))
    >>> sorted(params), params["affine_1"]["w"].shape, output_shape
    (['affine_1', 'affine_2', 'batchnorm_1'], (784, 20), (10,))
    """
    return serial(
        *fully_connected_layers(
            hidden,
            classes,
            activation=activation,
            norm=norm,
            dropout_rate=dropout_rate,
            init=init,
            init_scale=init_scale,
            widths=widths,
            dtype=dtype,
        )
    )


def fully_connected_layers(
    hidden: Sequence[int],
    classes: int,
    *,
    activation: str = "relu",
    norm: str = "none",
    dropout_rate: ScalarLike | None = None,
    init: str = "he",
    init_scale: ScalarLike = 1.0,
    widths: Sequence[ScalarLike] | None = None,
    dtype: DTypeLike = jnp.float32,
) -> list[Layer]:
    """Return the layers that `fully_connected` puts in series: for a look at what is between."""
    norms = {
        "none": None,
        "batch": lambda width: batchnorm(dtype=dtype),  # units do not meet
        "layer": lambda width: layernorm(width=width, dtype=dtype),
    }
    if norm not in norms:
        raise ConfigurationError(unknown("norm", norm, norms))
    normalize = norms[norm]
    true_widths = [None] * len(hidden) if widths is None else list(widths)
    if len(true_widths) != len(hidden):
        raise ConfigurationError(
            f"widths expects one number for each of the {len(hidden)} hidden layers, got "
            f"{len(true_widths)}: their arrays have the sizes {tuple(hidden)}"
        )

    def linear(outputs: int, fan_in: ScalarLike | None, fan_out: ScalarLike | None) -> Layer:
        return affine(
            outputs,
            init=init,
            scale=init_scale,
            fan_in=fan_in,
            fan_out=fan_out,
            of_inputs=not layers,
            dtype=dtype,
        )

    layers: list[Layer] = []
    width_before = None
    for units, width in zip(hidden, true_widths, strict=True):
        layers.append(linear(units, width_before, width))
        if normalize is not None:
            layers.append(normalize(width))
        layers.append(activation_layer(activation))
        if width is not None:
            layers.append(first_units(width))
        if dropout_rate is not None:
            layers.append(dropout(dropout_rate))
        width_before = width
    return [*layers, linear(classes, width_before, None)]


@checked
def two_layer(hidden: int, classes: int, *, init_scale: ScalarLike = 1e-4) -> Layer:
    """Return affine – relu – affine, weights of deviation `init_scale`: the course's first net."""
    return fully_connected((hidden,), classes, init="normal", init_scale=init_scale)


@checked
def inception_resnet(
    classes: int,
    *,
    channels: int = 1,
    filters: int = 64,
    branches: tuple[int, int, int, int, int, int] = (32, 64, 64, 64, 64, 16),
    norm: str = "none",
    dropout_rate: ScalarLike | None = None,
    init: str = "glorot",
    init_scale: ScalarLike = 1.0,
    dtype: DTypeLike = jnp.float32,
) -> Layer:
    """Return residual block – pool – Inception module – pool – global average – affine.

    For images [batch, height, width, `channels`]; pools are maxima over 2×2.
    The block: relu(conv 3×3 – relu – conv 3×3 + shortcut), of `filters` channels; the shortcut is
    conv 1×1 – relu where `channels` differs from them, else the identity. The module puts side by
    side, relu after each convolution: conv 1×1 | 1×1 – 3×3 | 1×1 – 5×5 | max-pool 3×3 of stride
    1 – 1×1, with `branches` channels in this order. He et al. 2016; Szegedy et al. 2015.

    `norm` "batch" puts spatial batch normalization before the relu of each convolution and at the
    end of the block's branch; "layer" group normalization of one group. `dropout_rate` drops
    channels' averages before the affine layer. Numbers may be traced.

    >>> net = inception_resnet(10)
    >>> params, state, output_shape = net.init(jax.random.key(0), (28, 28, 1))
    >>> sum(leaf.size for leaf in jax.tree.leaves(params)), output_shape
    (190298, (10,))
    """
    norms = {
        "none": None,
        "batch": lambda: spatial_batchnorm(dtype=dtype),
        "layer": lambda: group_norm(1, dtype=dtype),
    }
    if norm not in norms:
        raise ConfigurationError(unknown("norm", norm, norms))
    normalize = norms[norm]

    def conv(outputs: int, kernel: int) -> list[Layer]:
        layer = conv2d(outputs, kernel, init=init, scale=init_scale, dtype=dtype)
        return [layer] if normalize is None else [layer, normalize()]

    def conv_relu(outputs: int, kernel: int) -> list[Layer]:
        return [*conv(outputs, kernel), relu()]

    block = residual(
        serial(*conv_relu(filters, 3), *conv(filters, 3)),
        identity() if channels == filters else serial(*conv_relu(filters, 1)),
    )
    plain, inner_3, outer_3, inner_5, outer_5, pooled = branches
    module = concat(
        serial(*conv_relu(plain, 1)),
        serial(*conv_relu(inner_3, 1), *conv_relu(outer_3, 3)),
        serial(*conv_relu(inner_5, 1), *conv_relu(outer_5, 5)),
        serial(max_pool(3, 1, "same"), *conv_relu(pooled, 1)),
    )
    drop = [] if dropout_rate is None else [dropout(dropout_rate)]
    head = affine(classes, init=init, scale=init_scale, dtype=dtype)
    body = [block, relu(), max_pool(), module, max_pool(), global_average_pool()]
    return serial(*body, *drop, head)


class LossAndGrad(NamedTuple):
    """The loss with its penalty, its gradient by parameter, and what the forward pass left."""

    loss: Float[Array, ""]
    grads: Tree
    scores: Float[Array, "batch classes"]
    state: Tree


@checked
def loss_and_grad(
    model: Layer,
    params: Tree,
    state: Tree,
    images: Float[Array, "batch *features"],
    labels: Int[Array, " batch"],
    *,
    key: PRNGKeyArray | None = None,
    loss: str = "softmax",
    label_smoothing: ScalarLike = 0.0,
    l2: ScalarLike = 0.0,
    l2_convention: str = "half",
    backward: str = "manual",
) -> LossAndGrad:
    """loss = data loss(model(images), labels) + penalty(weights), and d(loss)/d(params).

    `backward` "manual" runs the hand-written passes of the layers, "autodiff" differentiates the
    same forward pass with `jax.grad`: the two agree to rounding. The penalty is
    ½·l2·Σ‖W‖² ("half") or l2·Σ‖W‖² ("full", the course's first assignment), over weights only.
    Labels out of range raise ConfigurationError, unless traced: check those before compiling.

    >>> net = two_layer(4, 3)
    >>> params, state, _ = net.init(jax.random.key(0), (2,))
    >>> result = loss_and_grad(net, params, state, jnp.ones((5, 2)), jnp.arange(5) % 3)
    >>> round(float(result.loss), 4)  # ln 3: near-zero weights tell the classes apart no better
    1.0986
    """
    if loss not in LOSSES:
        raise ConfigurationError(unknown("loss", loss, LOSSES))
    data_loss = LOSSES[loss]

    def forward(params):
        scores, cache, new_state = model.forward(params, state, images, key=key, train=True)
        check_labels(labels, scores.shape[1])
        value, dscores = data_loss(scores, labels, label_smoothing)
        penalty, _ = l2_penalty(params, l2, convention=l2_convention)
        return value + penalty, scores, new_state, (dscores, cache)

    if backward == "manual":
        value, scores, new_state, (dscores, cache) = forward(params)
        _, grads = model.backward(dscores, cache)
        grads = add_l2(grads, params, l2, convention=l2_convention)
    elif backward == "autodiff":

        def objective(params):
            value, scores, new_state, _ = forward(params)
            return value, (scores, new_state)

        (value, (scores, new_state)), grads = jax.value_and_grad(objective, has_aux=True)(params)
    else:
        raise ConfigurationError(unknown("backward", backward, ("manual", "autodiff")))
    return LossAndGrad(value, grads, scores, new_state)
