"""The compiled programs of the course's networks: scores, loss with gradients, one update."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, ScalarLike

from jaxnet import layers, models
from jaxnet.compose import serial
from jaxnet.cs231n import optim
from jaxnet.cs231n.arrays import compiled, join, numpy, part
from jaxnet.layers.layer import Layer, Tree, init_nothing

FEW = 4096
"""Floats, weights and images, up to which they travel as one array: 2 to 4 µs less for each."""

Mask = tuple[Any, Any]  # which values are kept, [batch, features], and the probability to keep


class Structure(NamedTuple):
    """What a compiled program depends on, beside the shapes of its arguments."""

    normalization: str | None
    l2_convention: str
    convolution: bool = False  # the first layer is one, with a 2×2 max pool after its relu


class Arguments(NamedTuple):
    """What a forward pass of a network takes, beside its parameters and its inputs."""

    state: list[dict[str, Any]]  # of each batchnorm: running_mean, running_var, momentum, eps
    masks: list[Mask]  # of each dropout, in training
    reg: Any


def masked(keep: Bool[Array, "batch features"], survival: ScalarLike) -> Layer:
    """Return dropout with a mask that is drawn already, as a layer."""
    mask = (keep, survival)

    def forward(params, state, x, *, key, train):
        return layers.dropout_backward(x, mask), None, state  # a diagonal map: its own transpose

    def backward(dout, cache):
        return layers.dropout_backward(dout, mask), {}

    return Layer("dropout", init_nothing, forward, backward)


def _moved(source: int, destination: int) -> Layer:
    """Return the layer that moves an axis of its input."""

    def forward(params, state, x, *, key, train):
        return jnp.moveaxis(x, source, destination), None, state

    def backward(dout, cache):
        return jnp.moveaxis(dout, destination, source), {}

    return Layer("moved", init_nothing, forward, backward)


def _convolutional(params: dict[str, Array]) -> Layer:
    """Return the net of images [N, C, H, W], whose channels the affine layer takes first, too."""
    filters, _, height, width = params["W1"].shape
    pads = ((height // 2, height // 2), (width // 2, width // 2))
    return serial(
        _moved(1, -1),
        layers.conv2d(filters, (height, width), padding=pads),
        layers.relu(),
        layers.max_pool(),
        _moved(-1, 1),
        *[layers.affine(params["b2"].shape[0]), layers.relu()],
        layers.affine(params["b3"].shape[0]),
    )


def _model(structure: Structure, params: dict[str, Array], arguments: Arguments) -> Layer:
    if structure.convolution:
        return _convolutional(params)
    sizes = [params[f"b{i}"].shape[0] for i in range(1, _depth(params) + 1)]
    stack: list[Layer] = []
    for i, size in enumerate(sizes[:-1]):
        stack.append(layers.affine(size))
        if structure.normalization == "batchnorm":
            numbers = arguments.state[i]
            stack.append(layers.batchnorm(numbers["momentum"], numbers["eps"]))
        elif structure.normalization == "layernorm":
            stack.append(layers.layernorm())
        stack.append(layers.relu())
        if arguments.masks:
            stack.append(masked(*arguments.masks[i]))
    return serial(*stack, layers.affine(sizes[-1]))


def _depth(params: dict[str, Any]) -> int:
    return sum(name.startswith("W") for name in params)


_NAMES = {
    "W": ("affine", "w"),
    "b": ("affine", "b"),
    "gamma": (None, "scale"),
    "beta": (None, "shift"),
}


def _path(structure: Structure, name: str) -> tuple[str, str]:
    """Return where the parameter that the course calls W1, b1, gamma1 ... is in ours."""
    kind = name.rstrip("0123456789")
    layer, leaf = _NAMES[kind]
    if structure.convolution:
        number = int(name[len(kind) :])
        return ("conv2d_1" if number == 1 else f"affine_{number - 1}"), leaf
    return f"{layer or structure.normalization}_{name[len(kind) :]}", leaf


def _ours(structure: Structure, params: dict[str, Array]) -> Tree:
    tree: Tree = {}
    for name, value in params.items():
        layer, leaf = _path(structure, name)
        kernel = structure.convolution and name == "W1"  # [F, C, HH, WW] to ours
        tree.setdefault(layer, {})[leaf] = value.transpose(2, 3, 1, 0) if kernel else value
    return tree


def _state(arguments: Arguments, like: Array) -> Tree:
    return {
        f"batchnorm_{i}": {
            "running_mean": jnp.asarray(param["running_mean"], like.dtype),
            "running_variance": jnp.asarray(param["running_var"], like.dtype),
        }
        for i, param in enumerate(arguments.state, start=1)
    }


@compiled(static=("structure",))
def scores(
    structure: Structure, params: dict[str, Any], arguments: Arguments, x: Any
) -> Float[Array, "batch classes"]:
    """Return the scores in test mode."""
    model = _model(structure, params, arguments)
    tree = _ours(structure, params)
    out, _, _ = model.forward(tree, _state(arguments, x), x, key=None, train=False)
    return out


def _loss_and_gradients(structure, params, arguments, x, y):
    result = models.loss_and_grad(
        _model(structure, params, arguments),
        _ours(structure, params),
        _state(arguments, x),
        x,
        y,
        l2=arguments.reg,
        l2_convention=structure.l2_convention,
    )
    grads = {}
    for name in params:
        layer, leaf = _path(structure, name)
        grads[name] = result.grads[layer][leaf]
    if structure.convolution:
        grads["W1"] = grads["W1"].transpose(3, 2, 0, 1)
    state = [
        {"running_mean": new["running_mean"], "running_var": new["running_variance"]}
        for new in (result.state[f"batchnorm_{i + 1}"] for i in range(len(arguments.state)))
    ]
    return result.loss, grads, state


_large = compiled(_loss_and_gradients, static=("structure",))


@compiled(static=("structure", "tree", "shapes"))
def _small(structure, tree, shapes, flat, masks, y):
    params, state, reg, x = tree.unflatten(part(flat, shapes))
    found = _loss_and_gradients(structure, params, Arguments(state, masks, reg), x, y)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])


def loss_and_gradients(
    structure: Structure,
    params: dict[str, np.ndarray],
    arguments: Arguments,
    x: np.ndarray,
    y: np.ndarray,
) -> tuple[Any, dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Return the loss, gradients keyed as params, and the new statistics, as NumPy arrays.

    Of small networks the floats travel as one array, and come back as one.
    """
    values, tree = jax.tree.flatten((params, arguments.state, arguments.reg, x))
    arrays = [np.asarray(value, x.dtype) for value in values]
    if sum([array.size for array in arrays]) > FEW:
        return numpy(_large(structure, params, arguments, x, y))
    shapes = tuple([array.shape for array in arrays])
    flat = np.array(_small(structure, tree, shapes, join(arrays), arguments.masks, y))
    names = sorted(params)  # leaves of dicts are in this order
    running = [p[name].shape for p in arguments.state for name in ("running_mean", "running_var")]
    loss, *found = part(flat, ((), *[params[name].shape for name in names], *running))
    rest = iter(found[len(names) :])
    state = [{"running_mean": mean, "running_var": next(rest)} for mean in rest]
    return loss[()], dict(zip(names, found, strict=False)), state


@compiled(static=("structure", "rule"))
def train_step(structure, rule, params, configs, arguments, x, y):
    """Return the loss at params, and params, configs and running statistics after one update.

    Nothing is donated: the alarm of a time limit may come between the call and the assignment of
    what it returns, and would leave nothing (it is 5 to 10 % slower so).
    """
    loss, grads, state = _loss_and_gradients(structure, params, arguments, x, y)
    new_params, new_configs = {}, {}
    for name, w in params.items():
        new_params[name], new_configs[name] = optim.RULES[rule](w, grads[name], configs[name])
    return loss, new_params, new_configs, state
