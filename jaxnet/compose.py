"""Combinators: layers in, one layer out, forward and backward both; and layers as JAX functions."""

import functools
import itertools
import operator
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.layers.layer import Layer, Tree, init_nothing


@checked
def serial(*layers: Layer) -> Layer:
    """Return layers applied one after the other: out = f_n(…f_2(f_1(x))).

    Parameters and state are dicts keyed by layer name, numbered among its kind; layers without
    any are absent. Random keys are derived from those names, so nets that differ only by
    normalization or dropout start from the same affine weights.

    >>> from jaxnet.layers import affine, relu
    >>> net = serial(affine(5), relu(), affine(3))
    >>> params, state, output_shape = net.init(jax.random.key(0), (4,))
    >>> jax.tree.map(jnp.shape, params), output_shape
    ({'affine_1': {'b': (5,), 'w': (4, 5)}, 'affine_2': {'b': (3,), 'w': (5, 3)}}, (3,))
    """
    named = list(zip(_numbered(layers), layers, strict=True))

    def init(key, input_shape):
        params, state, shape = {}, {}, input_shape
        for name, layer in named:
            params[name], state[name], shape = layer.init(_fold(key, name), shape)
        return _without_empty(params), _without_empty(state), shape

    def forward(params, state, x, *, key, train):
        caches, new_state = [], {}
        for name, layer in named:
            x, cache, new_state[name] = layer.forward(
                params.get(name, {}), state.get(name, {}), x, key=_fold(key, name), train=train
            )
            caches.append(cache)
        return x, caches, _without_empty(new_state)

    def backward(dout, caches):
        dparams = {}
        for (name, layer), cache in zip(reversed(named), reversed(caches), strict=True):
            dout, dparams[name] = layer.backward(dout, cache)
        return dout, _without_empty(dparams)

    return Layer("serial", init, forward, backward)


def identity() -> Layer:
    """Return the layer out = x."""

    def forward(params, state, x, *, key, train):
        return x, None, state

    def backward(dout, cache):
        return dout, {}

    return Layer("identity", init_nothing, forward, backward)


@checked
def residual(branch: Layer, shortcut: Layer | None = None) -> Layer:
    """Return out = branch(x) + shortcut(x), so that dout goes to both. He et al. 2016.

    The shortcut is the identity by default. Parameters: {"branch": …, "shortcut": …}.
    """
    fork = _fork({"branch": branch, "shortcut": identity() if shortcut is None else shortcut})

    def init(key, input_shape):
        params, state, (left, right) = fork.init(key, input_shape)
        if left != right:
            raise ConfigurationError(
                f"residual expects one output shape, got {left} from the branch and {right} from "
                f"the shortcut: give a shortcut that ends like the branch, say "
                f"shortcut=affine({left[-1]})"
            )
        return params, state, left

    def forward(params, state, x, *, key, train):
        (left, right), cache, state = fork.forward(params, state, x, key=key, train=train)
        return left + right, cache, state

    def backward(dout, cache):
        return fork.backward([dout, dout], cache)

    return Layer("residual", init, forward, backward)


