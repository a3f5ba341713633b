"""Every optimizer, ours and optax's, in one conformance table; ours against optax and NumPy.

optax mixes dtypes, so its calls (and only they) run under standard promotion.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet import schedules
from jaxnet.errors import ConfigurationError
from jaxnet.optimizers import (
    OPTIMIZERS,
    OptimizerRule,
    adam,
    adamw,
    find_optimizer,
    lift,
    momentum,
    sgd,
)
from jaxnet.training.settings import configure

STEPS = 50


class Case(NamedTuple):
    """Numbers that are not the defaults, optax's counterpart, the textbook recurrence in NumPy."""

    numbers: dict[str, float]
    optax: Callable[..., Any]
    textbook: Callable[..., list[Any]]


def weights(params):
    """The tests' own mask for optax: by position, not by our rule about names."""
    del params
    return {"affine": {"w": True, "b": False}, "norm": {"scale": False}}


# Textbook recurrences: gradients gs and rates lrs (a list of each), start w; gives the steps.


def sgd_np(gs, lrs, w, decayed):
    return [-lr * g for g, lr in zip(gs, lrs, strict=True)]


def momentum_np(gs, lrs, w, decayed, momentum):
    v, steps = 0.0, []
    for g, lr in zip(gs, lrs, strict=True):
        v = momentum * v + g
        steps.append(-lr * v)
    return steps


def nesterov_np(gs, lrs, w, decayed, momentum):
    v, steps = 0.0, []
    for g, lr in zip(gs, lrs, strict=True):
        v = momentum * v + g
        steps.append(-lr * (g + momentum * v))
    return steps


def rmsprop_np(gs, lrs, w, decayed, rms_decay, eps):
    v, steps = 0.0, []
    for g, lr in zip(gs, lrs, strict=True):
        v = rms_decay * v + (1 - rms_decay) * g**2
        steps.append(-lr * g / (np.sqrt(v) + eps))
    return steps


def adam_np(gs, lrs, w, decayed, beta1, beta2, eps, weight_decay=0.0):
    m, v, steps = 0.0, 0.0, []
    for t, (g, lr) in enumerate(zip(gs, lrs, strict=True), start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        steps.append(-lr * (m_hat / (np.sqrt(v_hat) + eps) + decayed * weight_decay * w))
        w = w + steps[-1]
    return steps


def adagrad_np(gs, lrs, w, decayed, eps):
    s, steps = 0.1, []
    for g, lr in zip(gs, lrs, strict=True):
        s = s + g**2
        steps.append(-lr * g / np.sqrt(s + eps))
    return steps


CASES = {
    "sgd": Case({}, lambda lr: optax.sgd(lr), sgd_np),
    "momentum": Case(
        {"momentum": 0.8}, lambda lr, momentum: optax.sgd(lr, momentum=momentum), momentum_np
    ),
    "nesterov": Case(
        {"momentum": 0.8},
        lambda lr, momentum: optax.sgd(lr, momentum=momentum, nesterov=True),
        nesterov_np,
    ),
    "rmsprop": Case(
        {"rms_decay": 0.95, "eps": 1e-3},
        lambda lr, rms_decay, eps: optax.rmsprop(lr, rms_decay, eps, eps_in_sqrt=False),
        rmsprop_np,
    ),
    "adam": Case(
        {"beta1": 0.8, "beta2": 0.999, "eps": 1e-3},
        lambda lr, beta1, beta2, eps: optax.adam(lr, beta1, beta2, eps),
        adam_np,
    ),
    "adamw": Case(
        {"beta1": 0.8, "beta2": 0.999, "eps": 1e-3, "weight_decay": 0.1},
        lambda lr, beta1, beta2, eps, weight_decay: optax.adamw(
            lr, beta1, beta2, eps, weight_decay=weight_decay, mask=weights
        ),
        adam_np,
    ),
    "adagrad": Case({"eps": 1e-3}, lambda lr, eps: optax.adagrad(lr, eps=eps), adagrad_np),
}
assert CASES.keys() == OPTIMIZERS.keys()

FAMILIES = ("ours", "optax")
CONFORMANCE = [(family, name) for name in CASES for family in FAMILIES]
conformance = pytest.mark.parametrize(("family", "name"), CONFORMANCE)


def family_of(family):
    """How to build an optimizer of the family, and the promotion that its code needs."""
    if family == "ours":
        return lambda name, lr, numbers: OPTIMIZERS[name].build(lr, numbers), "strict"
    return lambda name, lr, numbers: CASES[name].optax(lr, **numbers), "standard"


def arrays(numbers, dtype):
    return {name: jnp.asarray(value, dtype) for name, value in numbers.items()}


def problem(dtype):
    """Parameters and a fixed sequence of gradients: differences cannot feed on themselves."""
    random = np.random.default_rng(7)
    shapes = {"affine": {"w": (3, 4), "b": (4,)}, "norm": {"scale": (4,)}}

    def draw(*shape):
        return jnp.asarray(random.normal(size=shape), dtype)

    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    params = jax.tree.map(lambda shape: draw(*shape), shapes, is_leaf=is_shape)
    gradients = jax.tree.map(lambda shape: draw(STEPS, *shape), shapes, is_leaf=is_shape)
    return params, gradients


def run(rule, params, gradients):
    """All steps that the optimizer takes for a sequence of gradients, and its last state."""

    def body(carry, gradient):
        w, state = carry
        step, state = rule.update(gradient, state, w)
        return (jax.tree.map(jnp.add, w, step), state), step

    (_, state), steps = jax.lax.scan(body, (params, rule.init(params)), gradients)
    return steps, state


def trajectory(make, promotion="strict"):
    """The steps of ``make()`` on the problem in the dtype that is current."""
    params, gradients = problem(jnp.result_type(float))
    with jax.numpy_dtype_promotion(promotion):
        return jax.jit(lambda w, g: run(make(), w, g)[0])(params, gradients)


def worst(got, expected):
    """The largest relative error of a step: norms of each leaf at each time."""

    def of_leaf(a, b):
        a, b = (np.asarray(x, np.float64).reshape(STEPS, -1) for x in (a, b))
        return np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, got, expected)))


