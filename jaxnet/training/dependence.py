"""Which inputs of a traced function its results depend on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval


class Traced(NamedTuple):
    """What is known of a function without computing it."""

    result: Any  # its results' shapes and dtypes, in the structure that it returns
    uses: tuple[Any, ...]  # the arguments with True in the place of each leaf that counts


def trace(function: Callable[..., Any], *arguments: Any) -> Traced:
    """Trace a function and tell which leaves of its arguments any of its results depends on.

    A leaf that is read and then dropped does not count: the program is freed of all that leads to
    no result first. Nothing is computed or compiled. Errors of the function are raised as they are.

    >>> trace(lambda a, b: a * 2 + 0 * len(b), 1.0, {"x": 1.0}).uses
    (True, {'x': False})
    """
    leaves, tree = jax.tree.flatten(arguments)
    program, result = jax.make_jaxpr(
        lambda *flat: function(*jax.tree.unflatten(tree, flat)), return_shape=True
    )(*leaves)
    inner = program.jaxpr
    _, used = partial_eval.dce_jaxpr(inner, [True] * len(inner.outvars))
    return Traced(result, jax.tree.unflatten(tree, used))
