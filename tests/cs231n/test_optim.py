import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet.cs231n import optim
from jaxnet.errors import ConfigurationError

RULES = ["sgd", "sgd_momentum", "rmsprop", "adam"]


def by_hand(rule, w, dw, c):
    """The four rules on Python floats, one element at a time, from their papers."""
    w, dw = np.asarray(w, np.float64), np.asarray(dw, np.float64)
    out, state = np.empty_like(w), {k: np.empty_like(w) for k in ("velocity", "cache", "m", "v")}
    for i in np.ndindex(w.shape):
        x, g = float(w[i]), float(dw[i])
        if rule == "sgd":
            out[i] = x - c["learning_rate"] * g
        elif rule == "sgd_momentum":
            step = c["momentum"] * float(c["velocity"][i]) - c["learning_rate"] * g
            out[i], state["velocity"][i] = x + step, step
        elif rule == "rmsprop":
            s = c["decay_rate"] * float(c["cache"][i]) + (1 - c["decay_rate"]) * g * g
            out[i] = x - c["learning_rate"] * g / (math.sqrt(s) + c["epsilon"])
            state["cache"][i] = s
        else:
            t = c["t"] + 1
            m = c["beta1"] * float(c["m"][i]) + (1 - c["beta1"]) * g
            v = c["beta2"] * float(c["v"][i]) + (1 - c["beta2"]) * g * g
            m_hat, v_hat = m / (1 - c["beta1"] ** t), v / (1 - c["beta2"] ** t)
            out[i] = x - c["learning_rate"] * m_hat / (math.sqrt(v_hat) + c["epsilon"])
            state["m"][i], state["v"][i] = m, v
    return out, state


def the_notebooks_arrays():
    shape = (4, 5)
    return {
        "w": np.linspace(-0.4, 0.6, 20).reshape(shape),
        "dw": np.linspace(-0.6, 0.4, 20).reshape(shape),
        "velocity": np.linspace(0.6, 0.9, 20).reshape(shape),
        "cache": np.linspace(0.6, 0.9, 20).reshape(shape),
        "m": np.linspace(0.6, 0.9, 20).reshape(shape),
        "v": np.linspace(0.7, 0.5, 20).reshape(shape),
    }


def full_config(rule, dtype=np.float64):
    arrays, config = the_notebooks_arrays(), dict(optim.DEFAULTS[rule])
    config = {k: arrays[k].astype(dtype) if k in arrays else v for k, v in config.items()}
    config["learning_rate"] = 1e-2
    return config | ({"t": 5} if rule == "adam" else {})


@pytest.mark.parametrize("rule", RULES)
def test_the_notebooks_step_is_the_papers(rule):
    a, config = the_notebooks_arrays(), full_config(rule)
    expected, state = by_hand(rule, a["w"], a["dw"], config)
    next_w, returned = optim.get(rule)(a["w"], a["dw"], config)
    assert returned is config
    assert next_w.dtype == np.float64
    assert next_w.flags.writeable
    np.testing.assert_allclose(next_w, expected, rtol=1e-13)
    for key in config.keys() & state.keys():
        assert type(config[key]) is np.ndarray
        np.testing.assert_allclose(config[key], state[key], rtol=1e-13)
    if rule == "adam":
        assert config["t"] == 6
        assert type(config["t"]) is int
    np.testing.assert_array_equal(a["w"], the_notebooks_arrays()["w"])  # not in place


def test_first_and_last_published_value():
    """The corners that the course's notebook prints for its momentum check, to its digits."""
    a = the_notebooks_arrays()
    config = {"learning_rate": 1e-3, "velocity": a["velocity"]}
    next_w, _ = optim.sgd_momentum(a["w"], a["dw"], config=config)
    np.testing.assert_allclose([next_w[0, 0], next_w[-1, -1]], [0.1406, 1.4096], atol=1e-8)
    np.testing.assert_allclose(config["velocity"][[0, -1], [0, -1]], [0.5406, 0.8096], atol=1e-8)


