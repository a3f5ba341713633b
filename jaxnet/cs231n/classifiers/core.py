"""What the course's networks share: NumPy parameters outside, one compiled program inside."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, ScalarLike

from jaxnet import layers, models
from jaxnet.compose import serial
from jaxnet.cs231n import optim
from jaxnet.cs231n.arrays import compiled, floats, numpy
from jaxnet.cs231n.layers import draw_mask, labels
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Layer, Tree, init_nothing

Mask = tuple[Any, Any]  # which values are kept, [batch, features], and the probability to keep
NORMS = {"batchnorm": layers.batchnorm, "layernorm": layers.layernorm}


class Structure(NamedTuple):
    """What a compiled program depends on, beside the shapes of its arguments."""

    normalization: str | None
    l2_convention: str


class Arguments(NamedTuple):
    """What a forward pass of a network takes, beside its parameters and its inputs."""

    state: list[dict[str, Any]]  # of each batchnorm: running_mean, running_var, momentum, eps
    masks: list[Mask]  # of each dropout, in training
    reg: Any


class Network:
    """A fully-connected network under the course's names: `params["W1"]`, `params["b1"]`, ...

    Parameters are NumPy arrays that may be changed in place or replaced between calls.
    """

    params: dict[str, np.ndarray]
    reg: float = 0.0
    dtype: Any = None  # None: what NumPy would promote X and the parameters to
    normalization: str | None = None
    use_dropout: bool = False
    dropout_param: dict[str, Any]
    bn_params: Sequence[dict[str, Any]] = ()
    l2_convention: str = "half"

    def loss(self, X: Any, y: Any = None) -> Any:
        """Return the class scores of X [N, ...], or with labels y the loss and its gradients.

        loss = mean cross-entropy + ½·reg·Σ‖W‖². Without y batchnorm and dropout are in test mode,
        with y in training mode. Gradients are keyed as `params`. ConfigurationError for shapes
        that do not fit and for labels out of range.
        """
        x, params = self.inputs(X)
        if y is None:
            return numpy(scores(self.structure, params, self.arguments(len(x), train=False), x))
        y = labels(y, len(x), self.classes)
        arguments = self.arguments(len(x), train=True)
        loss, grads, state = loss_and_gradients(self.structure, params, arguments, x, y)
        self.keep(numpy(state))
        return numpy(loss), numpy(grads)

    @property
    def structure(self) -> Structure:
        """Return what is static."""
        return Structure(self.normalization, self.l2_convention)

    @property
    def depth(self) -> int:
        """Return the number of affine layers."""
        return sum(name.startswith("W") for name in self.params)

    @property
    def classes(self) -> int:
        """Return the number of scores of an input."""
        return self.params[f"b{self.depth}"].shape[0]

    def inputs(self, X: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return X and the parameters in one dtype; ConfigurationError unless their shapes fit."""
        x, *values = floats(X=X, **self.params)
        params = dict(zip(self.params, values, strict=True))
        if self.dtype is not None and x.dtype != self.dtype:
            x, *values = (array.astype(self.dtype, copy=False) for array in (x, *values))
            params = dict(zip(self.params, values, strict=True))
        self._check_shapes(x, params)
        return x, params

    def arguments(self, rows: int, *, train: bool) -> Arguments:
        """Return the rest of what a program needs; training draws a mask for each dropout."""
        state = []
        if self.normalization == "batchnorm":
            state = [_batchnorm_arguments(param) for param in self.bn_params]
        masks = []
        if self.use_dropout:
            self.dropout_param["mode"] = "train" if train else "test"
            for layer in range(1, self.depth):
                shape = (rows, len(self.params[f"b{layer}"]))
                if (mask := draw_mask(self.dropout_param, shape)) is not None:
                    masks.append(mask)
        return Arguments(state, masks, self.reg)

    def keep(self, state: list[dict[str, Any]]) -> None:
        """Write running statistics back into `bn_params`."""
        for param, new in zip(self.bn_params, state, strict=False):
            param.update(running_mean=new["running_mean"], running_var=new["running_var"])

    def _check_shapes(self, x: np.ndarray, params: dict[str, np.ndarray]) -> None:
        features = x[:1].size
        if x.ndim < 2 or len(x) == 0:
            raise ConfigurationError(
                f"expected inputs X [N, ...] of {len(params['W1'])} features, got {x.shape}: "
                f"for one image pass X[None]"
            )
        given = f"X {x.shape}"
        for layer in range(1, self.depth + 1):
            w, b = params[f"W{layer}"], params[f"b{layer}"]
            if w.ndim != 2 or len(w) != features or b.shape != w.shape[1:]:
                raise ConfigurationError(
                    f"layer {layer}: expected weights W{layer} [{features}, outputs] for {given} "
                    f"and biases b{layer} [outputs], got W{layer} {w.shape}, b{layer} {b.shape}: "
                    f"check input_dim and what was written into params"
                )
            features, given = w.shape[1], f"the {w.shape[1]} outputs of layer {layer}"


