"""A model of the user's own: any pure `init` and `loss`, of flax, equinox or plain JAX."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxnet.arguments.checks import shown
from jaxnet.errors import ConfigurationError
from jaxnet.values.label import label

_INIT_OWN = ("key",)
_LOSS_OWN = ("params", "x", "labels", "key")


@dataclass(frozen=True)
class Model:
    """Two pure functions that `sweep` trains as it trains its own networks.

        init(key, **arguments)                          -> params
        loss(params, x, labels, key, **arguments)       -> loss, scores

    `params` is any pytree of floating-point arrays; x `[batch, *shape of an image]` is the
    preprocessed minibatch, labels int32 `[batch]`, loss a scalar, scores `[batch, classes]`.
    `key` is a PRNG key in training and None in evaluation: what is random (dropout) is off then.

    The arguments are settings of the sweep, under their names; a default in the signature is their
    default. A float is an array in the compiled program, and any number of values trains in one;
    every other value (a width, a name, a flag) is static, and each is a program of its own.
    Gradients are by `jax.grad`. Raises ConfigurationError for signatures that do not fit.

    >>> import jax
    >>> def init(key, width=20):
    ...     return jax.random.normal(key, (784, width)) / 28, jax.numpy.zeros((width, 10))
    >>> def loss(params, x, labels, key, slope=0.1):
    ...     scores = jax.nn.leaky_relu(x.reshape(len(x), -1) @ params[0], slope) @ params[1]
    ...     return -jax.nn.log_softmax(scores)[jax.numpy.arange(len(x)), labels].mean(), scores
    >>> sorted(Model(init, loss).defaults)
    ['slope', 'width']
    """

    init: Callable[..., Any]
    loss: Callable[..., tuple[Any, Any]]
    defaults: Mapping[str, Any] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        own = _arguments(self.init, "init", _INIT_OWN)
        more = _arguments(self.loss, "loss", _LOSS_OWN)
        for name in own.keys() & more.keys():
            defaults = {own[name], more[name]} - {inspect.Parameter.empty}
            if len(defaults) > 1:
                raise ConfigurationError(
                    f"model: {name} has the default {own[name]!r} in init and {more[name]!r} in "
                    f"loss: give both the same"
                )
        object.__setattr__(self, "defaults", {**own, **more})

    def given_to_init(self, static: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict:
        """Return the arguments of init among these values."""
        return _chosen(_arguments(self.init, "init", _INIT_OWN), static, numbers)

    def given_to_loss(self, static: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict:
        """Return the arguments of loss among these values."""
        return _chosen(_arguments(self.loss, "loss", _LOSS_OWN), static, numbers)

    @property
    def label(self) -> str:
        """The functions by name; where one call made both, that call."""
        labels = [label(self.init), label(self.loss)]
        makers = [_maker(self.init), _maker(self.loss)]
        if None not in makers and makers[0] == makers[1]:
            called = [text for text in labels if text.startswith(f"{makers[0]}(")]
            return called[-1] if called else f"{makers[0]}()"
        return " + ".join(labels)


def _maker(function: object) -> str | None:
    """Return the name of the function in which this one was defined."""
    outer, _, _ = getattr(function, "__qualname__", "").rpartition(".<locals>.")
    return outer.rpartition(".")[2] or None


def _arguments(function: Callable[..., Any], what: str, own: tuple[str, ...]) -> dict[str, Any]:
    """Return the defaults of the arguments after the first few, which the sweep itself gives."""
    form = f"{what}({', '.join(own)}, **arguments)"
    if not callable(function):
        raise ConfigurationError(
            f"model: {what} should be a function {form}, got {shown(function)}"
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of Python's own, such as int
        raise ConfigurationError(
            f"model: {what} should be a function {form} whose arguments Python can tell, got "
            f"{shown(function)}"
        ) from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < len(own) or any(
        p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    ):
        raise ConfigurationError(
            f"model: {what} should be a function {form} that names each argument, got "
            f"{what}{inspect.signature(function)}"
        )
    return {p.name: p.default for p in parameters if p not in positional[: len(own)]}


def _chosen(arguments: Mapping[str, Any], *given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for values in given for name in arguments if name in values}
