"""The products of matrices and the sums of a layer, in the form that precision and device ask for.

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

Sums of floats depend on their order, and the order of a library's on the shape of its operands. So
that a network's numbers do not depend on those beside it, wide networks side by side ask for sums
that are alike (`networks_side_by_side`). Two-layer networks by plain descent or momentum then have
the same bits on one, two and three devices, in mixed precision on any number of threads, too; a
product of float32 with a transposed operand is summed in parts by the number of threads. Norms,
dropout, Adam and deeper networks have other sums, too. It costs 3 to 5 % of a step of wide
networks, 10 % with 50 units. It would double one of tiny networks, which do not ask.
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
NARROW = 16  # rows, columns or terms, below which mixed precision rounds nothing
FOLDS = 16  # columns that one column is laid out in, to be summed
FEW_CLASSES = 32  # so many additions are written out

_stacked = contextvars.ContextVar("stacked", default=False)
_alike = contextvars.ContextVar("alike", default=False)


@contextlib.contextmanager
def networks_side_by_side(*, alike: bool = False) -> Iterator[None]:
    """Tell, while a function is traced for `jax.vmap`, that it is for many networks at once.

    A function under `vmap` sees one network, and cannot know. `alike` asks for sums whose order
    does not depend on how many networks there are, nor on devices.
    """
    tokens = _stacked.set(True), _alike.set(alike)
    try:
        yield
    finally:
        _stacked.reset(tokens[0])
        _alike.reset(tokens[1])


def _is_alike() -> bool:
    return _alike.get() and jax.default_backend() == "cpu"


def _is_small(rows: int, inner: int, columns: int) -> bool:
    return rows * inner * columns <= SMALL and _stacked.get() and jax.default_backend() == "cpu"


def is_mixed() -> bool:
    """Whether wide products are asked for in bfloat16, summed in float32."""
    return jax.config.jax_default_matmul_precision == MIXED  # pyright: ignore[reportAttributeAccessIssue]


def product(
    a: Float[Array, "rows inner"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """a·b, in the dtype of a.

    Mixed precision rounds the operands of wide products. Those of fewer than 16 rows, columns or
    terms gain nothing from it, and XLA's CPU compiler rounds them or not by what is around them.

    >>> with jax.default_matmul_precision(MIXED):
    ...     a = jnp.full((16, 16), 1.001)  # rounds to 1
    ...     product(a, a)[0, 0].item(), round(product(a[:, :1], a[:1])[0, 0].item(), 6)
    (16.0, 1.002001)
    """
    if is_mixed():
        return _mixed(a, b)
    if _is_small(a.shape[0], *b.shape):
        return _sum(a[:, i, None] * b[i][None, :] for i in range(len(b)))
    return a @ b


def product_of_channels(
    x: Float[Array, "*places inputs"], w: Float[Array, "inputs outputs"]
) -> Float[Array, "*places outputs"]:
    """Σ_i x_…i w_io: every place of an image times the same matrix."""
    return product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[1])


def product_of_inputs(
    x: Float[Array, "batch inputs"], w: Float[Array, "inputs outputs"]
) -> Float[Array, "batch outputs"]:
    """x·w, where networks side by side have the same x: one product as wide as all of them.

    XLA's CPU library has kernels of 16, 32 and 64 columns, takes the widest that divides their
    number (rounded up to 16), and each of them sums float32 in an order of its own. The library
    that gets what has a transposed left operand has one order. Transposing x takes 1 to 5 % of a
    step of plain descent.
    """
    if is_mixed() or x.dtype != jnp.float32 or not _is_alike():
        return product(x, w)
    return lax.dot_general(_transposed(x), w, (((0,), (0,)), ((), ())))


def sum_of_classes(x: Float[Array, "batch classes"]) -> Float[Array, "batch 1"]:
    """Σ_c x_nc: XLA's CPU library sums short rows in an order that depends on how many there are.

    Written as additions they are part of the loops around them, which is no slower.
    """
    if x.shape[1] > FEW_CLASSES or not _is_alike():
        return x.sum(axis=1, keepdims=True)
    return _sum(x[:, c, None] for c in range(x.shape[1]))


def sum_of_rows(x: Float[Array, "batch outputs"]) -> Float[Array, " outputs"]:
    """Σ_n x_nk: as a product it has one order.

    XLA's CPU compiler sums in parts of 32 rows where it divides a program among devices, and only
    there.
    """
    if not _is_alike():
        return x.sum(axis=0)
    return jnp.matmul(jnp.ones(len(x), x.dtype), x, precision="highest")


def sum_of_all(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Σ x; of matrices first by rows, if they are long: XLA's CPU library sums them alike, mostly.

    All as one product would take a copy of x.
    """
    if x.ndim != 2 or not _is_alike():
        return x.sum()
    rows, columns = x.shape
    if columns >= FEW_CLASSES:
        x = x.sum(axis=1).reshape(-1, FOLDS if rows % FOLDS == 0 else 1)
    return sum_of_classes(sum_of_rows(x)[None, :])[0, 0]


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
        if min(a.shape[1], *b.shape) >= NARROW:
            a = a.astype(jnp.bfloat16)
        # As it is, a narrow product in float32 is summed in as many parts as there are threads.
        return _mixed(_transposed(a), b)
    if _is_small(a.shape[1], *b.shape):
        return _sum(a[i][:, None] * b[i][None, :] for i in range(len(b)))
    return (a.T if a.dtype == jnp.float32 else _transposed(a)) @ b


def _transposed(a: Array) -> Array:
    return lax.optimization_barrier(a.T) if jax.default_backend() == "cpu" else a.T


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _mixed(a: Array, b: Array) -> Array:
    if min(len(a), *b.shape) < NARROW:
        return jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision="highest")
    return jnp.matmul(
        a.astype(jnp.bfloat16),
        b.astype(jnp.bfloat16),
        precision=lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