@pytest.mark.parametrize("rule", RULES)
def test_defaults_are_the_courses_and_a_run_matches_by_hand(rule):
    rng = np.random.default_rng(0)
    w, config = rng.normal(size=(3, 2)), {}
    mine = w.copy()
    for step in range(5):
        dw = rng.normal(size=w.shape)
        if step == 0:
            w, config = optim.get(rule)(w, dw)
            old = {k: np.zeros((3, 2)) if v is optim.ZEROS else v for k, v in full(rule).items()}
        else:
            w, config = optim.get(rule)(w, dw, config)
        mine, state = by_hand(rule, mine, dw, old)
        old |= {k: v for k, v in state.items() if k in old}
        old |= {"t": old["t"] + 1} if "t" in old else {}
        np.testing.assert_allclose(w, mine, rtol=1e-12)
    assert config["learning_rate"] == {"adam": 1e-3}.get(rule, 1e-2)


def full(rule):
    defaults = {"learning_rate": 1e-2, "momentum": 0.9, "decay_rate": 0.99, "epsilon": 1e-8}
    defaults |= {"beta1": 0.9, "beta2": 0.999, "t": 0}
    defaults |= dict.fromkeys(("velocity", "cache", "m", "v"), optim.ZEROS)
    defaults |= {"learning_rate": 1e-3} if rule == "adam" else {}
    return {k: v for k, v in defaults.items() if k in optim.DEFAULTS[rule]}


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        ("sgd", lambda: optax.sgd(0.1)),
        ("sgd_momentum", lambda: optax.sgd(0.1, momentum=0.9)),
        ("rmsprop", lambda: optax.rmsprop(0.1, decay=0.99, eps=1e-8, eps_in_sqrt=False)),
        ("adam", lambda: optax.adam(0.1)),
    ],
)
def test_agrees_with_optax(rule, theirs):
    rng = np.random.default_rng(1)
    w, config = rng.normal(size=4), {"learning_rate": 0.1}
    gradients = [rng.normal(size=4) for _ in range(6)]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        optimizer, params = theirs(), jnp.asarray(w)
        state = optimizer.init(params)
        for g in gradients:
            updates, state = optimizer.update(jnp.asarray(g), state, params)
            params = params + updates
    for g in gradients:
        w, config = optim.get(rule)(w, g, config)
    np.testing.assert_allclose(w, params, rtol=1e-7)  # optax rounds 0.999 to float32


