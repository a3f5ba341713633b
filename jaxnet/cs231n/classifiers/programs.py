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

MAX_PACKED_FLOATS = 4096
"""Up to this many weights and pixels, a call packs them into one array, as each costs 2 to 4 µs."""

Mask = tuple[Any, Any]  # True for a value to keep, [batch, features]; the probability to keep


class Structure(NamedTuple):
    """The static part of a network: a program is compiled for it and the shapes of arguments."""

    normalization: str | None
    l2_convention: str
    convolution: bool = False  # whether the first layer is one, with a 2×2 max pool after its relu


class Arguments(NamedTuple):
    """The arguments of a forward pass besides parameters and inputs."""

    state: list[dict[str, Any]]  # for each batchnorm: running_mean, running_var, momentum, eps
    masks: list[Mask]  # one for each dropout, in training
    reg: Any


def masked(keep: Bool[Array, "batch features"], survival: ScalarLike) -> Layer:
    """Return a dropout layer with a given mask."""
    mask = (keep, survival)

    def forward(params, state, x, *, key, train):
        return layers.dropout_backward(x, mask), None, state  # a diagonal map equals its transpose

    def backward(dout, cache):
        return layers.dropout_backward(dout, mask), {}

    return Layer("dropout", init_nothing, forward, backward)


def _moved(source: int, destination: int) -> Layer:
    """Return a layer that moves an axis of its input."""

    def forward(params, state, x, *, key, train):
        return jnp.moveaxis(x, source, destination), None, state

    def backward(dout, cache):
        return jnp.moveaxis(dout, destination, source), {}

    return Layer("moved", init_nothing, forward, backward)


def _convolutional(params: dict[str, Array]) -> Layer:
    """Return the network for images [N, C, H, W]; W2 also has channels first, so they move back."""
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
            statistics = arguments.state[i]
            stack.append(layers.batchnorm(statistics["momentum"], statistics["eps"]))
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
    """Return layer and leaf, in jaxnet's tree, of the parameter that the course calls `name`."""
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
        kernel = structure.convolution and name == "W1"  # from [F, C, HH, WW] to [HH, WW, C, F]
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
    results = _loss_and_gradients(structure, params, Arguments(state, masks, reg), x, y)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(results)])


def loss_and_gradients(
    structure: Structure,
    params: dict[str, np.ndarray],
    arguments: Arguments,
    x: np.ndarray,
    y: np.ndarray,
) -> tuple[Any, dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """Return the loss, gradients with the keys of params, and new statistics, as NumPy arrays.

    The floats of small networks are passed and returned as one array, which is faster.
    """
    values, tree = jax.tree.flatten((params, arguments.state, arguments.reg, x))
    arrays = [np.asarray(value, x.dtype) for value in values]
    if sum([array.size for array in arrays]) > MAX_PACKED_FLOATS:
        return numpy(_large(structure, params, arguments, x, y))
    shapes = tuple([array.shape for array in arrays])
    flat = np.array(_small(structure, tree, shapes, join(arrays), arguments.masks, y))
    names = sorted(params)  # the order of the leaves of a dict
    running = [p[name].shape for p in arguments.state for name in ("running_mean", "running_var")]
    loss, *arrays = part(flat, ((), *[params[name].shape for name in names], *running))
    rest = iter(arrays[len(names) :])
    state = [{"running_mean": mean, "running_var": next(rest)} for mean in rest]
    return loss[()], dict(zip(names, arrays, strict=False)), state


@compiled(static=("structure", "rule"))
def train_step(structure, rule, params, configs, arguments, batch):
    """Return the loss at params, and params, configs and running statistics after one update.

    No buffer is donated, though that costs 5 to 10 %: an interrupt between the call and the
    assignment of its results would leave neither old nor new parameters.
    """
    x, y = batch
    loss, grads, state = _loss_and_gradients(structure, params, arguments, x, y)
    new_params, new_configs = {}, {}
    for name, w in params.items():
        new_params[name], new_configs[name] = optim.RULES[rule](w, grads[name], configs[name])
    return loss, new_params, new_configs, state
