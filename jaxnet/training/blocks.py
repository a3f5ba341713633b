"""Two-layer networks of different widths side by side, without the zeros of one common width.

The hidden layer of every network is cut into blocks of BLOCK_WIDTH units, the last one filled up
with zeros, and the blocks of all networks lie side by side as networks do in a stack: one product
serves them all. A block is a two-layer network by itself in all but one thing: its scores are its
network's scores, the sum over all its blocks. Then its loss is its network's loss, and its
gradients are right. The bias of the scores is the same in every block of a network.

Between two calls of a program the networks lie as any others do, padded to the widest.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jaxnet.training.layout import NETWORKS, config_axes
from jaxnet.training.settings import Net, Structure

N = TypeVar("N", bound=Net)

# Seconds of 200 steps of 200 widths from 10 to 399 on [200, 784], compilation included, by units of
# a block: 16: 51.9; 32: 42.2; 64: 44.2; padded in four programs: 51.3.
BLOCK_WIDTH = 32

SCORES_BIAS = ("affine_2", "b")


def blocks_of(widths: Sequence[int]) -> int:
    """Return into how many blocks hidden layers of these widths are cut.

    >>> blocks_of([10, 32, 33])
    4
    """
    return sum(-(-width // BLOCK_WIDTH) for width in widths)


def block_of(net: N) -> N:
    """Return one block of a two-layer net."""
    return dataclasses.replace(net, hidden=(BLOCK_WIDTH,))


def can_be_cut(structure: Structure) -> bool:
    """Whether blocks are to one another as units are: nothing but the scores is of all of them.

    Not so the mean of a layernorm, a mask of dropout drawn for all units, the norm of a gradient;
    images that every network augments otherwise are inputs of its own.
    """
    rule = structure.rule
    return (
        structure.row.is_chain
        and len(structure.hidden) == 1
        and structure.norm in ("none", "batch")
        and structure.backward == "manual"
        and rule is not None
        and rule.keeps_zeros
        and rule.is_elementwise
        and not structure.uses_dropout
        and not structure.uses_clipping
        and not structure.uses_augmentation
    )


class Blocks(NamedTuple):
    """How P blocks make K networks of at most `units` hidden units, M blocks or fewer each."""

    owner: Int32[Array, "blocks"]  # the network
    source: Int32[Array, "blocks"]  # the place in K·M; K·M: a block of nothing, to fill up
    width: Float[Array, "blocks"]  # how many of its units are the network's
    slots: Int32[Array, "k most"]  # the blocks of each network; P: none
    units: int

    @classmethod
    def cut(cls, widths: Float[Array, "k"], units: int, blocks: int) -> "Blocks":
        """Return the blocks of networks of these widths, which may be traced."""
        most, networks = -(-units // BLOCK_WIDTH), widths.shape[0]
        each = jnp.ceil(widths / BLOCK_WIDTH).astype(jnp.int32)
        ends = jnp.cumsum(each, dtype=jnp.int32)
        first = ends - each
        index, place = jnp.arange(blocks, dtype=jnp.int32), jnp.arange(most, dtype=jnp.int32)
        owner = jnp.searchsorted(ends, index, side="right").astype(jnp.int32)
        owner = jnp.minimum(owner, networks - 1)
        number = index - first[owner]
        source = jnp.where(index < ends[-1], owner * most + number, networks * most)
        width = jnp.clip(widths[owner] - BLOCK_WIDTH * number.astype(widths.dtype), 0, BLOCK_WIDTH)
        inside = place[None, :] < each[:, None]
        slots = jnp.where(inside, first[:, None] + place[None, :], blocks)
        return cls(owner, source, width, slots, units)

    def split(self, stack: Any) -> Any:
        """Return the stack of blocks of a stack of networks."""
        most = self.slots.shape[1]

        def blocks(path, leaf, axis):
            if not _is_cut(path, leaf):
                return jnp.take(leaf, self.owner, axis=axis)
            pads = [(0, 0)] * leaf.ndim
            pads[axis + 1] = (0, most * BLOCK_WIDTH - self.units)
            before, (networks, _), after = _around(leaf, axis)
            leaf = jnp.pad(leaf, pads).reshape(*before, networks * most, BLOCK_WIDTH, *after)
            return _taken(leaf, self.source, axis)

        return jax.tree.map_with_path(blocks, stack, config_axes(stack))

    def join(self, stack: Any) -> Any:
        """Return the stack of networks of a stack of blocks: what `split` undoes."""

        def networks(path, leaf, axis):
            if not _is_cut(path, leaf):
                return self.of_networks(leaf, axis)
            before, _, after = _around(leaf, axis)
            leaf = _taken(leaf, self.slots.reshape(-1), axis)
            leaf = leaf.reshape(*before, self.slots.shape[0], -1, *after)
            return lax.slice_in_dim(leaf, 0, self.units, axis=axis + 1)

        return jax.tree.map_with_path(networks, stack, config_axes(stack))

    def of_networks(self, leaf: Array, axis: int = 0) -> Array:
        """Return what all blocks of a network have in common, once for each network."""
        return jnp.take(leaf, self.slots[:, 0], axis=axis)

    def total(self, value: Array) -> Array:
        """Return the sum of a value over the blocks of one's network; under the vmap of blocks."""
        every = _taken(lax.all_gather(value, NETWORKS), self.slots, 0)
        return every.sum(axis=1)[self.owner[lax.axis_index(NETWORKS)]]


def _is_cut(path: tuple[Any, ...], leaf: Array) -> bool:
    """Whether a leaf has an axis of hidden units: the one behind the axis of the networks."""
    names = tuple(getattr(entry, "key", None) for entry in path[-2:])
    return leaf.ndim > 1 and names != SCORES_BIAS


def _around(leaf: Array, axis: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    shape = leaf.shape
    return shape[:axis], shape[axis : axis + 2], shape[axis + 2 :]


def _taken(leaf: Array, index: Array, axis: int) -> Array:
    return jnp.take(leaf, index, axis=axis, mode="fill", fill_value=0)
