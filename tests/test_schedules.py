"""Schedules against closed forms in NumPy and against optax; dtypes, vmap, boundaries, compiles."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.schedules import (
    SCHEDULES,
    constant,
    cosine,
    exponential,
    find_schedule,
    one_cycle,
    scalar,
    step,
    warmup,
)

TOTAL, EPOCH = 200, 20
STEPS = np.arange(TOTAL + 50)  # a schedule is also asked beyond the end of the run
RATE = 0.3

# One row a schedule: numbers that are not the defaults, and the closed form in NumPy's float64.
NUMBERS = {
    "constant": {},
    "exponential": {"decay": 0.9},
    "step": {"decay": 0.2, "epochs_per_drop": 2.5},
    "cosine": {"final_fraction": 0.1},
    "one_cycle": {"warmup_fraction": 0.25, "initial_fraction": 0.1, "final_fraction": 0.01},
}


def blend(start, end, x):
    return start + (end - start) * 0.5 * (1 - np.cos(np.pi * np.clip(x, 0, 1)))


CLOSED_FORM = {
    "constant": lambda s: np.ones(len(s)),
    "exponential": lambda s, decay: decay ** (s // EPOCH),
    "step": lambda s, decay, epochs_per_drop: decay ** (s // round(epochs_per_drop * EPOCH)),
    "cosine": lambda s, final_fraction: blend(1, final_fraction, s / TOTAL),
    "one_cycle": lambda s, warmup_fraction, initial_fraction, final_fraction: np.where(
        s < warmup_fraction * TOTAL,
        blend(initial_fraction, 1, s / (warmup_fraction * TOTAL)),
        blend(1, final_fraction, (s - warmup_fraction * TOTAL) / (TOTAL * (1 - warmup_fraction))),
    ),
}

OPTAX = {
    "constant": lambda rate: optax.constant_schedule(rate),
    "exponential": lambda rate, decay: optax.exponential_decay(rate, EPOCH, decay, staircase=True),
    "step": lambda rate, decay, epochs_per_drop: optax.piecewise_constant_schedule(
        rate, dict.fromkeys(range(50, 300, 50), decay)
    ),
    "cosine": lambda rate, final_fraction: optax.cosine_decay_schedule(rate, TOTAL, final_fraction),
    "one_cycle": lambda rate, warmup_fraction, initial_fraction, final_fraction: (
        optax.cosine_onecycle_schedule(
            TOTAL,
            rate,
            warmup_fraction,
            1 / initial_fraction,
            initial_fraction / final_fraction,
        )
    ),
}


def build(name, numbers):
    return SCHEDULES[name].build(numbers, total_steps=TOTAL, steps_per_epoch=EPOCH)


def rates(schedule, steps=STEPS):
    return jax.jit(jax.vmap(schedule))(jnp.asarray(steps, jnp.int32))


# Relative to the peak. In float32 a fraction of the run is known to 6e-8 and the cosine's slope
# multiplies that by at most π/2.
TOLERANCE = {jnp.float32: 5e-7, jnp.float64: 1e-14}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_equals_the_closed_form_and_optax(name, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        numbers = {key: jnp.asarray(value, dtype) for key, value in NUMBERS[name].items()}
        ours = rates(build(name, {"learning_rate": jnp.asarray(RATE, dtype), **numbers}))
        assert ours.dtype == dtype
        expected = RATE * CLOSED_FORM[name](STEPS, **NUMBERS[name])
        np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE[dtype] * RATE)
        if dtype == jnp.float64:
            with jax.numpy_dtype_promotion("standard"):
                theirs = jax.vmap(OPTAX[name](RATE, **NUMBERS[name]))(STEPS)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * RATE)


@pytest.mark.parametrize("name", SCHEDULES)
def test_python_numbers_with_a_python_rate_give_strong_default_floats(name):
    rate = build(name, {"learning_rate": RATE, "momentum": 0.9, **NUMBERS[name]})(3)
    assert rate.dtype == jnp.float32
    assert rate.shape == ()
    assert not rate.weak_type


@pytest.mark.parametrize("name", SCHEDULES)
def test_vmap_over_every_number_equals_one_by_one_and_compiles_once(name):
    spread = np.array([1.0, 0.5, 0.25])
    defaults = {"learning_rate": 1.0, **SCHEDULES[name].hyperparameters, "warmup_steps": 8.0}
    batch = {key: jnp.asarray(value * spread, jnp.float32) for key, value in defaults.items()}
    lengths = jnp.array([200, 100, 30]), jnp.array([20, 7, 30])
    traces = 0

    def run(numbers, total, epoch):
        nonlocal traces
        traces += 1
        schedule = SCHEDULES[name].build(numbers, total_steps=total, steps_per_epoch=epoch)
        return jax.lax.scan(lambda s, _: (s + 1, schedule(s)), jnp.int32(0), length=60)[1]

    together = jax.vmap(run)(batch, *lengths)
    traces, solo = 0, jax.jit(run)
    for k in range(3):
        alone = solo({key: value[k] for key, value in batch.items()}, *(x[k] for x in lengths))
        np.testing.assert_allclose(together[k], alone, rtol=1e-6, atol=1e-7)
    assert traces == 1, "another value of a number must not trace again"


@pytest.mark.parametrize("name", SCHEDULES)
def test_finite_and_between_zero_and_the_peak_at_the_extremes(name):
    for total, epoch in [(1, 1), (2, 7), (0, 0)]:
        for value in (0.0, 1.0):
            numbers = dict.fromkeys(SCHEDULES[name].hyperparameters, value)
            schedule = SCHEDULES[name].build(
                {"learning_rate": 1.0, **numbers}, total_steps=total, steps_per_epoch=epoch
            )
            values = rates(schedule, [0, 1, 2, 1000, 2**31 - 1])
            assert np.all((values >= 0) & (values <= 1)), (total, epoch, value, values)


def test_boundary_steps():
    by_epoch = exponential(1.0, 0.5, steps_per_epoch=100)
    assert [float(by_epoch(s)) for s in (0, 99, 100, 199, 200)] == [1, 1, 0.5, 0.5, 0.25]
    rarely = step(1.0, 0.5, 1.5, steps_per_epoch=100)
    assert [float(rarely(s)) for s in (0, 149, 150, 299, 300)] == [1, 1, 0.5, 0.5, 0.25]
    wave = cosine(1.0, 0.25, total_steps=100)
    assert [float(wave(s)) for s in (0, 100, 101, 10**9)] == [1, 0.25, 0.25, 0.25]
    cycle = one_cycle(1.0, 0.25, 0.125, 0.0625, total_steps=100)
    assert [float(cycle(s)) for s in (0, 25, 100, 101)] == [0.125, 1, 0.0625, 0.0625]
    assert [float(one_cycle(1.0, 0.0, total_steps=10)(s)) for s in (0, 10)] == [1, np.float32(4e-6)]
    ramp = warmup(constant(1.0), 4)
    assert [float(ramp(s)) for s in (0, 1, 2, 3, 4, 99)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_drops_fall_on_the_first_step_of_an_epoch_which_floating_point_division_misses():
    lengths, epochs = jnp.arange(1, 400), jnp.arange(60)

    def by_integers(length, epoch):
        return exponential(1.0, 0.5, steps_per_epoch=length)(epoch * length)

    def by_reciprocal(length, epoch):  # what XLA makes of a division by a constant
        return 0.5 ** jnp.floor((epoch * length).astype(jnp.float32) * (1 / length))

    def on_time(rate):
        every = jax.vmap(jax.vmap(rate, in_axes=(None, 0)), in_axes=(0, None))
        return np.array_equal(every(lengths, epochs), np.tile(0.5 ** np.arange(60), (399, 1)))

    assert on_time(by_integers)
    assert not on_time(by_reciprocal)


@pytest.mark.parametrize("name", SCHEDULES)
def test_warmup_multiplies_any_schedule(name):
    numbers = {"learning_rate": RATE, **NUMBERS[name]}
    plain, warm = rates(build(name, numbers)), rates(build(name, {**numbers, "warmup_steps": 30}))
    factor = np.minimum(1, (STEPS + 1) / 30)
    np.testing.assert_allclose(warm, plain * factor, rtol=5e-7)
    for none in (0, 1):
        same = rates(build(name, {**numbers, "warmup_steps": none}))
        np.testing.assert_array_equal(same, plain)


def test_the_table_has_the_documented_defaults():
    assert {name: rule.hyperparameters for name, rule in SCHEDULES.items()} == {
        "constant": {"warmup_steps": 0.0},
        "exponential": {"decay": 0.95, "warmup_steps": 0.0},
        "step": {"decay": 0.1, "epochs_per_drop": 10.0, "warmup_steps": 0.0},
        "cosine": {"final_fraction": 0.0, "warmup_steps": 0.0},
        "one_cycle": {
            "warmup_fraction": 0.3,
            "initial_fraction": 0.04,
            "final_fraction": 4e-6,
            "warmup_steps": 0.0,
        },
    }


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_beginning_of_an_open_ended_schedule_is_the_same_in_every_run(name):
    """A shorter run is then the beginning of a longer one, in a run folder, too."""
    numbers = {"learning_rate": RATE, **NUMBERS[name]}
    short, long = (
        rates(SCHEDULES[name].build(numbers, total_steps=total, steps_per_epoch=EPOCH))
        for total in (TOTAL, 2 * TOTAL)
    )
    assert np.array_equal(short, long) == SCHEDULES[name].open_ended


def test_one_cycle_has_the_defaults_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.vmap(optax.cosine_onecycle_schedule(TOTAL, RATE))(STEPS)
    np.testing.assert_allclose(rates(one_cycle(RATE, total_steps=TOTAL)), theirs, atol=1e-6 * RATE)


def test_errors():
    assert find_schedule("cosine") is SCHEDULES["cosine"]
    with pytest.raises(
        ConfigurationError, match=r"unknown schedule 'cosin': did you mean 'cosine'"
    ):
        find_schedule("cosin")
    with pytest.raises(ConfigurationError, match=r"decay: expected a finite number.*\[3\].*vmap"):
        exponential(0.1, jnp.ones(3), steps_per_epoch=10)


def test_scalar_types_every_kind_of_number():
    for value in (1, 1.0, True, np.float64(1), np.int64(1), np.ones((), "f4"), jnp.int32(1)):
        typed = scalar("x", value)
        assert (typed.dtype, typed.weak_type) == (jnp.float32, False)
    weak = jnp.asarray(1.0)
    assert weak.weak_type
    assert not scalar("x", weak).weak_type
