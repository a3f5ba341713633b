"""How K networks of one structure lie in memory: where the configuration axis of each leaf is.

The axis is the first of every leaf but one. All K networks of a stack see the same minibatch
x [B, D], so their first products x·W₁ can be one product [B, D]·[D, K·H], if W₁ is held as
[D, K, H]: the configuration axis second. Held as [K, D, H], the compiler would copy all weights
into that order at every step. Measured on 2 cores for K, B, D, H = 48, 200, 3072, 80: 270
against 238 GFLOP/s for the whole training step. Optimizer state of the shape of W₁ follows it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.layout import Layout as MemoryOrder, with_layout_constraint
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnet.errors import ConfigurationError
from jaxnet.kernels.form import current_form

SHARED_INPUT = ("affine_1", "w")

NETWORKS = "networks"
"""The name of the configuration axis within the function of one network, side by side."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How K networks of one structure lie side by side.

    The networks take `size` slots, divided among the first so many `devices` of the process.
    `padded`: hidden layers are held wider than they are, filled up with zeros, so that several
    widths train in one program. `blocks`: how many blocks the hidden layers are cut into (see
    `jaxnet.training.blocks`); 0 leaves them whole. `shared`: all networks have one seed, and see
    the same minibatches.
    """

    size: int = 1
    padded: bool = False
    blocks: int = 0
    shared: bool = True
    devices: int = 1


ALONE = Layout()


def config_axes(stack: Any) -> Any:
    """Return the configuration axis of each leaf of a stack, the `in_axes` of `jax.vmap`."""

    def axis(path, leaf):
        names = tuple(getattr(entry, "key", None) for entry in path[-2:])
        return 1 if names == SHARED_INPUT and leaf.ndim == 3 else 0

    return jax.tree.map_with_path(axis, stack)


def to_stack(leading: Any) -> Any:
    """Return the stack of a tree that has the configuration axis first in every leaf."""
    return jax.tree.map(
        lambda leaf, axis: jnp.moveaxis(leaf, 0, axis), leading, config_axes(leading)
    )


def in_memory_order(stack: Any) -> Any:
    """Return the stack, every leaf laid out as its axes are written: to ask for within a loop.

    The CPU compiler may hold W₁ of a loop as [K, D, H] all the same, where a rule with memory reads
    it three times, and then copies it for each product. Milliseconds a step of Adam on 2 cores,
    left to it / asked: 16 of 3072-160-10 at batch 200: 62.7 / 53.9; 16 of 3072-512-256-256-10 at
    256: 253 / 223; 12 of 3072-100-10 at 500 in mixed precision: 23.9 / 21.4. Of plain SGD: no
    change.
    """
    if not current_form().on_cpu:
        return stack

    def order(leaf, axis):
        written = MemoryOrder(major_to_minor=tuple(range(leaf.ndim)))
        return leaf if axis == 0 else with_layout_constraint(leaf, written)

    return jax.tree.map(order, stack, config_axes(stack))


def over_networks(
    function: Callable[..., Any],
    in_axes: tuple[Any, ...],
    out_axes: Any,
    *,
    side_by_side: bool,
) -> Callable[..., Any]:
    """Return the function of one network as a function of K: side by side, `jax.vmap`, or in turn.

    In turn each network costs what it costs alone, where a batched operation would cost more:
    `jaxnet.kernels.form.Form.side_by_side` says which. The axes are as for `jax.vmap`, an axis or
    a tree of axes an argument; None: the same for all.
    """
    if side_by_side:
        return jax.vmap(function, in_axes=in_axes, out_axes=out_axes, axis_name=NETWORKS)

    def mapped(*arguments):
        own = [i for i, axes in enumerate(in_axes) if axes is not None]

        # What a loop carries lies in memory; a slice that it takes the compiler would take anew
        # wherever it is used, in the loops over pixels: 12 % of a step of `inception_resnet`.
        def one(current, following):
            given = list(arguments)
            for i, member in zip(own, current, strict=True):
                given[i] = member
            return following, function(*given)

        members = [_moved(arguments[i], in_axes[i], to=0) for i in own]
        first = jax.tree.map(lambda leaf: leaf[0], members)
        _, outs = lax.scan(one, first, jax.tree.map(lambda leaf: jnp.roll(leaf, -1, 0), members))
        if isinstance(out_axes, tuple):
            return tuple(_moved(out, axes) for out, axes in zip(outs, out_axes, strict=True))
        return _moved(outs, out_axes)

    return mapped


def _moved(tree: Any, axes: Any, to: int | None = None) -> Any:
    """Move the configuration axes of a tree to the front (`to` 0), or from there to `axes`."""

    def move(leaf, axis):
        return jnp.moveaxis(leaf, axis, to) if to is not None else jnp.moveaxis(leaf, 0, axis)

    if isinstance(axes, int):
        return jax.tree.map(lambda leaf: move(leaf, axes), tree)
    return jax.tree.map(move, tree, axes)


def over_devices(
    function: Callable[..., Any], devices: int, in_axes: Any, out_axes: Any
) -> Callable[..., Any]:
    """Return the function of K networks with K / D of them on each of D devices.

    Networks know nothing of one another, so every device runs the function on its own share, and
    nothing is communicated. The axes are the configuration axes of arguments and results, an axis
    or a tree of axes each; None: the same on every device. K is a multiple of D.
    """
    if devices < 2:
        return function
    return jax.shard_map(
        function,
        mesh=_mesh(devices),
        in_specs=_specs(in_axes),
        out_specs=_specs(out_axes),
        check_vma=False,  # loops over shares of networks: there is nothing to check
    )


def _specs(axes: Any) -> Any:
    return jax.tree.map(_spec, axes, is_leaf=lambda axis: axis is None)


def _spec(axis: int | None) -> PartitionSpec:
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, "config")


def _mesh(devices: int) -> Mesh:
    return Mesh(np.asarray(jax.local_devices()[:devices]), ("config",))


def put_on(devices: int, tree: Any, axes: Any = None) -> Any:
    """Return the arrays on the first so many devices, divided along `axes` as `over_devices` has.

    With axes None every device has all of it. Fewer than two devices: as they are, on the first.
    """
    if devices < 2:
        return jax.tree.map(jnp.asarray, tree)
    specs = jax.tree.broadcast(_specs(axes), tree)
    mesh = _mesh(devices)
    return jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec)), tree, specs)


def take_member(stack: Any, index: int) -> Any:
    """Return network number `index` of a stack."""
    return jax.tree.map(lambda leaf, axis: leaf.take(index, axis=axis), stack, config_axes(stack))


def crop(tree: Any, like: Any) -> Any:
    """Return the leading block of each leaf, in the shape of its counterpart in `like`.

    It takes a network out of arrays padded to a larger width; `like` holds arrays, or shapes from
    `jax.eval_shape`.

    >>> padded = {"w": jnp.ones((4, 5)), "b": jnp.ones(5)}
    >>> like = {"w": jnp.ones((4, 2)), "b": jnp.ones(2)}
    >>> jax.tree.map(jnp.shape, crop(padded, like))
    {'b': (2,), 'w': (4, 2)}
    """

    def block(path, leaf, target):
        if leaf.ndim != target.ndim or any(map(int.__lt__, leaf.shape, target.shape)):
            raise ConfigurationError(
                f"crop expects leaves of at least the shapes of `like`, got {leaf.shape} for "
                f"{target.shape} at {jax.tree_util.keystr(path)}: the first argument is the larger"
            )
        return leaf[tuple(map(slice, target.shape))]

    return jax.tree.map_with_path(block, tree, like)
