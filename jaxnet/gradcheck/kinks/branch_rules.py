"""Rules of the branching primitives: which side wins at each element, and whether operands tie.

A rule maps (params, operands, results) to (codes, tied): uint32 codes of any shape that change
exactly when another side wins, and one boolean, whether some element lies on the boundary.
"""

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, UInt32

from jaxnet.gradcheck.jaxpr.equations import programs_in, types_of

Rule = Callable[
    [Mapping[str, Any], Sequence[Array], Sequence[Array]], tuple[UInt32[Array, "..."], Array]
]


def pack(codes: UInt32[Array, "..."], tied: Bool[Array, ""]) -> UInt32[Array, ""]:
    """Hash the codes of one site, with the tie in the lowest bit.

    Σ code_i·w_i with odd weights w_i that depend on the position: one element that changes always
    changes the hash, several at once cancel with probability 2⁻³¹.
    """
    flat = codes.reshape(-1)
    weights = _scramble(lax.iota(jnp.uint32, flat.size)) | 1
    winners = jnp.sum(flat * weights, dtype=jnp.uint32)
    return (winners << 1) | tied.astype(jnp.uint32)


def fold(packed: UInt32[Array, "steps sites"]) -> UInt32[Array, " sites"]:
    """Combine the packed codes of the steps of a loop, site by site, order included."""
    weights = _scramble(lax.iota(jnp.uint32, len(packed)))[:, None] | 1
    # +1: a step more or less counts, though nothing but side 0 ever won.
    winners = jnp.sum(((packed >> 1) + 1) * weights, axis=0, dtype=jnp.uint32)
    return (winners << 1) | (packed & 1).max(axis=0, initial=0)


def fold_next(
    total: UInt32[Array, " sites"], packed: UInt32[Array, " sites"]
) -> UInt32[Array, " sites"]:
    """Add the packed codes of one more step to the total of the steps before."""
    winners = _scramble((total >> 1) + np.uint32(0x9E3779B9)) + (packed >> 1)
    return (winners << 1) | ((total | packed) & 1)


def _scramble(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    x = (x + np.uint32(0x7F4A7C15)) * np.uint32(0x9E3779B1)
    x = (x ^ (x >> 15)) * np.uint32(0x85EBCA6B)
    return x ^ (x >> 13)


def _code(array: Array) -> UInt32[Array, "..."]:
    """Return the elements as uint32: integers wrapped, floats by their bits."""
    if jnp.issubdtype(array.dtype, jnp.inexact):
        bits = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}[array.dtype.itemsize]
        array = lax.bitcast_convert_type(array, bits)
    if array.dtype.itemsize == 8:
        array = array ^ (array >> 32)
    return array.astype(jnp.uint32)


def _same_shape(*operands: Array) -> tuple[Array, ...]:
    shape = jnp.broadcast_shapes(*(operand.shape for operand in operands))
    return tuple(jnp.broadcast_to(operand, shape) for operand in operands)


def _order(a: Array, b: Array) -> tuple[UInt32[Array, "..."], Array]:
    """Return code 0 where a = b, 1 where a > b, 2 where a < b, and whether any are equal."""
    a, b = _same_shape(a, b)
    if jnp.iscomplexobj(a):
        return _code(a == b), (a == b).any()
    return _code(a > b) + 2 * _code(a < b), (a == b).any()


def _extreme(params, operands, results):
    return _order(*operands)


def _compare(params, operands, results):
    a, b = _same_shape(*operands)
    return _code(results[0]), (a == b).any()


def _sign(params, operands, results):
    (x,) = operands
    return _order(x, jnp.zeros_like(x))


def _clamp(params, operands, results):
    low, x, high = operands
    (below, at_low), (above, at_high) = _order(x, low), _order(x, high)
    return below + 3 * above, at_low | at_high


def _select(params, operands, results):
    return _code(operands[0]), jnp.array(False)


def _round(params, operands, results):
    (x,), (y,) = operands, results
    return _code(y), (abs(x - jnp.floor(x)) == 0.5).any()


def _floor(params, operands, results):
    return _code(results[0]), (operands[0] == results[0]).any()


def _convert(params, operands, results):
    """Return the results: float to integer jumps at every integer but 0, float to boolean at 0."""
    (x,), (y,) = operands, results
    if y.dtype == bool:
        return _code(y), (x == 0).any()
    return _code(y), ((x == y.astype(x.dtype)) & (y != 0)).any()


def _remainder(params, operands, results):
    a, b = _same_shape(*operands)
    (rest,) = results
    return _code(jnp.round((a - rest) / b) + 0), ((rest == 0) & (a != 0)).any()


def _reduce_extreme(params, operands, results):
    (x,), (y,) = operands, results
    won = x == jnp.expand_dims(y, params["axes"])
    return _code(won), won.sum(dtype=jnp.int32) > y.size


def _arg_extreme(extreme):
    def rule(params, operands, results):
        return _reduce_extreme(params, operands, [extreme(operands[0], axis=params["axes"])])

    return rule


def _running_extreme(params, operands, results):
    (x,), (y,) = operands, results
    axis, size = params["axis"], y.shape[params["axis"]]
    won = x == y
    now, before = (0, 1) if params["reverse"] else (1, 0)

    def part(array, start):
        return lax.slice_in_dim(array, start, start + max(size - 1, 0), axis=axis)

    return _code(won), (part(won, now) & (part(y, now) == part(y, before))).any()


