"""Windows that slide over images: where each lies. Convolution and pooling share this file."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxnet.errors import ConfigurationError, unknown

Shape = tuple[int, ...]
Pair = tuple[int, int]
Size = int | Pair
Padding = str | int | tuple[Pair, Pair]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Windows:
    """Windows of `size` every `stride` positions of an image `[*image]` padded by `pads`.

    Every field has one entry for each axis: height, then width. `pads` are (before, after); windows
    that would reach beyond the padded image do not exist. An instance is hashable and static: JAX
    does not see it as a leaf of a tree.
    """

    image: Pair
    size: Pair
    stride: Pair
    pads: tuple[Pair, Pair]

    @property
    def count(self) -> Pair:
        """Return how many windows there are along each axis, which is the size of the output."""
        height, width = (
            (n + sum(pads) - size) // stride + 1
            for n, size, stride, pads in zip(
                self.image, self.size, self.stride, self.pads, strict=True
            )
        )
        return height, width

    @property
    def span(self) -> Pair:
        """Return the extent of all windows' first positions along each axis, both ends included."""
        height, width = ((n - 1) * s + 1 for n, s in zip(self.count, self.stride, strict=True))
        return height, width

    def axes(self) -> Iterator[tuple[int, int, int, Pair]]:
        """Give the image, size, span and pads of each axis."""
        return zip(self.image, self.size, self.span, self.pads, strict=True)

    def at(self, x: Array, axis: int, position: int, border: float = 0.0) -> Array:
        """Return the values of x at one position of every window along axis 0, rows, or 1, columns.

        The result is [batch, height, width, channels] like x, but along this axis it has an entry
        for each window. Positions beyond the image hold `border`.
        """
        start, span = position - self.pads[axis][0], self.span[axis]
        size = x.shape[axis + 1]
        found = _pad(x, axis + 1, (-start, start + span - size, 0), border)
        return lax.slice_in_dim(found, 0, span, self.stride[axis], axis + 1)

    def spread(self, values: Sequence[Array], axis: int) -> Array:
        """Return the sum of `put` over all positions of a window, `values` one array for each."""
        apart = self.stride[axis] == self.size[axis] and self.pads[axis] == (0, 0)
        if apart and self.image[axis] == self.size[axis] * self.count[axis]:
            # Windows without overlap or gaps tile the image: there are no zeros to add.
            beside, shape = jnp.stack(values, axis + 2), values[0].shape
            return beside.reshape(*shape[: axis + 1], self.image[axis], *shape[axis + 2 :])
        return functools.reduce(
            jnp.add, [self.put(value, axis, position) for position, value in enumerate(values)]
        )

    def put(self, values: Array, axis: int, position: int) -> Array:
        """Return an image with these values at one position of every window along one axis.

        It is the transpose of `at`: the image is zero elsewhere, and values beyond it are dropped.
        """
        before, span = position - self.pads[axis][0], self.span[axis]
        after = self.image[axis] - before - span
        return _pad(values, axis + 1, (before, after, self.stride[axis] - 1))


def _pad(x: Array, axis: int, by: tuple[int, int, int], value: float = 0.0) -> Array:
    """Pad along one axis: before, after (cropped where negative), and between all positions."""
    border = [(0, 0, 0)] * x.ndim
    border[axis] = by
    return lax.pad(x, jnp.asarray(value, x.dtype), border)


def windows(layer: str, shape: Shape, size: Size, stride: Size, padding: Padding) -> Windows:
    """Return the windows over images of `shape` [height, width, channels], or ConfigurationError.

    "valid" pads nothing. "same" pads for ⌈n/stride⌉ windows along an axis of n, evenly on both
    sides with the odd row behind, as TensorFlow and JAX do. A number pads all sides by so much, two
    pairs by ((top, bottom), (left, right)).
    """
    if len(shape) != 3:
        raise ConfigurationError(
            f"{layer} expects images [batch, height, width, channels], got [batch, "
            f"{', '.join(map(str, shape))}]: reshape them, or put this layer before flatten"
        )
    image = (shape[0], shape[1])
    size, stride = pair(layer, "window", size), pair(layer, "stride", stride)
    found = Windows(image, size, stride, _pads(layer, image, size, stride, padding))
    if min(found.count) < 1:
        raise ConfigurationError(
            f"{layer}: a window of {size[0]}×{size[1]} does not fit into an image of "
            f"{image[0]}×{image[1]} with padding {padding!r}: shrink it, or pad more"
        )
    return found


def pair(layer: str, what: str, value: Any) -> Pair:
    """Return a size, given as one number or as one for each axis, or raise ConfigurationError."""
    sizes = (value, value) if isinstance(value, Integral) else value
    if (
        not isinstance(sizes, tuple)
        or len(sizes) != 2
        or any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in sizes)
    ):
        raise ConfigurationError(
            f"{layer}: {what} should be a whole number from 1 up, or two of them (height, width), "
            f"got {value!r}"
        )
    return int(sizes[0]), int(sizes[1])


def _pads(layer: str, image: Pair, size: Pair, stride: Pair, padding: Any) -> tuple[Pair, Pair]:
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise ConfigurationError(unknown(f"padding of {layer}", padding, ("same", "valid")))
        pads = [
            max((-(-n // s) - 1) * s + k - n, 0) if padding == "same" else 0
            for n, k, s in zip(image, size, stride, strict=True)
        ]
        top, left = pads[0] // 2, pads[1] // 2
        return (top, pads[0] - top), (left, pads[1] - left)
    if isinstance(padding, Integral) and not isinstance(padding, bool):
        padding = ((padding, padding),) * 2
    try:
        (top, bottom), (left, right) = padding
        numbers = [int(n) for n in (top, bottom, left, right)]
        sound = min(numbers) >= 0 and numbers == [top, bottom, left, right]
    except (TypeError, ValueError):
        numbers, sound = [], False
    if not sound:
        raise ConfigurationError(
            f"{layer}: padding should be 'same', 'valid', a whole number from 0 up, or "
            f"((top, bottom), (left, right)), got {padding!r}"
        )
    return (numbers[0], numbers[1]), (numbers[2], numbers[3])
