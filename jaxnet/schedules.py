"""Learning-rate schedules: pure functions from the step (int32, from 0) to its learning rate.

Every number given to a factory may be a traced array, so that a sweep can vmap over it. A schedule
has the dtype of its ``learning_rate`` and accepts any step, also beyond the last one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, ScalarLike

from jaxnet.arguments.checks import shown
from jaxnet.arguments.setting import Setting
from jaxnet.arguments.signatures import checked
from jaxnet.errors import ConfigurationError, unknown

Number: TypeAlias = ScalarLike  # one number: of Python, of NumPy, or a 0-d array, traced or not
Schedule: TypeAlias = Callable[[Any], Array]  # step -> rate, as in optax


def scalar(name: str, value: ArrayLike, dtype: Any = None) -> Float[Array, ""]:
    """Return ``value`` as a strongly typed 0-d array of ``dtype`` (default: its own, or JAX's).

    Every number of a schedule or an optimizer is converted here once, so that a Python 0.999 and an
    array 0.999 give the same algorithm (``1 - 0.999`` in float32 and float64 differ by 1e-5).

    >>> scalar("beta2", 0.999).dtype
    dtype('float32')
    """
    if not hasattr(value, "dtype") and not isinstance(value, int | float):
        raise ConfigurationError(f"{name}: expected one number, got {shown(value)}")
    if jnp.ndim(value) != 0:
        raise ConfigurationError(
            f"{name} must be one number, got an array of shape {jnp.shape(value)}. To train with "
            f"several values at once, vmap the function that receives {name}."
        )
    if dtype is None:
        own = jnp.result_type(value)
        dtype = own if jnp.issubdtype(own, jnp.floating) else jnp.result_type(float)
    return jax.lax.convert_element_type(jnp.asarray(value, dtype=dtype), dtype)


def numeric_defaults(factory: Callable[..., Any]) -> dict[str, float]:
    """Return the hyperparameters of a factory: its positional arguments that have a default.

    >>> numeric_defaults(cosine)
    {'final_fraction': 0.0}
    """
    return {
        name: argument.default
        for name, argument in inspect.signature(factory).parameters.items()
        if argument.kind is argument.POSITIONAL_OR_KEYWORD
        and argument.default is not argument.empty
    }


@checked
def constant(learning_rate: Number) -> Schedule:
    """Return rate(step) = learning_rate.

    >>> float(constant(0.5)(1000))
    0.5
    """
    rate = scalar("learning_rate", learning_rate)
    return lambda step: rate


@checked
def exponential(
    learning_rate: Number, decay: Number = 0.95, *, steps_per_epoch: Number
) -> Schedule:
    """Return rate(step) = learning_rate · decay^⌊step / steps_per_epoch⌋.

    This is the schedule of the CS231n course: the rate is multiplied by ``decay`` after each epoch.
    ``optax.exponential_decay(..., staircase=True)`` divides in floating point. Here the division
    is of integers, because XLA turns x / constant into x · (1 / constant), and a product that
    rounds to 2.9999998 would drop the rate one step late.

    >>> rate = exponential(1.0, 0.5, steps_per_epoch=100)
    >>> [float(rate(step)) for step in (0, 99, 100, 250)]
    [1.0, 1.0, 0.5, 0.25]
    """
    learning_rate = scalar("learning_rate", learning_rate)
    return _staircase(learning_rate, decay, scalar("steps_per_epoch", steps_per_epoch))


@checked
def step(
    learning_rate: Number,
    decay: Number = 0.1,
    epochs_per_drop: Number = 10.0,
    *,
    steps_per_epoch: Number,
) -> Schedule:
    """Return rate(step) = learning_rate · decay^⌊step / every⌋, every = epochs_per_drop epochs.

    ``every`` = epochs_per_drop · steps_per_epoch, rounded to whole steps and at least 1. It is
    ``exponential`` with fewer, larger drops.

    >>> rate = step(1.0, 0.5, 2.0, steps_per_epoch=100)
    >>> [float(rate(at)) for at in (0, 199, 200, 450)]
    [1.0, 1.0, 0.5, 0.25]
    """
    learning_rate = scalar("learning_rate", learning_rate)
    epochs = scalar("epochs_per_drop", epochs_per_drop, learning_rate.dtype)
    every = epochs * scalar("steps_per_epoch", steps_per_epoch, learning_rate.dtype)
    return _staircase(learning_rate, decay, every)


def _staircase(learning_rate: Float[Array, ""], decay: Number, every: Float[Array, ""]) -> Schedule:
    """Return learning_rate · decay^⌊step / every⌋, ``every`` in whole steps."""
    decay = scalar("decay", decay, learning_rate.dtype)
    whole = jnp.maximum(jnp.round(every).astype(jnp.int32), 1)

    def rate(step: Int[ArrayLike, ""]) -> Float[Array, ""]:
        drops = jnp.asarray(step, jnp.int32) // whole
        return learning_rate * decay ** drops.astype(learning_rate.dtype)

    return rate


@checked
def cosine(learning_rate: Number, final_fraction: Number = 0.0, *, total_steps: Number) -> Schedule:
    """Return rate(step) = learning_rate · (f + (1 − f) · ½(1 + cos(π · step / total_steps))).

    The rate falls from learning_rate at step 0 to f · learning_rate at step total_steps, where
    f = ``final_fraction``, and is constant from there on. The last step of a run is
    total_steps − 1, so it never uses the final value itself. Source: Loshchilov & Hutter, "SGDR"
    (2017), without restarts; optax has it as ``cosine_decay_schedule(alpha=final_fraction)``.

    >>> rate = cosine(1.0, 0.5, total_steps=100)
    >>> [float(rate(step)) for step in (0, 50, 100, 1000)]
    [1.0, 0.75, 0.5, 0.5]
    """
    learning_rate = scalar("learning_rate", learning_rate)
    final = scalar("final_fraction", final_fraction, learning_rate.dtype)
    total = jnp.maximum(scalar("total_steps", total_steps, learning_rate.dtype), 1)

    def rate(step: Int[ArrayLike, ""]) -> Float[Array, ""]:
        return learning_rate * _half_cosine(1, final, jnp.asarray(step).astype(total.dtype) / total)

    return rate


@checked
def one_cycle(
    learning_rate: Number,
    warmup_fraction: Number = 0.3,
    initial_fraction: Number = 0.04,
    final_fraction: Number = 4e-6,
    *,
    total_steps: Number,
) -> Schedule:
    """Return a rate that rises by half a cosine to learning_rate and falls by half a cosine.

    With top = warmup_fraction · total_steps and blend(a, b, x) = a + (b − a) · ½(1 − cos πx):

    - step < top:  learning_rate · blend(initial_fraction, 1, step / top)
    - step ≥ top:  learning_rate · blend(1, final_fraction, (step − top) / (total_steps − top))
    - step ≥ total_steps:  learning_rate · final_fraction

    ``learning_rate`` is the peak. Both other ends are fractions of the peak: torch's
    ``OneCycleLR`` and ``optax.cosine_onecycle_schedule`` write initial_fraction = 1 / div_factor
    and final_fraction = 1 / (div_factor · final_div_factor), here with their defaults. optax rounds
    ``top`` down to a whole step, torch ends both phases one step earlier. Source: Smith & Topin,
    "Super-Convergence" (2018); fastai introduced the cosine.

    >>> rate = one_cycle(1.0, 0.25, 0.5, 0.0, total_steps=100)
    >>> [float(rate(step)) for step in (0, 25, 100)]
    [0.5, 1.0, 0.0]
    """
    learning_rate = scalar("learning_rate", learning_rate)
    dtype = learning_rate.dtype
    initial = scalar("initial_fraction", initial_fraction, dtype)
    final = scalar("final_fraction", final_fraction, dtype)
    total = jnp.maximum(scalar("total_steps", total_steps, dtype), 1)
    top = scalar("warmup_fraction", warmup_fraction, dtype) * total

    def rate(step: Int[ArrayLike, ""]) -> Float[Array, ""]:
        at = jnp.asarray(step).astype(dtype)
        # A phase shorter than one step counts as one: no division by zero at fractions 0 and 1.
        rise = _half_cosine(initial, 1, at / jnp.maximum(top, 1))
        fall = _half_cosine(1, final, (at - top) / jnp.maximum(total - top, 1))
        in_run = jnp.where(at < top, rise, fall)
        return learning_rate * jnp.where(at < total, in_run, final)

    return rate


def _half_cosine(start: Number, end: Number, fraction: Float[Array, ""]) -> Float[Array, ""]:
    """Return ``start`` at fraction 0, ``end`` at 1, half a cosine between, constant outside."""
    way = 0.5 * (1 - jnp.cos(jnp.pi * jnp.clip(fraction, 0, 1)))
    return way * end + (1 - way) * start  # not start + (end - start) * way: `end` is then exact


@checked
def warmup(schedule: Schedule, warmup_steps: Number) -> Schedule:
    """Return rate(step) = schedule(step) · min(1, (step + 1) / max(warmup_steps, 1)).

    Step 0 has 1/warmup_steps of the schedule's rate, as 0 would waste the step, and step
    warmup_steps − 1 is the first with the full rate; 0 and 1 mean no warm-up. The steps of the
    schedule itself are not shifted.

    >>> rate = warmup(constant(1.0), 4)
    >>> [float(rate(step)) for step in (0, 1, 3, 100)]
    [0.25, 0.5, 1.0, 1.0]
    """

    def rate(step: Int[ArrayLike, ""]) -> Float[Array, ""]:
        full = scalar("schedule", schedule(step))
        length = jnp.maximum(scalar("warmup_steps", warmup_steps, full.dtype), 1)
        return full * jnp.minimum((jnp.asarray(step).astype(full.dtype) + 1) / length, 1)

    return rate


@dataclass(frozen=True)
class ScheduleRule:
    """A row of the table of schedules: a function that builds one, and its hyperparameters.

    ``build(hyperparameters, total_steps=, steps_per_epoch=)`` reads "learning_rate" and its own
    names from the mapping (with the default for an absent one) and ignores all others.
    `open_ended`: its rates do not depend on how long a run is.
    """

    build: Callable[..., Schedule]
    hyperparameters: dict[str, float]
    open_ended: bool


def _rule(factory: Callable[..., Schedule]) -> ScheduleRule:
    """Return the row for a factory, whose keyword-only arguments are lengths of the run."""
    own = numeric_defaults(factory)
    parameters = inspect.signature(factory).parameters.values()
    lengths = [argument.name for argument in parameters if argument.kind is argument.KEYWORD_ONLY]

    def build(
        hyperparameters: Mapping[str, Number], *, total_steps: Number, steps_per_epoch: Number
    ) -> Schedule:
        of_run = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        numbers = {name: hyperparameters.get(name, default) for name, default in own.items()}
        schedule = factory(
            hyperparameters["learning_rate"], **numbers, **{name: of_run[name] for name in lengths}
        )
        return warmup(schedule, hyperparameters.get("warmup_steps", 0.0))

    return ScheduleRule(build, {**own, "warmup_steps": 0.0}, "total_steps" not in lengths)


SCHEDULES: dict[str, ScheduleRule] = {
    "constant": _rule(constant),
    "exponential": _rule(exponential),
    "step": _rule(step),
    "cosine": _rule(cosine),
    "one_cycle": _rule(one_cycle),
}

HYPERPARAMETERS: dict[str, Setting] = {
    "decay": Setting("factor of the rate, each epoch or drop"),
    "epochs_per_drop": Setting("epochs from one drop of the rate to the next", low=1),
    "final_fraction": Setting("last rate, as a share of the highest", high=1, closed=True),
    "warmup_fraction": Setting("share of the steps in which the rate rises", high=1, closed=True),
    "initial_fraction": Setting("first rate, as a share of the highest", high=1, closed=True),
}
"""The numbers that some schedules have; their defaults stand in the functions."""


@checked
def find_schedule(name: str) -> ScheduleRule:
    """Return ``SCHEDULES[name]``, or raise ConfigurationError with the near match."""
    if name not in SCHEDULES:
        raise ConfigurationError(unknown("schedule", name, SCHEDULES))
    return SCHEDULES[name]
