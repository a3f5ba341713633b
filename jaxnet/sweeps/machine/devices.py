"""The devices of this process that networks are divided among."""

import contextlib
import os
from typing import Any

import jax

from jaxnet.arguments.checks import whole
from jaxnet.errors import ConfigurationError

_CPU_DEVICES = "jax_num_cpu_devices"
MOST = 2**16  # of one process: a device of the CPU is made for each that is asked for


def fill(networks: int, devices: int) -> int:
    """Return the number of places for so many networks: a multiple of the devices.

    >>> fill(5, 2), fill(6, 2), fill(5, 1)
    (6, 6, 5)
    """
    return -(-networks // devices) * devices


def cpu_devices(count: int | None = None) -> None:
    """Ask JAX for so many CPU devices (default: one a core); too late once it has computed.

    Costs nothing where they are not used: the cores are the same.
    """
    if count is None and getattr(jax.config, _CPU_DEVICES) > 0:
        return  # somebody has said how many
    with contextlib.suppress(RuntimeError):
        jax.config.update(_CPU_DEVICES, count or usable_cores())


def usable_cores() -> int:
    """Return on how many cores this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_devices(count: int | None) -> list[Any]:
    """Return the first `count` devices of this process (None: all); ConfigurationError if fewer."""
    if count is None:
        return jax.local_devices()
    count = whole("devices", count, 1, MOST)
    if count > getattr(jax.config, _CPU_DEVICES):
        cpu_devices(count)
    found = jax.local_devices()
    if len(found) < count:
        kind = found[0].platform
        advice = f"ask for at most {len(found)}"
        if kind == "cpu":
            advice = (
                f'run jax.config.update("jax_num_cpu_devices", {count}) before JAX computes '
                f"anything, or set JAX_NUM_CPU_DEVICES={count}"
            )
        raise ConfigurationError(
            f"devices: this process has {len(found)} ({kind}), got {count}: {advice}"
        )
    return found[:count]