def _batchnorm_arguments(param: dict[str, Any]) -> dict[str, Any]:
    return {
        "running_mean": param["running_mean"],
        "running_var": param["running_var"],
        "momentum": float(param.get("momentum", 0.9)),
        "eps": float(param.get("eps", 1e-5)),
    }


def masked(keep: Bool[Array, "batch features"], survival: ScalarLike) -> Layer:
    """Return dropout with a mask that is drawn already, as a layer."""

    def forward(params, state, x, *, key, train):
        return (
            layers.dropout_backward(x, (keep, survival)),
            None,
            state,
        )  # a diagonal map: its own transpose

    def backward(dout, cache):
        return layers.dropout_backward(dout, (keep, survival)), {}

    return Layer("dropout", init_nothing, forward, backward)


def _model(structure: Structure, params: dict[str, Array], arguments: Arguments) -> Layer:
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
    return f"{layer or structure.normalization}_{name[len(kind) :]}", leaf


def _ours(structure: Structure, params: dict[str, Array]) -> Tree:
    tree: Tree = {}
    for name, value in params.items():
        layer, leaf = _path(structure, name)
        tree.setdefault(layer, {})[leaf] = value
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
    state = [
        {"running_mean": new["running_mean"], "running_var": new["running_variance"]}
        for new in (result.state[f"batchnorm_{i + 1}"] for i in range(len(arguments.state)))
    ]
    return result.loss, grads, state


loss_and_gradients = compiled(_loss_and_gradients, static=("structure",))


@compiled(static=("structure", "rule"))
def train_step(structure, rule, params, configs, arguments, x, y):
    """Return the loss at params, and params, configs and running statistics after one update.

    Nothing is donated: Ctrl-C, or the alarm of a time limit, may come between the call and the
    assignment of what it returns, and would leave nothing (it is 5 to 10 % slower so).
    """
    loss, grads, state = _loss_and_gradients(structure, params, arguments, x, y)
    new_params, new_configs = {}, {}
    for name, w in params.items():
        new_params[name], new_configs[name] = optim.RULES[rule](w, grads[name], configs[name])
    return loss, new_params, new_configs, state


class Training:
    """A network while it trains: parameters, update rule and statistics stay on the device.

    `configs` holds the update rule's dictionary of each parameter. `write_back` brings network
    and dictionaries up to date; between, they show the values of the last call.
    """

    def __init__(self, net: Network, rule: str, configs: dict[str, dict[str, Any]]):
        self._net, self._rule, self._host_configs = net, rule, configs
        for name, config in configs.items():
            optim.defaults(rule, net.params[name], config)
        dtype = self._net.dtype or np.result_type(*self._net.params.values())
        with jax.enable_x64(True):
            # Copies: JAX may take over a NumPy array's memory, which its owner may change.
            self._params = {
                name: jnp.array(value, dtype, copy=True) for name, value in self._net.params.items()
            }
            self._configs = jax.tree.map(lambda x: jnp.array(x, copy=True), self._host_configs)
        self._state: list[dict[str, Any]] = []
        self._losses: list[Array] = []

    def step(self, x: Any, y: Any) -> None:
        """Make one update on this minibatch; labels are taken as checked."""
        arguments = self._net.arguments(len(x), train=True)
        if self._state:
            arguments = arguments._replace(
                state=[
                    {**old, **new} for old, new in zip(arguments.state, self._state, strict=True)
                ]
            )
        dtype = self._params["W1"].dtype
        x = np.asarray(x)
        if x.dtype != dtype:
            x = x.astype(dtype)
        loss, self._params, self._configs, self._state = train_step(
            self._net.structure, self._rule, self._params, self._configs, arguments, x, y
        )
        self._losses.append(loss)

    def losses(self) -> list[Any]:
        """Return the losses of the steps since the last call, when they are computed."""
        losses, self._losses = [numpy(loss) for loss in self._losses], []
        return losses

    def write_back(self) -> None:
        """Bring the network and the dictionaries of the update rule up to date."""
        self._net.params.update(numpy(self._params))
        self._net.keep(numpy(self._state))
        for name, config in numpy(self._configs).items():
            self._host_configs[name].update(
                {k: v.item() if isinstance(v, np.generic) else v for k, v in config.items()}
            )