@pytest.mark.parametrize("rule", RULES)
def test_float32_stays_and_is_as_close_as_numpy(rule):
    a, config = the_notebooks_arrays(), full_config(rule, np.float32)
    config["learning_rate"] = np.float64(0.01)  # as 10 ** np.random.uniform(...) is
    expected, _ = by_hand(rule, a["w"], a["dw"], config)
    next_w, config = optim.get(rule)(a["w"].astype("f4"), a["dw"].astype("f4"), config)
    assert next_w.dtype == np.float32
    assert all(v.dtype == np.float32 for v in config.values() if np.ndim(v))
    np.testing.assert_allclose(next_w, expected, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rules_run_inside_a_compiled_scan(rule, dtype):
    """As Solver uses them: numbers as 0-d arrays of float64, weights of any dtype, strict flags."""
    rng = np.random.default_rng(2)
    w, gradients = rng.normal(size=3).astype(dtype), rng.normal(size=(4, 3)).astype(dtype)
    config = optim.defaults(rule, w, {})
    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.array, config)

        @jax.jit
        def run(w, config):
            step = optim.RULES[rule]
            return jax.lax.scan(lambda c, g: (step(c[0], g, c[1]), None), (w, config), gradients)[0]

        got, state = run(jnp.array(w), arrays)
        assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, arrays)
        assert got.dtype == dtype
    for g in gradients:
        w, config = optim.get(rule)(w, g, config)
    np.testing.assert_allclose(got, w, rtol=1e-6 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("planted", ["sign", "no correction", "t too late", "not squared"])
def test_a_planted_fault_in_adam_would_show(planted, monkeypatch):
    def wrong(w, dw, c):
        t = c["t"] + (0.0 if planted == "t too late" else 1.0)
        m = c["beta1"] * c["m"] + (1 - c["beta1"]) * dw
        v = c["beta2"] * c["v"] + (1 - c["beta2"]) * (dw if planted == "not squared" else dw**2)
        if planted != "no correction":
            m, v = m / (1 - c["beta1"] ** t), v / (1 - c["beta2"] ** t)
        step = c["learning_rate"] * m / (jnp.sqrt(v) + c["epsilon"])
        return w + (step if planted == "sign" else -step), c

    a, config = the_notebooks_arrays(), full_config("adam")
    expected, _ = by_hand("adam", a["w"], a["dw"], config)
    monkeypatch.setitem(optim._COMPILED, "adam", optim.compiled(wrong))
    next_w, _ = optim.adam(a["w"], a["dw"], config)
    assert abs(next_w - expected).max() > 1e-7


def test_integer_weights_count_as_float64():
    next_w, _ = optim.sgd(np.array([1, 2]), np.array([1, 1]), {"learning_rate": 0.5})
    assert next_w.tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("rule", "config", "match"),
    [
        ("sgd", {"learning_rat": 1}, "unknown key in the config of sgd 'learning_rat': did you m"),
        ("sgd", {"lr": 1}, "'lr'. Known: learning_rate"),
        ("sgd", {"momentum": 0.9}, r"\(momentum belongs to sgd_momentum\)"),
        ("sgd", {"learning_rate": -1e-3}, "learning_rate as a number that is finite and not neg"),
        ("sgd", {"learning_rate": None}, "learning_rate as a number .*, got None"),
        ("sgd", {"learning_rate": "0.1"}, "got '0.1'"),
        ("sgd", {"learning_rate": math.nan}, "got nan"),
        ("sgd", {"learning_rate": np.ones(2)}, "got array"),
        ("sgd_momentum", {"velocity": np.zeros(3)}, r"velocity must have .* got \(3,\) for w \(2,"),
        ("rmsprop", {"cache": 0.0}, r"cache must have the shape of w, got \(\)"),
        ("rmsprop", {"decay_rate": 1.5}, "decay_rate as a number from 0 to 1, got 1.5"),
        ("adam", {"m": np.zeros((2, 1))}, "m must have the shape"),
        ("adam", {"beta1": 1.0}, "beta1 as a number from 0 to below 1"),
        ("adam", {"beta2": 99}, "beta2 as a number from 0 to below 1"),
        ("adam", {"t": 0.5}, "t as a number of steps"),
        ("adam", {"t": -1}, "t as a number of steps"),
    ],
)
def test_mistakes_in_the_config_are_named(rule, config, match):
    with pytest.raises(ConfigurationError, match=match):
        optim.get(rule)(np.zeros(2), np.zeros(2), config)


def test_other_mistakes_are_named():
    with pytest.raises(ConfigurationError, match=r"w \(2, 3\) and dw \(3, 2\)"):
        optim.adam(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ConfigurationError, match="'sgd_momentun': did you mean 'sgd_momentum'"):
        optim.get("sgd_momentun")
    with pytest.raises(ConfigurationError, match="unknown update rule 'momentum'"):
        optim.defaults("momentum", np.zeros(2), {})
    with pytest.raises(ConfigurationError, match="dw: expected an array of real numbers, got None"):
        optim.sgd(np.zeros(2), None)


@pytest.mark.parametrize("rule", RULES)
def test_another_number_or_step_does_not_compile_anew(rule, monkeypatch):
    traces = []

    def traced(w, dw, config):
        traces.append(1)
        return optim.RULES[rule](w, dw, config)

    monkeypatch.setitem(optim._COMPILED, rule, optim.compiled(traced))
    w, dw, config = np.zeros(7), np.ones(7), {}
    for rate in (0.1, 0.2, 0.3):
        config["learning_rate"] = rate
        w, config = optim.get(rule)(w, dw, config)
    assert len(traces) == 1
