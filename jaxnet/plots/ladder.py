"""The error of difference quotients over the step size, which shows why one is not enough."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxnet.arguments.checks import shown
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError
from jaxnet.plots.axis import as_numbers
from jaxnet.plots.style import BLUE, GREY, ORANGE, finish, set_title


@checked
def error_ladder(
    f: Callable[[Any], Any], x: Any, derivative: float, *, direction: Any = None, title: str = ""
) -> Figure:
    """Draw the relative error of (f(x + h·v) − f(x − h·v)) / 2h over h, in float64.

    `f` takes one array and returns a scalar; v is `direction` (default: ones over √n), and
    `derivative` is the derivative along v to compare with. The dashed line is the rounding error,
    ε|f|/(h·|derivative|); the truncation error falls with h². A right derivative gives a valley
    where the two meet, a wrong one a floor at its own error. Raises ConfigurationError for a
    derivative that is 0 or not finite, which has no relative error.
    """
    if not np.isfinite(derivative) or abs(derivative) < np.finfo(np.float64).tiny:
        raise ConfigurationError(
            f"expected a derivative that is finite and not 0, got {derivative}: choose another "
            f"direction"
        )
    steps = 10.0 ** np.arange(-12, 0.1, 0.5)
    with jax.enable_x64(True):
        point = jnp.asarray(as_numbers("x", x))
        along = jnp.ones_like(point)
        if direction is not None:
            along = jnp.asarray(as_numbers("direction", direction))
            if along.shape != point.shape:
                raise ConfigurationError(
                    f"direction: expected the shape of x, {list(point.shape)}, got "
                    f"{list(along.shape)}"
                )
        if direction is None:
            along = along / np.sqrt(max(1, point.size))
        value = f(point)
        if getattr(value, "shape", None) != ():
            raise ConfigurationError(
                f"f: expected a function of one array that returns a scalar, got {shown(value)} "
                f"from it"
            )
        value = abs(float(value))
        quotients = np.array(
            [(float(f(point + h * along)) - float(f(point - h * along))) / (2 * h) for h in steps]
        )
    errors = np.abs(quotients - derivative) / abs(derivative)
    rounding = np.finfo(np.float64).eps * value / (steps * abs(derivative))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    drawn = np.maximum(errors, 1e-17)  # an exact quotient has no logarithm
    at = int(np.argmin(drawn))
    axes.loglog(steps, drawn, "o-", color=BLUE, ms=4, label="error of the quotient")
    axes.loglog(steps, np.maximum(rounding, 1e-17), "--", color=GREY, label="rounding, ε|f|/h")
    axes.loglog(steps[at], drawn[at], "D", color=ORANGE, ms=8, label=f"least: {drawn[at]:.0e}")
    axes.set(xlabel="step h", ylabel="relative error")
    finish(axes)
    set_title(figure, title)
    return figure
