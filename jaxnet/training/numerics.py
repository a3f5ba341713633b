"""JAX's numerics for one precision, whatever the program around has set.

What a flag of JAX could do to a run is shut out here, in one of two ways: `numerics` sets the flag
for as long as jaxnet computes, or `compiler_flags` tells of it, and run folders compare that.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnet.kernels.form import CPU, Form, changed_form, default_platform
from jaxnet.training.settings import Net
from jaxnet.values.identified import Identified, traced_for

# Each has a context manager of its name in `jax`. The first decide what is drawn, the others
# whether a run survives: a network that diverges has NaN by right, and keys are used twice where
# configurations are to draw the same.
_PINNED = {
    "threefry_partitionable": True,
    "default_prng_impl": "threefry2x32",
    "enable_custom_prng": False,
    "legacy_prng_key": "allow",
    "softmax_custom_jvp": False,
    "disable_jit": False,
    "debug_nans": False,
    "debug_infs": False,
    "debug_key_reuse": False,
    "check_tracer_leaks": False,
    "enable_checks": False,
    "no_tracing": False,
    "no_execution": False,
    "transfer_guard": "allow",
}

# No context manager sets these. Their defaults are those of every JAX that is supported.
_COMPILER_FLAGS = {
    "jax_disable_most_optimizations": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_optimization_level": "UNKNOWN",
    "jax_compiler_enable_remat_pass": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
}


@contextlib.contextmanager
def pinned_flags() -> Iterator[None]:
    """Set JAX's flags that change draws, or end a run that they are meant to debug."""
    with contextlib.ExitStack() as flags:
        for name, value in _PINNED.items():
            if hasattr(jax, name):  # a JAX without the flag has nothing to set
                flags.enter_context(getattr(jax, name)(value))
        yield


@contextlib.contextmanager
def numerics(precision: str) -> Iterator[None]:
    """Set JAX's global numerics for one precision of `Structure`, whatever they were."""
    with (
        pinned_flags(),
        jax.enable_x64(precision == "float64"),
        changed_form(precision=precision),
    ):
        yield


def program_form(net: Net, platform: str | None = None) -> Form:
    """Return the form of the programs of a net; platform None: this process computes on it.

    Convolutions train in turn on CPUs, where a batched product costs more than its parts.
    """
    platform = platform or default_platform()
    return Form(
        precision=net.precision,
        platform=platform,
        side_by_side=not (net.row.is_convolutional and platform == CPU),
        batch_invariant=net.batch_invariant,
    )


@contextlib.contextmanager
def users_code(handed_in: Iterable[Identified]) -> Iterator[None]:
    """Trace what the user handed in under JAX's usual promotion, which strict flags would refuse.

    Functions that were traced before, when globals or attributes of theirs had other values, are
    traced anew.
    """
    with (
        traced_for(tuple(one.fingerprint for one in handed_in)),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def compiler_flags() -> dict[str, str]:
    """Return the flags that may change results by how programs are compiled, by name.

    Only flags of JAX and XLA that are not at their defaults; no flag that says where to dump.
    """
    found = {
        name: str(value)
        for name, default in _COMPILER_FLAGS.items()
        if (value := getattr(jax.config, name, default)) != default
    }
    xla = sorted({f for f in os.environ.get("XLA_FLAGS", "").split() if not _is_harmless(f)})
    return found | ({"XLA_FLAGS": " ".join(xla)} if xla else {})


def _is_harmless(flag: str) -> bool:
    return flag.startswith(("--xla_dump", "--xla_force_host_platform_device_count"))


def parameter_dtype(net: Net) -> Any:
    """Return the dtype of weights, sums and losses."""
    return jnp.float64 if net.precision == "float64" else jnp.float32