def textbook(name, rates):
    """The NumPy steps for the same (float64) problem and the rates of all steps."""
    params, gradients = jax.tree.map(lambda x: np.asarray(x, np.float64), problem(jnp.float64))

    def of_leaf(w, gs, decayed):
        return np.stack(CASES[name].textbook(gs, rates, w, decayed, **CASES[name].numbers))

    return jax.tree.map(of_leaf, params, gradients, weights(params))


# Float64: a handful of roundings (1e-16 each) in averages of 50 terms. Float32: the same with 6e-8
# each; 1 - beta2**t at t = 1 cancels three digits, but ours and optax's cancel alike.
SAME = {jnp.float64: 1e-12, jnp.float32: 1e-6}


def make_rate(kind, dtype):
    if kind == "constant":
        return jnp.asarray(0.05, dtype)
    return schedules.warmup(schedules.cosine(jnp.asarray(0.05, dtype), total_steps=STEPS), 5)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("kind", ["constant", "schedule"])
@pytest.mark.parametrize("name", CASES)
def test_equals_optax_step_by_step_and_in_float64_the_textbook(name, kind, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        numbers, rate = arrays(CASES[name].numbers, dtype), make_rate(kind, dtype)
        ours = trajectory(lambda: OPTIMIZERS[name].build(rate, numbers))
        theirs = trajectory(lambda: CASES[name].optax(rate, **numbers), "standard")
        assert worst(ours, theirs) < SAME[dtype]
        if dtype == jnp.float64:
            rates = (
                np.asarray(jax.vmap(rate)(jnp.arange(STEPS))) if callable(rate) else [0.05] * STEPS
            )
            assert worst(ours, textbook(name, rates)) < SAME[dtype]


def test_momentum_and_nesterov_take_the_steps_of_the_course():
    with jax.enable_x64(True):
        _, gradients = problem(jnp.float64)
        gs, lr, mu = np.asarray(gradients["affine"]["w"]), 0.05, 0.8
        v, course, course_nesterov = np.zeros_like(gs[0]), [], []
        for g in gs:
            previous, v = v, mu * v - lr * g
            course.append(v)
            course_nesterov.append(-mu * previous + (1 + mu) * v)
        for name, expected in [("momentum", course), ("nesterov", course_nesterov)]:
            rule = OPTIMIZERS[name].build(lr, {"momentum": mu})
            steps = trajectory(lambda rule=rule: rule)["affine"]["w"]
            np.testing.assert_allclose(steps, np.stack(expected), rtol=1e-12, atol=1e-16)


# Planted faults: what the comparison with optax must catch, in float32 too.


def adam_fault(fault):
    def rule(g, m, v, *, t, rate, beta1, beta2, eps):
        if fault == "betas swapped":
            beta1, beta2 = beta2, beta1
        fresh = (1.0, 1.0) if fault == "1 - beta dropped" else (1 - beta1, 1 - beta2)
        if fault == "1 - beta2 of another dtype":
            fresh = (1 - beta1, jnp.asarray(1 - 0.999, g.dtype))
        m = beta1 * m + fresh[0] * g
        v = beta2 * v + fresh[1] * (jnp.abs(g) if fault == "g not squared" else g * g)
        late = t - 1 + 1e-3 if fault == "t from 0" else t
        m_hat, v_hat = m / (1 - beta1**late), v / (1 - beta2**late)
        if fault == "no bias correction":
            m_hat, v_hat = m, v
        if fault == "eps inside the root":
            return -rate * m_hat / jnp.sqrt(v_hat + eps), m, v
        if fault == "eps before the correction":
            return -rate * m_hat / ((jnp.sqrt(v) + eps) / jnp.sqrt(1 - beta2**t)), m, v
        return -rate * m_hat / (jnp.sqrt(v_hat) + eps), m, v

    return lambda lr, numbers: lift(rule, {"m": 0.0, "v": 0.0}, lr, **numbers)


def one_memory(rule, start=0.0):
    return lambda lr, numbers: lift(rule, {"v": start}, lr, **numbers)


def damped(g, v, *, t, rate, momentum):
    v = momentum * v + (1 - momentum) * g
    return -rate * v, v


def not_looking_ahead(g, v, *, t, rate, momentum):
    v = momentum * v + g
    return -rate * v, v


def rmsprop_eps_in_root(g, v, *, t, rate, rms_decay, eps):
    v = rms_decay * v + (1 - rms_decay) * g * g
    return -rate * g / jnp.sqrt(v + eps), v


def rmsprop_old_average(g, v, *, t, rate, rms_decay, eps):
    return -rate * g / (jnp.sqrt(v) + eps), rms_decay * v + (1 - rms_decay) * g * g


def adagrad_eps_outside(g, v, *, t, rate, eps):
    v = v + g * g
    return -rate * g / (jnp.sqrt(v) + eps), v


def adagrad_right(g, v, *, t, rate, eps):
    v = v + g * g
    return -rate * g / jnp.sqrt(v + eps), v


def coupled(lr, numbers):
    plain = {name: numbers[name] for name in ("beta1", "beta2", "eps")}
    penalty = optax.add_decayed_weights(numbers["weight_decay"], weights)
    return optax.chain(penalty, OPTIMIZERS["adam"].build(lr, plain))


def everything(params):
    return jax.tree.map(lambda _: True, params)


ADAM_FAULTS = [
    "betas swapped",
    "1 - beta dropped",
    "1 - beta2 of another dtype",
    "g not squared",
    "t from 0",
    "no bias correction",
    "eps inside the root",
    "eps before the correction",
]
FAULTS = {
    **{f"adam: {fault}": ("adam", adam_fault(fault)) for fault in ADAM_FAULTS},
    "sgd: uphill": ("sgd", lambda lr, n: lift(lambda g, *, t, rate: (rate * g,), {}, lr)),
    "momentum: damped": ("momentum", one_memory(damped)),
    "nesterov: not looking ahead": ("nesterov", one_memory(not_looking_ahead)),
    "rmsprop: eps in the root": ("rmsprop", one_memory(rmsprop_eps_in_root)),
    "rmsprop: yesterday's average": ("rmsprop", one_memory(rmsprop_old_average)),
    "adagrad: eps outside the root": ("adagrad", one_memory(adagrad_eps_outside, 0.1)),
    "adagrad: from zero": ("adagrad", one_memory(adagrad_right, 0.0)),
    "adamw: coupled": ("adamw", coupled),
    "adamw: decays all": ("adamw", lambda lr, n: adamw(lr, **n, mask=everything)),
    "adamw: decay without rate": (
        "adamw",
        lambda lr, n: adamw(lr, **{**n, "weight_decay": n["weight_decay"] / lr}),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_comparison_catches_planted_faults(fault):
    name, mutant = FAULTS[fault]
    numbers, rate = arrays(CASES[name].numbers, jnp.float32), jnp.float32(0.05)
    theirs = trajectory(lambda: CASES[name].optax(rate, **numbers), "standard")
    promotion = "standard" if fault == "adamw: coupled" else "strict"
    assert (
        worst(trajectory(lambda: mutant(rate, numbers), promotion), theirs) > 2 * SAME[jnp.float32]
    )


def test_the_comparison_accepts_the_rules_it_planted_faults_in():
    for name, right in [("adam", adam_fault(None)), ("adagrad", one_memory(adagrad_right, 0.1))]:
        numbers = arrays(CASES[name].numbers, jnp.float32)
        theirs = trajectory(lambda: CASES[name].optax(jnp.float32(0.05), **numbers), "standard")  # noqa: B023
        ours = trajectory(lambda: right(jnp.float32(0.05), numbers))  # noqa: B023
        assert worst(ours, theirs) < SAME[jnp.float32]


def test_a_schedule_one_step_late_is_caught():
    rate = make_rate("schedule", jnp.float32)
    theirs = trajectory(lambda: optax.sgd(rate), "standard")
    assert worst(trajectory(lambda: sgd(lambda step: rate(step - 1))), theirs) > 1e-2


# The conformance table.

CURVATURE = jnp.linspace(0.5, 2.0, 4)


def quadratic_gradient(params):
    """Of ½ Σ curvature · (p − minimum)²; the minimum is 0 for w, so that decay does not move it."""
    affine, norm = params["affine"], params["norm"]
    return {
        "affine": {"w": CURVATURE[None, :] * affine["w"], "b": CURVATURE * (affine["b"] - 1)},
        "norm": {"scale": CURVATURE * (norm["scale"] + 1)},
    }


@conformance
def test_converges_on_a_quadratic(family, name):
    build, promotion = family_of(family)
    # Adagrad's own rates fall like 1/sqrt(t): a larger one for it.
    rate = schedules.cosine(jnp.float32(1.0 if name == "adagrad" else 0.1), total_steps=300)

    def solve(params):
        rule = build(name, rate, arrays(CASES[name].numbers, jnp.float32))

        def body(carry, _):
            w, state = carry
            step, state = rule.update(quadratic_gradient(w), state, w)
            return (jax.tree.map(jnp.add, w, step), state), None

        return jax.lax.scan(body, (params, rule.init(params)), length=300)[0][0]

    with jax.numpy_dtype_promotion(promotion):
        solved = jax.jit(solve)(problem(jnp.float32)[0])
    # Rules that normalise the gradient step by about the rate however near the minimum is; under
    # the cosine the rate of the last twenty steps falls from 1e-3 to 0, and that is what remains.
    for error in jax.tree.leaves(quadratic_gradient(solved)):
        assert np.max(np.abs(error)) < 2e-3


@conformance
def test_other_values_compile_nothing(family, name):
    build, promotion = family_of(family)
    params, gradients = problem(jnp.float32)
    traces = 0

    @jax.jit
    def steps(rate, numbers, params, gradients):
        nonlocal traces
        traces += 1
        return run(build(name, rate, numbers), params, gradients)[0]

    with jax.numpy_dtype_promotion(promotion):
        numbers = arrays(CASES[name].numbers, jnp.float32)
        first = steps(jnp.float32(0.1), numbers, params, gradients)
        other = {key: value * 0.9 for key, value in numbers.items()}
        second = steps(jnp.float32(0.2), other, params, gradients)
    assert traces == 1
    assert not np.allclose(first["norm"]["scale"], second["norm"]["scale"])


def layout(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@conformance
def test_a_step_keeps_the_state_as_it_is(family, name, dtype):
    build, promotion = family_of(family)
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion(promotion):
        numbers = arrays(CASES[name].numbers, dtype)
        state_stays(build(name, jnp.asarray(0.1, dtype), numbers), dtype)


def state_stays(rule, dtype):
    """Take two steps; return the dtypes of the state."""
    params, gradients = problem(dtype)
    state = rule.init(params)
    before = layout(state)
    for _ in range(2):
        step, state = rule.update(jax.tree.map(lambda g: g[0], gradients), state, params)
        assert layout(state) == before
        assert layout(step) == layout(params)
    return {x.dtype.name for x in jax.tree.leaves(state)}


@pytest.mark.parametrize("name", CASES)
def test_bfloat16_parameters_have_bfloat16_steps_and_float32_memory(name):
    assert state_stays(OPTIMIZERS[name].build(0.1, {}), jnp.bfloat16) <= {"int32", "float32"}


@conformance
def test_scan_equals_a_python_loop(family, name):
    build, promotion = family_of(family)
    with jax.enable_x64(True), jax.numpy_dtype_promotion(promotion):
        rate, numbers = make_rate("schedule", jnp.float64), arrays(CASES[name].numbers, jnp.float64)
        rule = build(name, rate, numbers)
        params, gradients = problem(jnp.float64)
        scanned = jax.jit(lambda w, g: run(rule, w, g)[0])(params, gradients)
        state, update = rule.init(params), jax.jit(rule.update)
        for t in range(5):
            step, state = update(jax.tree.map(lambda g, t=t: g[t], gradients), state, params)
            params = jax.tree.map(jnp.add, params, step)
            for a, b in zip(jax.tree.leaves(step), jax.tree.leaves(scanned), strict=True):
                np.testing.assert_allclose(a, b[t], rtol=1e-12)


@conformance
def test_vmap_over_every_number_equals_solo_runs(family, name):
    """One sweep over all numbers, each with its own values, against one run after another."""
    build, promotion = family_of(family)
    with jax.enable_x64(True), jax.numpy_dtype_promotion(promotion):
        params, gradients = problem(jnp.float64)
        spread = jnp.array([1.0, 0.9, 0.7])
        numbers = {key: value * spread for key, value in CASES[name].numbers.items()}
        rates = 0.1 * spread

        def solo(rate, numbers):
            return run(build(name, rate, numbers), params, gradients)[0]

        together, alone = jax.jit(jax.vmap(solo))(rates, numbers), jax.jit(solo)
        for k in range(3):
            expected = alone(rates[k], {key: value[k] for key, value in numbers.items()})
            assert worst(jax.tree.map(lambda x, k=k: x[k], together), expected) < 1e-12


def test_each_number_alone_makes_a_difference():
    for name, case in CASES.items():
        params, gradients = problem(jnp.float32)

        def last(numbers, name=name, params=params, gradients=gradients):
            steps, _ = run(OPTIMIZERS[name].build(0.1, numbers), params, gradients)
            return steps["affine"]["w"][-1]

        for key in case.numbers:
            values = {**arrays(case.numbers, jnp.float32), key: case.numbers[key] * jnp.ones(2)}
            values[key] = values[key] * jnp.array([1.0, 0.8])
            axes = {k: 0 if k == key else None for k in values}
            one, other = jax.jit(jax.vmap(last, in_axes=(axes,)))(values)
            assert not np.allclose(one, other, rtol=1e-6), (name, key)


@pytest.mark.parametrize("name", CASES)
def test_a_row_keeps_zeros_as_it_says(name):
    """A sweep pads narrow nets with units whose parameters and gradients are exactly zero."""
    row, (_, gradients) = OPTIMIZERS[name], problem(jnp.float32)
    pad = {"affine": {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)}, "norm": {"scale": jnp.zeros(4)}}
    none = jax.tree.map(jnp.zeros_like, gradients)
    least = {n: 0.0 for n in row.hyperparameters if n not in row.above_zero}
    for numbers in (row.hyperparameters, least) if row.keeps_zeros else ():
        assert row.keeps_zeros_at(numbers)
        steps, _ = run(row.build(0.1, numbers), pad, none)
        assert not any(np.any(step) for step in jax.tree.leaves(steps))
    assert not any(row.keeps_zeros_at({**least, n: 0.0}) for n in row.above_zero)


@pytest.mark.parametrize("name", CASES)
def test_a_row_counts_its_arrays_of_state(name):
    """The memory of a network is estimated from it."""
    state = OPTIMIZERS[name].build(0.1, {}).init({"w": jnp.ones((3, 4))})
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(state)]
    assert sorted(shapes) == [(), *[(3, 4)] * OPTIMIZERS[name].state_arrays]


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_elementwise_as_it_says(name):
    """Blocks of a layer are updated as layers of their own."""
    row, (params, gradients) = OPTIMIZERS[name], problem(jnp.float32)
    whole, _ = run(row.build(0.1, {}), params, gradients)
    part = jax.tree.map(lambda leaf: leaf[..., :2], (params, gradients))
    steps, _ = run(row.build(0.1, {}), *part)
    expected = jax.tree.map(lambda leaf: leaf[..., :2], whole)
    same = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-6, atol=0), steps, expected)
    assert all(jax.tree.leaves(same)) or not row.is_elementwise


