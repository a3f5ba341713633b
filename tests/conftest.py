"""Strict flags for every test: a silent broadcast or a silent dtype promotion is a bug here."""

import signal
import tempfile

import jax
import numpy as np
import pytest

# Who starts the tests in the background of a script has them ignore Ctrl-C, and what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Several devices for the tests that ask for them (tests/sweeps/test_devices.py).
jax.config.update("jax_num_cpu_devices", 3)

# Most of the suite's time is compiling, much of it the same programs again under other function
# objects. A folder for each worker: entries are not written atomically, so none is shared.
_CACHE = tempfile.TemporaryDirectory(prefix="jaxnet-tests-", ignore_cleanup_errors=True)
jax.config.update("jax_compilation_cache_dir", _CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def pytest_sessionstart():
    """Divide no sweep among devices by itself: tests count programs and slots."""
    from jaxnet.sweeps.machine import rates  # not before annotations are checked, see addopts

    rates.CPU_SPLIT_MAX_FLOPS = 0.0


@pytest.fixture(autouse=True)
def own_draws(request, monkeypatch):
    """Begin a module's generator anew: what a test draws does not depend on those before it."""
    if hasattr(getattr(request.node, "module", None), "RNG"):
        monkeypatch.setattr(request.node.module, "RNG", np.random.default_rng(0))


@pytest.fixture(scope="module")
def quick_programs():
    """Compile with few optimizations, in half the time: both sides of a comparison alike.

    So neither finds the programs of files before, nor leaves its own to those that follow.
    """
    jax.clear_caches()
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
