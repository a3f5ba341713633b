"""What a result is the result of: one digest for each configuration of a job."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxnet.schedules import SCHEDULES
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.stopping import stopping_to_dict
from jaxnet.training.settings import Configuration
from jaxnet.values.identified import Identified, tell_apart


def settings_of(configuration: Configuration) -> dict[str, Any]:
    """Return the settings as they come back from a file: JSON's types only.

    What JSON has no form for is {"label": for people, "fingerprint": what it is known by}.
    """
    handed_in = configuration.structure.handed_in.items()
    stored = {
        name: {"label": one.label, "fingerprint": one.fingerprint}
        for name, one in handed_in
        if not one.is_plain
    }
    return json.loads(json.dumps({**configuration.to_dict(), **stored}))


class Identity(NamedTuple):
    """Of one configuration: its settings as JSON has them, and digests of what decides its result.

    `configuration` is of the settings alone, `key` of settings and length; data, versions and split
    belong to the run folder. `name`, by which its network is kept, leaves out the length where a
    shorter run is the beginning of a longer one (`open_ended`).
    """

    settings: dict[str, Any]
    configuration: str
    key: str
    name: str
    open_ended: bool


def identify(job: Job) -> list[Identity]:
    """Return the identity of each configuration of a job.

    A halving changes none: it only ends runs early.
    """
    length: dict[str, Any] = {"steps": job.steps}
    if job.stop is not None:
        length |= {"stop": stopping_to_dict(job.stop), "evaluations": job.evaluations}
    found = []
    for configuration in job.configurations():
        settings = settings_of(configuration)
        deciding = {name: _deciding(value) for name, value in settings.items()}
        key = _digest({**deciding, **length})
        # Where no rate depends on how long a run is, a shorter run is the beginning of a longer.
        open_ended = SCHEDULES[configuration.structure.schedule].open_ended and job.stop is None
        own = _digest(deciding)
        found.append(Identity(settings, own, key, own if open_ended else key, open_ended))
    return found


def shown(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return settings to read and to group rows by: labels, told apart where several are alike."""
    names = {name for one in settings for name, value in one.items() if isinstance(value, dict)}
    texts = {name: _texts([one.get(name) for one in settings]) for name in names}
    return [
        {
            name: texts[name][value["fingerprint"]] if isinstance(value, dict) else value
            for name, value in one.items()
        }
        for one in settings
    ]


def _texts(values: Sequence[Any]) -> dict[str, str]:
    """Return the text for each fingerprint among the values of a setting."""
    taken = {value for value in values if isinstance(value, str)}
    stored = [value for value in values if isinstance(value, dict)]
    # Of one fingerprint, the label of the last: a function may have been renamed.
    labels = {value["fingerprint"]: value["label"] for value in stored}
    ones = [Identified(None, text, fingerprint) for fingerprint, text in labels.items()]
    return tell_apart(ones, taken)


def _deciding(value: Any) -> Any:
    return {"fingerprint": value["fingerprint"]} if isinstance(value, dict) else value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]
