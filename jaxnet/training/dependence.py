"""Find the inputs on which the results of a traced function depend."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.interpreters import partial_eval


class Traced(NamedTuple):
    """The result and the inputs of a function that was traced, but not computed."""

    result: Any  # the results, as shapes and dtypes
    uses: tuple[Any, ...]  # the arguments, with True in place of each leaf that a result depends on


def trace(function: Callable[..., Any], *arguments: Any) -> Traced:
    """Trace a function and find the leaves of its arguments on which any result depends.

    Dead code is removed first, so a leaf does not count if only unused values depend on it. Nothing
    is computed or compiled. Errors of the function pass through.

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
