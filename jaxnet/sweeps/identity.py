"""What a result is the result of: one digest for each configuration of a job."""

import hashlib
import json
from typing import Any, NamedTuple

from jaxnet.configuration import Configuration
from jaxnet.custom_model import source_of
from jaxnet.sweeps.job import Job

# Where the rate does not depend on how long a run is, a shorter run is the beginning of a longer.
OPEN_ENDED = ("constant", "exponential", "step")


def settings_of(configuration: Configuration) -> dict[str, Any]:
    """Return the settings as they come back from a file: JSON's types only."""
    return json.loads(json.dumps(configuration.to_dict(), default=str))


class Identity(NamedTuple):
    """Of one configuration: its settings as JSON has them, and digests of what decides its result.

    `key` is of settings and length; data, versions and split are those of the run folder. `name`,
    by which its network is kept, leaves out the length where a shorter run is the beginning of a
    longer one (`open_ended`).
    """

    settings: dict[str, Any]
    key: str
    name: str
    open_ended: bool


def identify(job: Job) -> list[Identity]:
    """Return the identity of each configuration of a job.

    A halving changes none: it only ends runs early.
    """
    rule = {"steps": job.steps, "patience": job.patience}
    if job.patience is not None:
        rule["evaluations"] = job.evaluations
    found = []
    for configuration in job.configurations():
        settings = settings_of(configuration)
        identity = _identity(configuration, settings)
        key = _digest({**identity, **rule})
        open_ended = configuration.structure.schedule in OPEN_ENDED and job.patience is None
        found.append(Identity(settings, key, _digest(identity) if open_ended else key, open_ended))
    return found


def _identity(configuration: Configuration, settings: dict[str, Any]) -> dict[str, Any]:
    optimizer = configuration.structure.optimizer
    if not callable(optimizer):
        return settings
    return {**settings, "optimizer": [settings["optimizer"], source_of(optimizer)]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
