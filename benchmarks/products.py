"""Matrix products and copies of memory, in every library that is there: the machine's limits."""

import importlib.util
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Product = Callable[[], object]  # makes one; what it returns is to be waited for


def products(
    rows: int, inner: int, columns: int, *, transposed: bool = False
) -> dict[str, Product]:
    """Return x·w, [rows, inner]·[inner, columns], by "LIBRARY, DTYPE"; all accumulate in float32.

    `transposed`: xᵀ·d instead, [inner, rows]·[rows, columns], with x as before: the gradient by
    the weights. XLA's bfloat16 product leaves float32, PyTorch's bfloat16.
    """
    x = np.ones((rows, inner), np.float32)
    w = np.ones((rows if transposed else inner, columns), np.float32)
    found = {
        "NumPy, float64": _numpy(x.astype(np.float64), w.astype(np.float64), transposed),
        "NumPy, float32": _numpy(x, w, transposed),
        "XLA, float32": _xla(x, w, transposed, jnp.float32),
        "XLA, bfloat16": _xla(x, w, transposed, jnp.bfloat16),
    }
    if importlib.util.find_spec("torch") is not None:
        found |= {
            f"PyTorch, {dtype}": _torch(x, w, transposed, dtype)
            for dtype in ("float32", "bfloat16")
        }
    return found


def dtype_of(name: str) -> str:
    """Return the dtype that a product's name tells."""
    return name.rsplit(", ", 1)[1]


def _numpy(x: np.ndarray, w: np.ndarray, transposed: bool) -> Product:
    left = x.T if transposed else x
    out = np.empty((left.shape[0], w.shape[1]), x.dtype)
    return lambda: np.matmul(left, w, out=out)


def _xla(x: np.ndarray, w: np.ndarray, transposed: bool, dtype: jnp.dtype) -> Product:
    precision = "highest" if dtype == jnp.float32 else "default"

    @jax.jit
    def multiply(x, w):
        left = x.T if transposed else x
        return jnp.matmul(left, w, precision=precision, preferred_element_type=jnp.float32)

    device_x, device_w = jnp.asarray(x, dtype), jnp.asarray(w, dtype)
    return lambda: multiply(device_x, device_w)


def _torch(x: np.ndarray, w: np.ndarray, transposed: bool, dtype: str) -> Product:
    import torch  # pyright: ignore[reportMissingImports]

    left, right = (torch.from_numpy(array).to(getattr(torch, dtype)) for array in (x, w))
    left = left.T if transposed else left
    out = torch.empty(left.shape[0], right.shape[1], dtype=left.dtype)
    return lambda: torch.mm(left, right, out=out)


def copies(numbers: int) -> dict[str, Product]:
    """Return copies of so many float32 numbers, 4 bytes read and 4 written each; XLA adds 1."""
    source = np.ones(numbers, np.float32)
    target = np.empty_like(source)
    kept = [jnp.asarray(source)]
    add = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place: memory that is new costs time

    def add_one() -> jax.Array:
        kept[0] = add(kept[0])
        return kept[0]

    found: dict[str, Product] = {
        "NumPy": lambda: np.copyto(target, source),
        "XLA": add_one,
    }
    if importlib.util.find_spec("torch") is not None:
        import torch  # pyright: ignore[reportMissingImports]

        ours, theirs = torch.from_numpy(source), torch.empty(numbers)
        found["PyTorch"] = lambda: theirs.copy_(ours)
    return found