def test_who_promises_nothing_is_neither_padded_nor_cut():
    """A rule that a user hands in, or a row without promises."""
    nothing = OptimizerRule(OPTIMIZERS["sgd"].build, {})
    assert not nothing.keeps_zeros_at({})
    assert not nothing.is_elementwise
    assert configure(optimizer=optax.sgd(0.1)).structure.rule is None
    assert configure(optimizer="sgd").structure.rule is OPTIMIZERS["sgd"]


@pytest.mark.parametrize("name", CASES)
def test_python_numbers_and_arrays_are_the_same_algorithm(name):
    """To the last bit, op by op (a compiler may fold constants of either kind differently)."""
    params, gradients = problem(jnp.float32)
    ends = []
    for numbers in (CASES[name].numbers, arrays(CASES[name].numbers, jnp.float32)):
        rule = OPTIMIZERS[name].build(0.05, numbers)
        state = rule.init(params)
        for t in range(3):
            step, state = rule.update(jax.tree.map(lambda g, t=t: g[t], gradients), state, params)
        ends.append((step, state))
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_bfloat16_parameters_are_averaged_in_float32():
    """After 2000 gradients of 1 the second moment is 0.865; in bfloat16 (0.999 = 1) it is 0."""
    params = {"w": jnp.zeros(1, jnp.bfloat16)}
    ones = {"w": jnp.ones((2000, 1), jnp.bfloat16)}
    _, state = jax.jit(lambda w, g: run(adam(1e-3), w, g))(params, ones)
    np.testing.assert_allclose(state.memory["v"]["w"], 1 - 0.999**2000, rtol=1e-3)


