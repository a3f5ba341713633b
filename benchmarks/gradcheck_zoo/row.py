"""The rows of the zoo: a function beside a wrong and a right backward pass, or a tricky case."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

Vjp = Callable[..., tuple[Any, ...]]  # (dout, *args) -> one gradient an argument


class Bug(NamedTuple):
    """f(*args) -> out with two backward passes (dout, *args) -> gradients, one of them wrong.

    `args` are NumPy arrays in float64; every function computes in the dtype that it is given.
    """

    name: str
    description: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    right: Vjp
    wrong: Vjp
    visible: bool = True  # False: right and wrong agree at these arguments
    kink: bool = False  # not differentiable at args: the right pass is one convention

    def layer(self, vjp: Vjp) -> tuple[Callable, Callable]:
        """Return the pair forward(*args) -> (out, cache), backward(dout, cache) -> gradients."""
        return keeping_arguments(self.f), lambda dout, cache: vjp(dout, *cache)

    def custom_vjp(self, vjp: Vjp) -> Callable[..., Any]:
        """Return f as a function that JAX differentiates by `vjp`."""
        return with_vjp(self.f, vjp)


class Case(NamedTuple):
    """A right gradient where naive checks fail: f(*args) -> loss, grad(*args) -> gradients.

    Arguments in float64 are meant to be cast; others stay as they are. `grad` None: f as it is.
    """

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    grad: Callable[..., tuple[Any, ...]] | None
    allowed: frozenset[str] = frozenset({"PASS"})
    settings: dict[str, Any] = {}  # noqa: RUF012  (keywords of check_grads)
    plain: bool = True  # floats in, one float out: what the other checkers can be given
    kink: bool = False  # not differentiable at args: autodiff may follow another convention

    def differentiable(self) -> Callable[..., Any]:
        """Return f as a function that JAX differentiates by `grad`."""
        grad = self.grad
        if grad is None:
            return self.f
        return with_vjp(self.f, lambda dout, *args: tuple(times(dout, g) for g in grad(*args)))


@functools.cache  # one function for an f, so that a checker can keep what it compiled
def keeping_arguments(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: (f(*args), args)


def with_vjp(f: Callable[..., Any], vjp: Vjp) -> Callable[..., Any]:
    """Return f with `vjp` as its derivative; reverse mode only."""

    @jax.custom_vjp
    def function(*args):
        return f(*args)

    function.defvjp(lambda *args: (f(*args), args), lambda args, dout: tuple(vjp(dout, *args)))
    return function


def times(dout: Any, gradient: Any) -> Any:
    return jax.tree.map(lambda g: jnp.asarray(dout, jnp.result_type(g)) * g, gradient)


def autodiff(f: Callable[..., Any]) -> Vjp:
    """Return the backward pass of f by JAX: for bugs that differentiate another function."""

    def vjp(dout, *args):
        out, pull = jax.vjp(f, *args)
        return pull(jnp.asarray(dout, out.dtype))

    return vjp


def cast(args: tuple[Any, ...], dtype: DTypeLike) -> tuple[Any, ...]:
    """Return the arguments with float64 arrays as JAX arrays of dtype, all else as it is."""

    def convert(leaf):
        is_double = isinstance(leaf, np.ndarray) and leaf.dtype == np.float64
        return jnp.asarray(leaf, dtype) if is_double else leaf

    return jax.tree.map(convert, args)


def draw(seed: int, *shapes: tuple[int, ...], margin: float = 0.0) -> tuple[np.ndarray, ...]:
    """Return normal arrays, every entry at least `margin` from 0."""
    generator = np.random.default_rng(seed)
    arrays = [generator.normal(size=shape) for shape in shapes]
    return tuple(a + margin * np.sign(a) for a in arrays)


def like(constant: Any, x: jax.Array) -> jax.Array:
    """Return a constant in the dtype of the array it is to meet."""
    return jnp.asarray(constant, x.dtype)


PASS = frozenset({"PASS"})
KINK = frozenset({"PASS", "KINK"})
UNSURE = frozenset({"PASS", "INCONCLUSIVE"})
WEIGHTS = np.array([0.7, -1.3, 0.9, 1.1, -0.6])  # of a sum: a cotangent that is not constant


def weighted_sum(x):
    return (like(np.resize(WEIGHTS, x.shape), x) * x).sum()


def weights(x):
    return like(np.resize(WEIGHTS, x.shape), x)


def elementwise(name, function, derivative, x, allowed=PASS, **more):
    def f(x):
        return weighted_sum(function(x))

    def grad(x):
        return (weights(x) * derivative(x),)

    return Case(name, f, (np.array(x, np.float64),), grad, allowed, **more)


def same(name, f, args, allowed=PASS, **more):
    """Return the case whose hand-written gradient is autodiff's: right away from kinks."""
    vjp = autodiff(f)
    return Case(name, f, args, lambda *args: vjp(1.0, *args), allowed, **more)
