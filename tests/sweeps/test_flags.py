"""Flags of the process change neither the results of a run nor whether it survives."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxnet
from jaxnet.errors import RunFolderError
from jaxnet.training.numerics import compiler_flags
from jaxnet.verbs import sweep

# What a user may have set, each with a context manager of JAX's.
FLAGS = {
    "threefry_partitionable": [False],
    "default_prng_impl": ["rbg", "unsafe_rbg"],
    "enable_custom_prng": [True],
    "legacy_prng_key": ["error"],
    "softmax_custom_jvp": [True],
    "enable_x64": [True],
    "default_matmul_precision": ["bfloat16", "float32"],
    "numpy_dtype_promotion": ["standard", "strict"],
    "numpy_rank_promotion": ["allow", "raise"],
    "disable_jit": [True],
    "debug_nans": [True],
    "debug_infs": [True],
    "debug_key_reuse": [True],
    "check_tracer_leaks": [True],
    "enable_checks": [True],
    "log_compiles": [False],
    "transfer_guard": ["log", "disallow", "disallow_explicit"],
}
SET = [(name, value) for name, values in FLAGS.items() for value in values]


def init(key, width=4):
    return {"w": jax.random.normal(key, (12, width)), "v": jnp.zeros((width, 3), jnp.float32)}


@jax.custom_vjp
def halved(x):
    return 0.5 * x


halved.defvjp(lambda x: (halved(x), ()), lambda _, d: (np.float32(0.5) * d,))


def loss(params, x, labels, key, rate=0.1):
    """Mix ranks and dtypes, draw by the default implementation, and say softmax."""
    noise = 0.0 if key is None else jax.random.normal(jax.random.key(3), (len(x), 1))
    h = x.reshape(len(x), -1) @ params["w"] + rate * noise + np.arange(params["w"].shape[1])
    scores = halved(jnp.tanh(h)) @ params["v"] + np.ones(3)
    shares = jax.nn.softmax(scores)
    return -jnp.log(shares[jnp.arange(len(x)), labels]).mean(), scores


def mixing(rate, numbers):
    """An optimizer whose state and update need the promotion of dtypes and ranks."""

    def begin(params):
        return jax.tree.map(lambda p: jnp.zeros((1, *p.shape), jnp.float32) + np.ones(1), params)

    def update(grads, state, params=None):
        state = jax.tree.map(lambda s, g: np.float32(0.9) * s + g, state, grads)
        return jax.tree.map(lambda s: (-rate * s)[0] * np.int32(1), state), state

    return optax.GradientTransformation(begin, update)


# All that draws, that diverges, and that is a user's. Replicates have minibatches of their own.
NETWORKS = [
    {"learning_rate": 0.1, "dropout": 0.3},
    {"learning_rate": 1e30, "dropout": 0.3},
    {"norm": "batch", "sampling": "shuffled", "optimizer": "adam"},
    {"precision": "float64"},
    {"optimizer": mixing},
]
RATES = [{"learning_rate": 0.1}, {"learning_rate": 1e30}]


def both(data, out=None):
    """Return the rows and test accuracies of jaxnet's own networks and of a model."""
    options = {"steps": 6, "batch_size": 10, "validation": 37, "replicates": 2}
    ours = sweep(NETWORKS, data, out=out, hidden=[5], **options)
    return ours, sweep(RATES, data, model=jaxnet.Model(init, loss), **options)


@pytest.fixture(scope="module")
def undisturbed(data, outcomes):
    found = both(data)
    assert all({row.outcome.kind for row in one.rows} == {"ok", "diverged"} for one in found)
    return [(outcomes(one), one.test_accuracy) for one in found]


@pytest.mark.parametrize(("name", "value"), SET, ids=str)
def test_a_flag_changes_no_bit(data, outcomes, undisturbed, name, value):
    before = getattr(jax.config, f"jax_{name}", None)
    with getattr(jax, name)(value):
        found = both(data)
    assert [(outcomes(one), one.test_accuracy) for one in found] == undisturbed
    assert getattr(jax.config, f"jax_{name}", None) == before


def test_a_flag_changes_nothing_of_a_folder(data, tmp_path):
    """Networks are stored, read, trained on and asked under a flag that forbids all that."""
    options = {"batch_size": 10, "validation": 37, "hidden": [5], "out": tmp_path / "run"}
    with jax.transfer_guard("disallow_explicit"), jax.enable_x64(True):
        sweep(RATES[:1], data, steps=3, **options)
        found = sweep(RATES, data, steps=6, keep=None, **options)
        scores = jaxnet.Network.load(tmp_path / "run" / "best.safetensors").scores(data.test_images)
    assert [row.outcome.kind for row in found.rows] == ["ok", "diverged"]
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, found.network.scores(data.test_images))


def test_flags_that_nothing_can_pin_stand_among_the_versions(data, tmp_path, monkeypatch):
    out, options = tmp_path / "run", {"steps": 3, "batch_size": 10, "hidden": []}
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=dump --xla_cpu_b=2 --xla_cpu_a=1")
    assert compiler_flags() == {"XLA_FLAGS": "--xla_cpu_a=1 --xla_cpu_b=2"}
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=dump")
    assert compiler_flags() == {}
    sweep([{}], data, out=out, **options)
    before = (out / "config.json").read_bytes()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.raises(RunFolderError, match=r"versions\.XLA_FLAGS was None, now is '--xla_cpu_en"):
        sweep([{}], data, out=out, **options)
    monkeypatch.delenv("XLA_FLAGS")
    jax.config.update("jax_random_seed_offset", 1)
    try:
        with pytest.raises(RunFolderError, match=r"jax_random_seed_offset was None, now is '1'"):
            sweep([{}], data, out=out, **options)
    finally:
        jax.config.update("jax_random_seed_offset", 0)
    assert (out / "config.json").read_bytes() == before


@pytest.mark.slow
def test_flags_of_the_environment_change_no_bit(tmp_path):
    """As a user sets them; one folder goes on under another flag."""
    script = (
        "import sys, jaxnet\n"
        "rates = [float(rate) for rate in sys.argv[2:]]\n"
        "jaxnet.sweep(jaxnet.grid(learning_rate=rates), steps=20, batch_size=20, hidden=(8,),"
        " dropout=0.2, validation=500, out=sys.argv[1])"
    )

    def table(out, rates, **flags):
        arguments = [sys.executable, "-c", script, str(tmp_path / out), *rates]
        subprocess.run(arguments, env={**os.environ, **flags}, check=True, timeout=120)
        return (tmp_path / out / "results.csv").read_bytes()

    flags = {
        "JAX_THREEFRY_PARTITIONABLE": "0",
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_ENABLE_X64": "1",
        "JAX_DEBUG_NANS": "1",
        "JAX_DEBUG_INFS": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
    }
    assert table("flags", ["0.1", "0.01"], **flags) == table("none", ["0.1", "0.01"])
    table("grown", ["0.1"])
    table("mixed", ["0.1"], **flags)
    assert table("mixed", ["0.1", "0.01"]) == table("grown", ["0.1", "0.01"], **flags)