def _top_k(params, operands, results):
    (x,), (values, indices) = operands, results
    axis = params.get("axis", -1)
    x, values = jnp.moveaxis(x, axis, -1), jnp.moveaxis(values, axis, -1)
    at_least = (x >= values.min(axis=-1, keepdims=True)).sum(dtype=jnp.int32)
    tied = (values[..., 1:] == values[..., :-1]).any() | (at_least > values.size)
    return _code(indices), tied


def _approximate_top_k(params, operands, results):
    return _code(results[1]), jnp.array(False)


def _window_extreme(params, operands, results):
    """Compare each position of the window with its winner, in one pass for each position."""
    (x,), (y,) = operands, results
    window, strides = params["window_dimensions"], params["window_strides"]
    if np.prod(window) > 1024:
        raise NotImplementedError(f"a window of {np.prod(window)} positions")
    inside = jnp.ones(x.shape, bool)
    padding = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["base_dilation"], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), padding)
    inside = lax.pad(inside, jnp.array(False), padding)
    # The patches of all windows at once would take as much memory as the window is large.
    codes, winners = jnp.zeros(y.shape, jnp.uint32), jnp.zeros(y.shape, jnp.int32)
    for position, offset in enumerate(itertools.product(*map(range, window))):
        start = [o * d for o, d in zip(offset, params["window_dilation"], strict=True)]
        stop = [s + (n - 1) * k + 1 for s, n, k in zip(start, y.shape, strides, strict=True)]
        cut = functools.partial(lax.slice, start_indices=start, limit_indices=stop, strides=strides)
        won = cut(inside) & (cut(x) == y)
        codes += _code(won) * np.uint32((position * 0x9E3779B1 + 1) % 2**32)
        winners += won.astype(jnp.int32)
    return codes, (winners > 1).any()


COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne", "lt_to", "le_to", "eq_to")

RULES: dict[str, Rule] = {
    **dict.fromkeys(["max", "min"], _extreme),
    **dict.fromkeys(COMPARISONS, _compare),
    **dict.fromkeys(["abs", "sign"], _sign),
    **dict.fromkeys(["floor", "ceil"], _floor),
    **dict.fromkeys(["reduce_max", "reduce_min"], _reduce_extreme),
    **dict.fromkeys(["cummax", "cummin"], _running_extreme),
    **dict.fromkeys(["reduce_window_max", "reduce_window_min"], _window_extreme),
    "argmax": _arg_extreme(jnp.max),
    "argmin": _arg_extreme(jnp.min),
    "clamp": _clamp,
    "select_n": _select,
    "round": _round,
    "convert_element_type": _convert,
    "rem": _remainder,
    "top_k": _top_k,
    "approx_top_k": _approximate_top_k,
}
"""Primitive name -> rule; `sort` stands apart, since its rule replaces the equation."""

CONTINUOUS = {name for name in RULES if name.endswith(("max", "min"))} - {"argmax", "argmin"}
CONTINUOUS |= {"abs", "clamp"}
"""Under `stop_gradient` these are the shift of a softmax, which makes no kink: no sites then."""

OPAQUE = {
    *("pallas_call", "tpu_custom_call", "triton_kernel_call", "mosaic_gpu", "ffi_call"),
    *("pure_callback", "io_callback", "call_hi_primitive", "bitcast_convert_type", "reduce"),
    *("reduce_window", "scatter_max", "scatter_min", "select_and_scatter"),
    *("select_and_scatter_add", "select_and_gather_add", "pmax", "pmin"),
}
"""Primitives that may hide a branch which no rule reads."""


def sort(params: Mapping[str, Any], operands: Sequence[Array]):
    """Sort with the positions as one more operand; return (results, codes, tied).

    The permutation is the code. A rule that only sees the results could not tell equal keys apart.
    """
    axis, keys = params["dimension"], params["num_keys"]
    positions = lax.broadcasted_iota(jnp.uint32, operands[0].shape, axis)
    *results, moved = lax.sort(
        (*operands, positions), dimension=axis, is_stable=params["is_stable"], num_keys=keys
    )
    size = operands[0].shape[axis]
    same = jnp.array(True)
    for key in results[:keys]:
        after = lax.slice_in_dim(key, min(1, size), size, axis=axis)
        same = same & (after == lax.slice_in_dim(key, 0, max(size - 1, 0), axis=axis))
    return results, moved, same.any()


def branches(name: str, operands: Sequence[Any], results: Sequence[Any]) -> bool:
    """Whether a primitive on these operands (anything with a dtype) chooses by a float."""
    if name == "convert_element_type":
        return _is_float(operands[0]) and not jnp.issubdtype(results[0].dtype, jnp.inexact)
    if name == "select_n":
        return True
    return (name in RULES or name == "sort") and any(map(_is_float, operands))


def may_branch(program) -> bool:
    """Whether a program holds a branch, or what may hide one."""
    return any(
        eqn.primitive.name in OPAQUE
        or branches(eqn.primitive.name, types_of(eqn.invars), types_of(eqn.outvars))
        or any(map(may_branch, programs_in(eqn.params)))
        for eqn in program.eqns
    )


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.inexact)