def test_every_optimizer_composes_with_optax():
    params, gradients = problem(jnp.float32)
    rule = optax.chain(optax.clip_by_global_norm(1e-3), momentum(0.1))
    with jax.numpy_dtype_promotion("standard"):
        step, _ = rule.update(jax.tree.map(lambda g: g[0], gradients), rule.init(params), params)
    np.testing.assert_allclose(optax.tree.norm(step), 1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_works_on_an_empty_tree(name):
    rule = OPTIMIZERS[name].build(0.1, {})
    step, state = rule.update({}, rule.init({}), {})
    assert step == {}
    assert state.count == 1


def test_the_table_has_the_documented_defaults():
    adams = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert {name: rule.hyperparameters for name, rule in OPTIMIZERS.items()} == {
        "sgd": {},
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9},
        "rmsprop": {"rms_decay": 0.99, "eps": 1e-8},
        "adam": adams,
        "adamw": {**adams, "weight_decay": 1e-2},
        "adagrad": {"eps": 1e-7},
    }


def test_numbers_of_other_parts_in_the_mapping_are_ignored():
    params, gradients = problem(jnp.float32)
    both = [
        OPTIMIZERS["momentum"].build(0.1, numbers)
        for numbers in ({"momentum": 0.9}, {"learning_rate": 3.0, "l2": 0.5, "beta1": 0.1})
    ]
    jax.tree.map(np.testing.assert_array_equal, *(run(rule, params, gradients) for rule in both))


W = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: find_optimizer("adm"), r"unknown optimizer 'adm': did you mean 'adam'\?"),
        (
            lambda: sgd(0.1).update({"w": W["w"]}, sgd(0.1).init(W), W),
            r"expected PyTreeDef\(\{'b': \*, 'w': \*\}\), got PyTreeDef\(\{'w': \*\}\)",
        ),
        (
            lambda: momentum(0.1).update({"w": W["w"]}, momentum(0.1).init(W)),
            r"expected .*'b'.*, got .*\{'w': \*\}",
        ),
        (
            lambda: sgd(0.1).update({**W, "b": jnp.ones((1, 3))}, sgd(0.1).init(W), W),
            r"gradient of params\['b'\] has shape \(1, 3\), the parameter \(3,\)",
        ),
        (
            lambda: adam(0.1, beta1=jnp.ones(3)).update(W, adam(0.1).init(W), W),
            r"beta1: expected a finite number, got an array float32\[3\].*vmap",
        ),
        (lambda: adamw(0.1).update(W, adamw(0.1).init(W)), "adamw .*needs them"),
        (lambda: adamw(0.1).init({"W1": W["w"]}), r'called "w", and there is none in .*W1.*mask='),
        (lambda: adam(0.1).init({"w": jnp.ones(3, jnp.int32)}), r"dtype int32 and shape \(3,\)"),
    ],
)
def test_errors_say_what_to_change(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        wrong()
