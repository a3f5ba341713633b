"""Matrix products and the sums of a layer, in the form that precision and platform ask for.

Mixed precision asks for products whose operands are rounded to bfloat16 and which are summed in
float32. XLA ignores that request on CPUs, so the operands are rounded here, by name.

A product of a few thousand multiplications is one call of the CPU compiler's library for each of
the networks that train side by side. Written as a sum of outer products it is part of the loops
around it. Microseconds per network and step, for 1,000 to 2,000 networks of one hidden layer on 2
cores, by inputs – units – classes and batch:

    2 – 32 – 2, 32       3.3 as products, 1.4 as sums      its products are of 2,048
    2 – 64 – 2, 32       5.9              4.4                                4,096
    2 – 32 – 2, 128     12.1             11.4                                8,192
    2 – 128 – 2, 64     23.4             28.7                               16,384
    10 – 32 – 10, 32     4.7              6.1                               10,240

The result of a floating-point sum depends on its order, and a library chooses the order by the
shape of the operands: a network's numbers then depend, in their last bits, on what trains beside
it. `Form.batch_invariant` asks for sums that have one order. Two-layer networks trained by plain
descent or momentum then have the same bits on one, two and three CPU devices, and in mixed
precision on any number of threads. (In float32 a product with a transposed operand is summed in
parts, one for each thread.) Norms, dropout, Adam and deeper networks contain other sums, too.
"""

import functools
from collections.abc import Iterable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnet.kernels.form import current_form

# Multiplications up to which a product is written as a sum of outer products.
MAX_UNROLLED_MULTIPLICATIONS = 4096
# Rows, columns and terms from which on mixed precision rounds to bfloat16.
MIN_BF16_SIZE = 16
# Terms up to which a sum is written out as additions.
MAX_UNROLLED_TERMS = 32
# Columns into which one long column is folded before it is summed.
FOLDED_COLUMNS = 16


def _is_unrolled(rows: int, inner: int, columns: int) -> bool:
    form = current_form()
    is_small = rows * inner * columns <= MAX_UNROLLED_MULTIPLICATIONS
    return is_small and form.side_by_side and form.on_cpu


def product(
    a: Float[Array, "rows inner"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """a·b, in the dtype of a.

    Mixed precision rounds the operands of wide products. Products of fewer than 16 rows, columns
    or terms gain nothing from rounding, and XLA's CPU compiler would round them or not depending on
    the operations around them.

    >>> from jaxnet.kernels.form import changed_form
    >>> with changed_form(precision="mixed"):
    ...     a = jnp.full((16, 16), 1.001)  # rounds to 1
    ...     product(a, a)[0, 0].item(), round(product(a[:, :1], a[:1])[0, 0].item(), 6)
    (16.0, 1.002001)
    """
    if current_form().is_mixed:
        return _mixed(a, b)
    if _is_unrolled(a.shape[0], *b.shape):
        return _sum(a[:, i, None] * b[i][None, :] for i in range(len(b)))
    return a @ b


def product_of_channels(
    x: Float[Array, "*positions inputs"], w: Float[Array, "inputs outputs"]
) -> Float[Array, "*positions outputs"]:
    """Σ_i x_…i w_io: the channels at every position of an image are multiplied by one matrix."""
    return product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[1])


def product_of_inputs(
    x: Float[Array, "batch inputs"], w: Float[Array, "inputs outputs"]
) -> Float[Array, "batch outputs"]:
    """x·w, where networks side by side have the same x: one product as wide as all of them.

    XLA's CPU library has kernels of 16, 32 and 64 columns and takes the widest that divides the
    number of columns (rounded up to 16). Each kernel sums float32 in its own order. A product with
    a transposed left operand goes to another library, which has one order; to transpose x takes 1
    to 5 % of a step of plain descent.
    """
    form = current_form()
    if form.is_mixed or x.dtype != jnp.float32 or not form.has_ordered_sums:
        return product(x, w)
    return lax.dot_general(_transposed(x), w, (((0,), (0,)), ((), ())))


def sum_of_classes(x: Float[Array, "batch classes"]) -> Float[Array, "batch 1"]:
    """Σ_c x_nc.

    XLA's CPU library sums short rows in an order that depends on how many rows there are. Written
    as additions, the sum becomes part of the loops around it, which is no slower.
    """
    if x.shape[1] > MAX_UNROLLED_TERMS or not current_form().has_ordered_sums:
        return x.sum(axis=1, keepdims=True)
    return _sum(x[:, c, None] for c in range(x.shape[1]))


def sum_of_rows(x: Float[Array, "batch outputs"]) -> Float[Array, " outputs"]:
    """Σ_n x_nk: written as a product, the sum has one order.

    XLA's CPU compiler sums in parts of 32 rows where a program is divided among devices, and only
    there.
    """
    if not current_form().has_ordered_sums:
        return x.sum(axis=0)
    return jnp.matmul(jnp.ones(len(x), x.dtype), x, precision="highest")


def sum_of_all(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Σ x.

    A matrix with long rows is summed by rows first, which XLA's CPU library does in one order,
    mostly. One product for all of it would take a copy of x.
    """
    if x.ndim != 2 or not current_form().has_ordered_sums:
        return x.sum()
    rows, columns = x.shape
    if columns >= MAX_UNROLLED_TERMS:
        folded = FOLDED_COLUMNS if rows % FOLDED_COLUMNS == 0 else 1
        x = x.sum(axis=1).reshape(-1, folded)
    return sum_of_classes(sum_of_rows(x)[None, :])[0, 0]


def transposed_product(
    a: Float[Array, "inner rows"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """aᵀ·b, in the dtype of a.

    XLA's CPU products of bfloat16 and float64 have no fast form for a transposed left operand, and
    the compiler undoes a transposition that it can see. GFLOP/s at [500, 3072]ᵀ·[500, 1200] on 2
    cores, as it is / transposed before: bfloat16 130 / 515, and beside other work float64 31 / 79,
    float32 143 / 137.
    """
    if current_form().is_mixed:
        if min(a.shape[1], *b.shape) >= MIN_BF16_SIZE:
            a = a.astype(jnp.bfloat16)
        # Without the transposition a narrow product in float32 is summed in parts, one a thread.
        return _mixed(_transposed(a), b)
    if _is_unrolled(a.shape[1], *b.shape):
        return _sum(a[i][:, None] * b[i][None, :] for i in range(len(b)))
    return (a.T if a.dtype == jnp.float32 else _transposed(a)) @ b


def _transposed(a: Array) -> Array:
    # The barrier hides the transposition from the CPU compiler, which would undo it.
    return lax.optimization_barrier(a.T) if current_form().on_cpu else a.T


def _sum(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _mixed(a: Array, b: Array) -> Array:
    if min(len(a), *b.shape) < MIN_BF16_SIZE:
        return jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32), precision="highest")
    return jnp.matmul(
        a.astype(jnp.bfloat16),
        b.astype(jnp.bfloat16),
        precision=lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
