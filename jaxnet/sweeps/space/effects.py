"""Settings that change nothing: told from the traced functions, and refused by name."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jaxnet.errors import ConfigurationError
from jaxnet.schedules import SCHEDULES
from jaxnet.sweeps.space.job import Job
from jaxnet.training.settings import Configuration, Structure, users_of


class Uses(NamedTuple):
    """The numbers that a user's model and optimizer use; None: no such function to ask."""

    model: set[str] | None
    optimizer: set[str] | None


def check_effects(job: Job, uses: Mapping[Structure, Uses]) -> None:
    """Raise ConfigurationError for a setting that is given and changes nothing.

    Networks that differ in nothing but such a setting would all be the same, and one of them would
    be called the best.
    """
    for configuration, given in _given(job) if uses else ():
        structure = configuration.structure
        model, optimizer = uses.get(structure, Uses(None, None))
        if model is not None:
            _check_model_numbers(structure, given, model)
        if optimizer is not None:
            _check_optimizer_numbers(configuration, given, optimizer)
    own = [c for c in job.configurations() if c.structure.model is None]
    given = {name for _, names in _given(job) for name in names} if own else set()
    empty = [not c.structure.hidden and "hidden" in c.structure.row.settings for c in own]
    if own and all(empty):
        for name in ("activation", "norm", "dropout"):
            if name in given:
                raise ConfigurationError(
                    f"{name} is used by hidden layers, and hidden=() has none: remove it, or give "
                    f"hidden layers"
                )
    if len({c.structure.l2_convention for c in own}) > 1 and not any(c.numbers["l2"] for c in own):
        raise ConfigurationError(
            "l2_convention says which penalty l2 is, and l2 is 0 in every configuration: remove "
            "it, or set l2"
        )


def _given(job: Job) -> Iterator[tuple[Configuration, set[str]]]:
    """Return each configuration, seeds apart, with the names of the settings that were given."""
    configurations = job.configurations()[:: job.replicates]
    for configuration, own in zip(configurations, job.space.settings(job.seed), strict=True):
        yield configuration, {*job.settings, *own}


def _check_model_numbers(structure: Structure, given: Iterable[str], used: set[str]) -> None:
    assert structure.model is not None
    traced = structure.model.value.defaults.keys() - structure.static_arguments.keys()
    for name in given:
        if name in traced and name not in used:
            raise ConfigurationError(
                f"{name} is an argument of the model, and neither its init nor its loss uses it: "
                f"remove it, or use it"
            )


def _check_optimizer_numbers(
    configuration: Configuration, given: Iterable[str], used: set[str]
) -> None:
    """Refuse what only an optimizer reads, or only by way of a learning rate, if it does not."""
    of_rate = {"learning_rate", "schedule"}.union(*(s.hyperparameters for s in SCHEDULES.values()))
    of_schedule = SCHEDULES[configuration.structure.schedule].hyperparameters
    optimizer = configuration.to_dict()["optimizer"]
    for name in given:
        users = users_of(name)
        if name in used or (name not in of_rate and not users):
            continue
        if name in (*of_schedule, "learning_rate", "schedule") and "learning_rate" in used:
            continue
        if name in of_rate and "learning_rate" not in used:
            raise ConfigurationError(
                f"{name} is used by every optimizer that is given by its name, not by optimizer "
                f"{optimizer}, whose learning rate is its own: remove it, or write the optimizer "
                f"as a function (learning_rate, numbers) that uses it"
            )
        raise ConfigurationError(
            f"{name} is used by {', '.join(users)}, not by optimizer {optimizer} with schedule "
            f"{configuration.structure.schedule!r}: remove it, or choose one of those"
        )
