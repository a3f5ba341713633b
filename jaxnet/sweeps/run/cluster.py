"""A Ray cluster to train on: which, what each task takes of it, and the connection to it.

.. include:: cluster.md
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxnet.arguments.checks import shown, whole
from jaxnet.errors import ConfigurationError


@dataclass(frozen=True)
class Ray:
    """A Ray cluster to train on, and what each task takes of it.

    `address` as `ray.init` takes it; None: the cluster of RAY_ADDRESS, or a cluster which runs on
    this machine, or one is started on it for the time of the sweep. `cpus` and `gpus` are of each
    task (`gpus` None: one where the cluster has any). The memory of a task, which Ray counts too,
    is `memory` of `sweep`, or half of the share of its node.
    """

    address: str | None = None
    cpus: int = 1
    gpus: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("cpus", 1), ("gpus", 0)):
            value = getattr(self, name)
            if name == "cpus" or value is not None:
                object.__setattr__(self, name, whole(f"{name} of a task", value, least))
        if self.address is not None and not isinstance(self.address, str):
            raise ConfigurationError(
                f"address: expected that of a Ray cluster, such as ray://HOST:10001, or None, got "
                f"{shown(self.address)}"
            )


def ray_from(on: "str | Ray | None") -> "Ray | None":
    """Return the cluster that a text names: "ray", or "ray://host:port"; ConfigurationError."""
    if on is None or isinstance(on, Ray):
        return on
    if on == "ray":
        return Ray()
    if isinstance(on, str) and on.startswith("ray://") and len(on) > len("ray://"):
        return Ray(on)
    raise ConfigurationError(
        f'on: expected "ray" (RAY_ADDRESS, a cluster on this machine, or a new one), '
        f'"ray://HOST:10001" or a jaxnet.sweeps.Ray, got {shown(on)}'
    )


def check_alone(**options: object) -> None:
    """Raise ConfigurationError for what needs the networks in this process."""
    for name, value in options.items():
        if value is not None:
            raise ConfigurationError(
                f"{name} is of sweeps in this process, and on= trains in others: leave one out"
            )


@contextlib.contextmanager
def connected(cluster: Ray) -> Iterator[None]:
    """Connect to a cluster, or start one; leave it as it was found."""
    # Nothing is reported to Ray's makers, and what is lost is told by us, unless the user says so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigurationError(
            "to train on a Ray cluster, install it: pip install 'jaxnet[ray]'"
        ) from error
    if ray.is_initialized():
        yield
        return
    # Of a cluster that is started.
    own: dict[str, Any] = {} if cluster.address else {"include_dashboard": False}
    try:
        ray.init(cluster.address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigurationError(
            f"on: cannot connect to Ray {cluster.address or ''}: {error}. Does the cluster run "
            f"(ray status), with the same versions of Ray and Python?"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
