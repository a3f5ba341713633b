"""The table of architectures: how each is built, and what the rest of jaxnet asks of it.

To add one, write its layers in `jaxnet.models` and its row here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Array

from jaxnet import models
from jaxnet.arguments.setting import Setting
from jaxnet.compose import Layer, serial
from jaxnet.kernels.products import product

Total = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An architecture by name: how to build it, and what it is like.

    `build(net, hyperparameters, shapes, total, **common)` returns the layers of a `Net` with its
    `Hyperparameters` for inputs and classes of these `Shapes`; `common` are the arguments that all
    networks have (norm, dropout_rate, init, init_scale, dtype). `settings` names the static
    settings that it uses beside those of all networks, `hyperparameters` its own numbers with their
    defaults.

    A convolutional network trains in turn with others on CPUs, where a batched product costs more
    than its parts, and scores few images at once. A chain has hidden layers of `hidden` units one
    after another, named affine_1, affine_2, ...: its `build` respects `hyperparameters.widths` and
    `total` (see `jaxnet.training.blocks`), its costs follow from its widths, and its layers can be
    watched. `small(classes, norm)` returns a small network of the kind, for (8, 9, 1) images or
    rows of 3 features, that `jaxnet gradcheck` proves; a chain is proved without it.
    """

    build: Callable[..., Layer]
    settings: tuple[str, ...] = ()
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    takes_images: bool = False
    is_convolutional: bool = False
    is_chain: bool = False
    small: Callable[[int, str], Layer] | None = None


HYPERPARAMETERS: dict[str, Setting] = {
    "flip": Setting("probability to mirror a training image", high=1, closed=True, own=True),
    "shift": Setting("most pixels to shift a training image by", own=True),
}
"""The numbers that architectures alone have."""


def _fully_connected(
    net: Any, hyperparameters: Any, shapes: Any, total: Total | None, **common: Any
) -> Layer:
    *layers, head = models.fully_connected_layers(
        net.hidden,
        shapes.classes,
        activation=net.activation,
        widths=hyperparameters.widths or None,
        **common,
    )
    return serial(*layers, head if total is None else _sum_scores(head, total))


def _sum_scores(head: Layer, total: Total) -> Layer:
    """Return the affine layer of the scores, out = total(x·w) + b.

    Its backward pass is that of x·w + b: d(loss)/d(x·w) of a block is that of the sum.
    """

    def forward(params, state, x, *, key, train):
        out = total(product(x, params["w"])) + params["b"][None, :]
        return out, (x, params["w"]), state

    return head._replace(forward=forward)


def _inception_resnet(
    net: Any, hyperparameters: Any, shapes: Any, total: Total | None, **common: Any
) -> Layer:
    return models.inception_resnet(shapes.classes, channels=shapes.input[-1], **common)


def _small_inception_resnet(classes: int, norm: str) -> Layer:
    return models.inception_resnet(classes, filters=2, branches=(2, 1, 2, 1, 2, 1), norm=norm)


ARCHITECTURES: dict[str, Architecture] = {
    "fully_connected": Architecture(
        build=_fully_connected, settings=("hidden", "activation"), is_chain=True
    ),
    "inception_resnet": Architecture(
        build=_inception_resnet,
        hyperparameters={"flip": 0.0, "shift": 0.0},
        takes_images=True,
        is_convolutional=True,
        small=_small_inception_resnet,
    ),
}


def _model(*arguments: Any, **common: Any) -> Layer:
    raise TypeError("a user's model has functions, not layers")


MODEL = Architecture(build=_model, takes_images=True)
"""What holds of a model of the user's."""
