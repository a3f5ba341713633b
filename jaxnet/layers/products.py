"""The products of matrices of a layer, in the form that is fastest for precision and device.

`jax.default_matmul_precision("BF16_BF16_F32")` asks for products of operands rounded to bfloat16
and summed in float32. XLA ignores it on CPUs, so the operands are rounded here, by name.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

MIXED = "BF16_BF16_F32"


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
    return _rounded(a, b) if is_mixed() else a @ b


def transposed_product(
    a: Float[Array, "inner rows"], b: Float[Array, "inner columns"]
) -> Float[Array, "rows columns"]:
    """aᵀ·b, in the dtype of a.

    XLA's CPU product of bfloat16 has no fast form for a transposed left operand (130 against 515
    GFLOP/s at [500, 3072]ᵀ·[500, 1200] on 2 cores), and undoes a transposition that it can see.
    """
    if not is_mixed():
        return a.T @ b
    if jax.default_backend() == "cpu":
        return _rounded(lax.optimization_barrier(a.astype(jnp.bfloat16).T), b)
    return _rounded(a.T, b)


def _rounded(a: Array, b: Array) -> Array:
    return jnp.matmul(
        a.astype(jnp.bfloat16),
        b.astype(jnp.bfloat16),
        precision=lax.Precision.DEFAULT,
        preferred_element_type=jnp.float32,
    )
