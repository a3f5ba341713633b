"""The products of matrices of a layer, in the form that is fastest for precision and device.

`jax.default_matmul_precision("BF16_BF16_F32")` asks for products of operands rounded to bfloat16
and summed in float32. XLA ignores it on CPUs, so the operands are rounded here, by name.

A product of a few thousand multiplications is one call of the CPU compiler's library for each of
the networks that train side by side. Written as a sum of outer products it is part of the loops
around it. Microseconds a network and step, 1,000 to 2,000 networks of one hidden layer, 2 cores, by
inputs – units – classes and batch:

    2 – 32 – 2, 32       3.3 as products, 1.4 as sums      its products are of 2,048
    2 – 64 – 2, 32       5.9              4.4                                4,096
    2 – 32 – 2, 128     12.1             11.4                                8,192
    2 – 128 – 2, 64     23.4             28.7                               16,384
    10 – 32 – 10, 32     4.7              6.1                               10,240
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

MIXED = "BF16_BF16_F32"
SMALL = 4096  # multiplications

_stacked = contextvars.ContextVar("stacked", default=False)


@contextlib.contextmanager
def networks_side_by_side() -> Iterator[None]:
    """Tell, while a function is traced for `jax.vmap`, that it is for many networks at once.

    A function under `vmap` sees one network, and cannot know.
    """
    token = _stacked.set(True)
    try:
        yield
    finally:
        _stacked.reset(token)


def _is_small(rows: int, inner: int, columns: int) -> bool:
    few = rows * inner * columns <= SMALL
    return few and _stacked.get() and jax.default_backend() == "cpu"


def is_mixed() -> bool:
    """Whether products are asked for in bfloat16, summed in float32."""
    return jax.config.jax_default_matmul_precision == MIXED  # pyright: ignore[reportAttributeAccessIssue]


def product(
    a: Float[Array, "rows inner"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """a·b, in the dtype of a.

    >>> with jax.default_matmul_precision(MIXED):
    ...     product(jnp.array([[1.001]]), jnp.array([[3.0]])).item()  # 1.001 rounds to 1
    3.0
    """
    if is_mixed():
        return _rounded(a, b)
    if _is_small(a.shape[0], *b.shape):
        return _sum(a[:, i, None] * b[i][None, :] for i in range(len(b)))
    return a @ b


def transposed_product(
    a: Float[Array, "inner rows"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """aᵀ·b, in the dtype of a.

    XLA's CPU products of bfloat16 and float64 have no fast form for a transposed left operand, and
    undo a transposition that they can see. GFLOP/s at [500, 3072]ᵀ·[500, 1200] on 2 cores, as it
    is / transposed before: bfloat16 130 / 515, and beside other work float64 31 / 79, float32
    143 / 137.
    """
    if is_mixed():
        return _rounded(_transposed(a.astype(jnp.bfloat16)), b)
    if _is_small(a.shape[1], *b.shape):
        return _sum(a[i][:, None] * b[i][None, :] for i in range(len(b)))
    return (a.T if a.dtype == jnp.float32 else _transposed(a)) @ b


def _transposed(a: Array) -> Array:
    return lax.optimization_barrier(a.T) if jax.default_backend() == "cpu" else a.T


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _rounded(a: Array, b: Array) -> Array:
    return jnp.matmul(
        a.astype(jnp.bfloat16),
        b.astype(jnp.bfloat16),
        precision=lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
