"""A hand-written gradient matched to the leaves, in whichever structure it was returned."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError
from jaxnet.gradcheck.function.arguments import Arguments, Leaf, parts


@dataclass(frozen=True)
class MatchedGradient:
    """A hand-written gradient by leaf: an array, None for a zero, or SKIPPED."""

    entries: list[Any]
    complaints: dict[int, str]  # leaf number -> why its gradient cannot be compared
    extra: list[str]  # paths that stand in the gradient, but not in the arguments
    notes: list[str]


def match(arguments: Arguments, gradient: Any, *, first_few: bool) -> MatchedGradient:
    """Find the gradient of each leaf in what a hand-written function returned.

    A tuple has one entry per argument, or one per argument in argnums, or one per argument with
    floating-point leaves; `first_few` allows fewer. Containers may differ in type, not in names.
    """
    by_argument = _by_argument(arguments, gradient, first_few)
    entries: list[Any] = [None] * len(arguments.leaves)
    complaints, known, notes = {}, set(), []
    for argument, tree in by_argument.items():
        prefix = arguments.names[argument]
        flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
        by_path = {"/".join([prefix, *parts(path)]): value for path, value in flat}
        known |= set(by_path)
        for number, leaf in enumerate(arguments.leaves):
            if leaf.argument != argument:
                continue
            if leaf.path in by_path:
                entries[number], text = _entry(leaf, by_path[leaf.path])
            elif any(v is None and leaf.path.startswith(p + "/") for p, v in by_path.items()):
                text = None
            else:
                near = ", ".join(list(by_path)[:5]) or "nothing"
                text = f"no gradient of {leaf.path} was returned (got {near}): return one"
            if text is not None:
                complaints[number] = text
    missing = {leaf.argument for leaf in arguments.leaves} - set(by_argument)
    for argument in sorted(missing):
        notes.append(f"no gradient given for {arguments.names[argument]}: not checked")
    extra = sorted(
        path
        for path in known - set(arguments.paths)
        if not any(p.startswith(path + "/") for p in arguments.paths)
    )
    skipped = [n for n, leaf in enumerate(arguments.leaves) if leaf.argument in missing]
    for number in skipped:
        entries[number] = SKIPPED
    return MatchedGradient(entries, complaints, extra, notes)


class _Skipped:
    """The gradient of a leaf that was left out on purpose."""


SKIPPED = _Skipped()


def _entry(leaf: Leaf, value: Any) -> tuple[Any, str | None]:
    if value is None:
        return (SKIPPED if isinstance(leaf.value, float) else None), None
    dtype = getattr(value, "dtype", None)
    if dtype == jax.dtypes.float0:
        return None, f"a float0 gradient was returned: return floats of shape {leaf.shape}"
    if dtype is None:
        value = np.asarray(value)
        dtype = value.dtype
    if not jnp.issubdtype(dtype, jnp.floating) and not isinstance(value, (int, float)):
        what = "return its real part" if dtype.kind == "c" else "convert with astype"
        return None, f"gradient of dtype {dtype}, expected floats: {what}"
    if np.shape(value) != leaf.shape:
        return None, f"gradient of shape {np.shape(value)}, expected {leaf.shape}"
    return value, None


def _by_argument(arguments: Arguments, gradient: Any, first_few: bool) -> dict[int, Any]:
    """Return the gradient tree of each argument, by number."""
    count = len(arguments.names)
    floating = sorted({leaf.argument for leaf in arguments.leaves})
    if arguments.selected_one or (len(floating) == 1 and not _is_tuple_for(arguments, gradient)):
        return {floating[0]: gradient}
    if not isinstance(gradient, (tuple, list)):
        if first_few:
            gradient = (gradient,)
        else:
            raise ConfigurationError(
                f"the gradient expects a tuple with one entry per argument "
                f"({', '.join(arguments.names)}), got {type(gradient).__name__}: return a tuple, "
                f"or name the one argument it belongs to with argnums="
            )
    gradient = tuple(gradient)
    for numbers in (range(count), arguments.argnums, floating):
        if len(gradient) == len(numbers):
            pairs = dict(zip(numbers, gradient, strict=True))
            return {n: g for n, g in pairs.items() if n in floating}
    if first_few and len(gradient) < count:
        return {n: g for n, g in enumerate(gradient) if n in floating}
    raise ConfigurationError(
        f"the gradient expects {count} entries, one per argument ({', '.join(arguments.names)}), "
        f"got {len(gradient)}: return None for arguments without a gradient, or give argnums="
    )


def _is_tuple_for(arguments: Arguments, gradient: Any) -> bool:
    """Whether a sole argument's gradient is wrapped in a tuple with one entry per argument."""
    if not isinstance(gradient, (tuple, list)) or hasattr(gradient, "_fields"):
        return False
    if len(gradient) not in (1, len(arguments.names), len(arguments.argnums)):
        return False
    own = {leaf.path for leaf in arguments.leaves}
    prefix = arguments.names[arguments.leaves[0].argument]
    flat, _ = jax.tree_util.tree_flatten_with_path(gradient, is_leaf=lambda x: x is None)
    bare = {"/".join([prefix, *parts(path)]) for path, _ in flat}
    return not own <= bare  # read without the tuple it names every leaf: then there is no tuple
