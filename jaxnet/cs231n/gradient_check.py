"""Gradients by central differences, (f(x + h) − f(x − h))/(2h), one coordinate at a time.

These are the course's functions, which print or return numbers and leave the judgement to the
reader. `jaxnet.check_grads` judges: it bounds the error of its own differences, tells kinks from
bugs, and says which part of a gradient is wrong and how.
"""

import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxnet.errors import ConfigurationError


def eval_numerical_gradient(
    f: Callable[[np.ndarray], Any],
    x: Any,
    verbose: bool = True,
    h: float = 0.00001,
) -> Float[np.ndarray, "*shape"]:
    """Return the numerical gradient of a scalar f at x: grad_i = (f(x + h·e_i) − f(x − h·e_i))/2h.

    x is changed in place, one coordinate at a time, so f may ignore its argument and read the same
    array elsewhere (`model.params["W1"]`); x is restored when this returns or raises. `verbose`
    prints index and slope of each coordinate. The error is about h²·|f'''|/6 plus 1e-16·|f|/h in
    float64.

    Raises ConfigurationError if x cannot be changed in place (integers, read-only, no NumPy array)
    or f returns anything but one number. Warns with UserWarning for float32, whose differences
    have few correct digits.

    >>> grad = eval_numerical_gradient(lambda x: (x**2).sum(), np.array([1.0, -2.0]), verbose=False)
    >>> grad.round(6)
    array([ 2., -4.])
    """
    _check_point(x, h)
    _scalar(f(x))
    grad = np.zeros_like(x)
    for i, index in enumerate(np.ndindex(x.shape)):
        plus, minus = _either_side(f, x, i, h)
        grad.flat[i] = (plus - minus) / (2 * h)
        if verbose:
            print(index, grad[index])
    return grad


def eval_numerical_gradient_array(
    f: Callable[[np.ndarray], Any], x: Any, df: Any, h: float = 1e-5
) -> Float[np.ndarray, "*shape"]:
    """Return the numerical gradient of Σ f(x)·df, as a backward pass does for upstream df.

    f returns an array of the shape of df. The rest is as in `eval_numerical_gradient`.

    >>> x = np.array([[1.0, 2.0]])
    >>> eval_numerical_gradient_array(lambda x: x**3, x, np.array([[1.0, 10.0]])).round(6)
    array([[  3., 120.]])
    """
    _check_point(x, h)
    return _weighted(f, x, np.asarray(df), h, np.zeros_like(x))


def eval_numerical_gradient_blobs(
    f: Callable[..., Any], inputs: Sequence[Any], output: Any, h: float = 1e-5
) -> list[np.ndarray]:
    """Return the numerical gradient, for each input, of a function that writes its output.

    Inputs and output are objects with arrays `vals` and `diffs`. f(*inputs, output) reads
    `inputs[i].vals` and writes `output.vals`; `output.diffs` is the upstream gradient.
    """

    def value(_: np.ndarray) -> np.ndarray:
        f(*inputs, output)
        return output.vals

    grads = []
    for blob in inputs:
        _check_point(blob.vals, h)
        start = np.zeros_like(blob.diffs)
        grads.append(_weighted(value, blob.vals, np.asarray(output.diffs), h, start))
    return grads


def eval_numerical_gradient_net(
    net: Any, inputs: Sequence[Any], output: Any, h: float = 1e-5
) -> list[np.ndarray]:
    """Return `eval_numerical_gradient_blobs` of net.forward, which takes no arguments."""
    return eval_numerical_gradient_blobs(lambda *args: net.forward(), inputs, output, h=h)


def grad_check_sparse(
    f: Callable[[np.ndarray], Any],
    x: Any,
    analytic_grad: Any,
    num_checks: int = 10,
    h: float = 1e-5,
) -> None:
    """Print numerical and analytic slope, and their relative error, at a few random coordinates.

    The error is |n − a|/(|n| + |a|), or 0 if both are 0. Coordinates come from Python's `random`,
    so `random.seed` repeats them. `jaxnet.check_grads` checks all coordinates at once.
    """
    _check_point(x, h)
    if np.shape(analytic_grad) != x.shape:
        raise ConfigurationError(
            f"analytic_grad must have the shape of x: got x {x.shape}, analytic_grad "
            f"{np.shape(analytic_grad)}"
        )
    for _ in range(num_checks):
        index = tuple(random.randrange(size) for size in x.shape)
        at = int(np.ravel_multi_index(index, x.shape)) if index else 0
        plus, minus = _either_side(f, x, at, h)
        _scalar(plus)
        numerical, analytic = float((plus - minus) / (2 * h)), float(analytic_grad[index])
        size = abs(numerical) + abs(analytic)
        error = abs(numerical - analytic) / size if size else 0.0
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")


def _either_side(
    f: Callable[[np.ndarray], Any], x: np.ndarray, i: int, h: float
) -> tuple[Any, Any]:
    """Return f(x) with coordinate i moved up and down by h, and restore x in any case."""
    flat = x.flat  # changes any layout in place, where a reshape may copy
    old = flat[i]
    try:
        flat[i] = old + h
        plus = f(x)
        flat[i] = old - h
        minus = f(x)
    finally:
        flat[i] = old
    return plus, minus


def _weighted(
    f: Callable[[np.ndarray], Any], x: np.ndarray, df: np.ndarray, h: float, grad: np.ndarray
) -> np.ndarray:
    def copied(x: np.ndarray) -> np.ndarray:
        return np.array(f(x))  # f may write into the same array each time

    for i in range(x.size):
        plus, minus = _either_side(copied, x, i, h)
        if plus.shape != df.shape:
            raise ConfigurationError(
                f"df must have the shape of f(x): got df {df.shape}, f(x) {plus.shape}"
            )
        grad.flat[i] = ((plus - minus) * df).sum() / (2 * h)
    return grad


def _check_point(x: Any, h: float) -> None:
    if not isinstance(x, np.ndarray):
        raise ConfigurationError(
            f"x is changed in place and must be a NumPy array, got {type(x).__name__}: pass "
            f"np.array(x, dtype=np.float64), and let f use its argument"
        )
    if x.dtype.kind != "f":
        raise ConfigurationError(
            f"x of {x.dtype} cannot be moved by h={h}: the difference would be 0 or garbage. "
            f"Pass x.astype(np.float64)"
        )
    if not x.flags.writeable:
        raise ConfigurationError("x must be changed in place, but is read-only: pass x.copy()")
    if not h > 0:
        raise ConfigurationError(f"expected a step h > 0, got {h}")
    if x.dtype.itemsize < 8:
        warnings.warn(
            f"x is {x.dtype}: at h={h} its differences have few correct digits or none. Use "
            f"float64 arrays, x.astype(np.float64), for numerical gradients",
            UserWarning,
            stacklevel=3,
        )


def _scalar(value: Any) -> None:
    if isinstance(value, tuple | list | dict):
        raise ConfigurationError(
            f"f must return one number, got a {type(value).__name__}: of (loss, gradient) take [0]"
        )
    if np.shape(value) != ():
        raise ConfigurationError(
            f"f must return one number, got an array {np.shape(value)}: for functions with "
            f"array values use eval_numerical_gradient_array"
        )
