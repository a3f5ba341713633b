"""Bugs in single entries, in precision, and in what a backward pass remembers between calls."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gradcheck_zoo.row import Bug, draw


def wave(w):
    return jnp.square(jnp.sin(w)).sum()


def wave_right(dout, w):
    return (dout * jnp.sin(2 * w),)


def _edited(edit):
    return lambda dout, w: (edit(wave_right(dout, w)[0]),)


def _swapped(gradient):
    return gradient.at[jnp.array([3, 11])].set(gradient[jnp.array([11, 3])])


def product(x, w):
    return x @ w


def product_right(dout, x, w):
    return dout @ w.T, x.T @ dout


def _in_bfloat16(dout, x, w):
    dw = jnp.matmul(x.T.astype(jnp.bfloat16), dout.astype(jnp.bfloat16))
    return dout @ w.T, dw.astype(w.dtype)


class Accumulator:
    """A backward pass that adds to what it returned before, as a `+=` on a buffer does.

    The buffer starts at ones, so that the first call is wrong, too.
    """

    def __init__(self):
        self.total: dict[tuple, np.ndarray] = {}

    def __call__(self, dout, w):
        gradient = wave_right(dout, w)[0]
        shape = jax.ShapeDtypeStruct(gradient.shape, gradient.dtype)
        return (jax.pure_callback(self._add, shape, gradient, vmap_method="sequential"),)

    def _add(self, gradient):
        gradient = np.asarray(gradient)
        key = gradient.shape, gradient.dtype
        self.total[key] = self.total.get(key, np.ones_like(gradient)) + gradient
        return self.total[key].copy()


_SMALL, _MEDIUM, _LARGE = draw(60, (20,), (100, 100), (256, 256))
BUGS = (
    Bug(
        "one entry off",
        "by 1 %, of 10,000",
        wave,
        (_MEDIUM,),
        wave_right,
        _edited(lambda g: g.at[41, 7].multiply(1.01)),
    ),
    Bug(
        "one entry zeroed",
        "of 65,536",
        wave,
        (_LARGE,),
        wave_right,
        _edited(lambda g: g.at[100, 200].set(0)),
    ),
    Bug("two entries swapped", "of 20", wave, (_SMALL,), wave_right, _edited(_swapped)),
    Bug(
        "bfloat16 sums",
        "dw in bfloat16",
        product,
        draw(61, (16, 6), (6, 5)),
        product_right,
        _in_bfloat16,
    ),
    Bug(
        "one NaN",
        "in one entry of 20",
        wave,
        (_SMALL,),
        wave_right,
        _edited(lambda g: g.at[13].set(jnp.nan)),
    ),
    Bug(
        "accumulated",
        "the gradients of all calls so far",
        wave,
        (_SMALL,),
        wave_right,
        Accumulator(),
    ),
)