@checked
def concat(*branches: Layer) -> Layer:
    """Return the outputs of all branches side by side on the last axis; dout is cut likewise.

    Parameters: {"branch_1": …, "branch_2": …}. The Inception block of Szegedy et al. 2015.
    """
    fork = _fork({f"branch_{i}": branch for i, branch in enumerate(branches, start=1)})

    def init(key, input_shape):
        params, state, shapes = fork.init(key, input_shape)
        if len({shape[:-1] for shape in shapes}) != 1:
            raise ConfigurationError(
                f"concat expects output shapes that differ in the last axis only, got {shapes}"
            )
        return params, state, (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def forward(params, state, x, *, key, train):
        outs, cache, state = fork.forward(params, state, x, key=key, train=train)
        ends = tuple(itertools.accumulate(out.shape[-1] for out in outs[:-1]))
        return jnp.concatenate(outs, axis=-1), (cache, _Cuts(ends)), state

    def backward(dout, cache):
        cache, cuts = cache
        return fork.backward(jnp.split(dout, cuts.ends, axis=-1), cache)

    return Layer("concat", init, forward, backward)


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Cuts:
    ends: tuple[int, ...]  # shapes, not values: static under every transformation


class _Fork(NamedTuple):
    """A layer with several outputs: lists of shapes, outs and douts."""

    init: Callable
    forward: Callable
    backward: Callable


def _fork(branches: dict[str, Layer]) -> _Fork:
    """Give x to every branch: out is the list of theirs, dx the sum of theirs."""

    def init(key, input_shape):
        params, state, shapes = {}, {}, []
        for name, layer in branches.items():
            params[name], state[name], shape = layer.init(_fold(key, name), input_shape)
            shapes.append(shape)
        return _without_empty(params), _without_empty(state), shapes

    def forward(params, state, x, *, key, train):
        outs, caches, new_state = [], [], {}
        for name, layer in branches.items():
            out, cache, new_state[name] = layer.forward(
                params.get(name, {}), state.get(name, {}), x, key=_fold(key, name), train=train
            )
            outs.append(out)
            caches.append(cache)
        return outs, caches, _without_empty(new_state)

    def backward(douts, caches):
        dxs, dparams = [], {}
        for (name, layer), dout, cache in zip(branches.items(), douts, caches, strict=True):
            dx, dparams[name] = layer.backward(dout, cache)
            dxs.append(dx)
        return functools.reduce(operator.add, dxs), _without_empty(dparams)

    return _Fork(init, forward, backward)


def _numbered(layers: tuple[Layer, ...]) -> list[str]:
    counts = Counter()
    names = []
    for layer in layers:
        counts[layer.name] += 1
        names.append(f"{layer.name}_{counts[layer.name]}")
    return names


def _fold(key: Any, name: str) -> Any:
    """Derive the key of a named part, whatever else is in the net; None stays None."""
    return None if key is None else jax.random.fold_in(key, zlib.crc32(name.encode()))


def _without_empty(tree: Tree) -> Tree:
    return {name: part for name, part in tree.items() if part}


@checked
def as_custom_vjp(forward: Callable[..., tuple], backward: Callable[..., Any]) -> Callable:
    """Return a function that `jax.grad` differentiates by the hand-written `backward`.

    `forward(*args, **settings)` gives (out, cache) or (out, cache, auxiliary); the function gives
    out or (out, auxiliary). `backward(dout, cache)` gives the gradient of the first argument, or a
    tuple for the first few. The other arguments (running statistics, rates, keys) count as
    constants and the auxiliary output as independent of everything: their gradients are zero.
    Reverse mode only.

    >>> from jaxnet.layers import relu_backward, relu_forward
    >>> relu = as_custom_vjp(relu_forward, relu_backward)
    >>> jax.grad(lambda x: relu(x).sum())(jnp.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]
    """

    def function(*args, **settings):
        def run(*args):
            out, cache, *auxiliary = forward(*args, **settings)
            return (out, *auxiliary) if auxiliary else out, cache

        def differentiate(cache, douts):
            dout = douts[0] if isinstance(douts, tuple) else douts
            gradients = backward(dout, cache)
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
            return *gradients, *[None] * (len(args) - len(gradients))

        primal = jax.custom_vjp(lambda *args: run(*args)[0])
        primal.defvjp(run, differentiate)
        return primal(*args)

    return function


@checked
def as_function(layer: Layer, *, train: bool = True) -> Callable[..., tuple[Array, Tree]]:
    """Return f(params, state, x, key) -> (out, state), for use inside any `jax.grad` code.

    Gradients with respect to params and x are the layer's own. State is auxiliary: its gradient
    is zero on the way in and ignored on the way out.

    >>> from jaxnet.layers import affine
    >>> layer = affine(3)
    >>> params, state, _ = layer.init(jax.random.key(0), (4,))
    >>> f = as_function(layer)
    >>> jax.grad(lambda p: f(p, state, jnp.ones((2, 4)), None)[0].sum())(params)["b"].tolist()
    [2.0, 2.0, 2.0]
    """

    def forward(params, x, state, key):
        return layer.forward(params, state, x, key=key, train=train)

    def backward(dout, cache):
        dx, dparams = layer.backward(dout, cache)
        return dparams, dx

    function = as_custom_vjp(forward, backward)
    return lambda params, state, x, key: function(params, x, state, key)
