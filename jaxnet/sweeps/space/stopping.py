"""Stopping rules: which networks end before their last step, judged by validation accuracies.

A new rule is a frozen dataclass here and a row of STOPPING_RULES. What job files, commands,
`config.json`, the keys of results, error texts and help say of it derives from the two.
"""

import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from jaxnet.arguments.checks import one_of, shown, whole
from jaxnet.errors import ConfigurationError


@runtime_checkable
class StoppingRule(Protocol):
    """A frozen dataclass whose fields are plain values, checked and converted when it is made.

    The docstring of a rule is its help. Every field belongs to the key of a result.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def stops(
        self, accuracies: Float[np.ndarray, "evaluations networks"]
    ) -> Bool[np.ndarray, "networks"]:
        """Return which networks stop now, given their validation accuracies at all evaluations.

        The networks are those of one chunk that still train, so the last row has no NaN. Where
        one was evaluated fewer times than another, its first rows are NaN. The answer for a
        network should depend on its own column alone, and on nothing else that changes: a killed
        run that goes on asks again.
        """
        ...


@dataclass(frozen=True)
class Patience:
    """Stop a network whose validation accuracy has not risen for so many evaluations.

    >>> Patience(2).stops(np.array([[0.5, 0.5], [0.6, 0.4], [0.7, 0.5]]))
    array([False,  True])
    """

    evaluations: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "evaluations", whole("patience: evaluations", self.evaluations, 1))

    def stops(
        self, accuracies: Float[np.ndarray, "evaluations networks"]
    ) -> Bool[np.ndarray, "networks"]:
        """Return which networks had their highest accuracy too long ago."""
        since_best = len(accuracies) - 1 - np.nanargmax(accuracies, axis=0)
        return since_best >= self.evaluations


STOPPING_RULES: dict[str, type[StoppingRule]] = {"patience": Patience}


def stopping_from(value: Any) -> StoppingRule | None:
    """Return the rule that a setting describes: None, a rule, or {its name: its fields}.

    The fields are a mapping, or one value, which is the first field's.

    >>> stopping_from({"patience": 4})
    Patience(evaluations=4)
    """
    if value is None or type(value) in STOPPING_RULES.values():
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ConfigurationError(
            f"stop: expected one rule, such as {{'patience': 4}}, got {shown(value)}. "
            f"Known: {', '.join(STOPPING_RULES)}"
        )
    ((name, given),) = value.items()
    rule = STOPPING_RULES[one_of("stopping rule", name, STOPPING_RULES)]
    fields = {field.name: field for field in dataclasses.fields(rule)}
    if not isinstance(given, Mapping):
        given = {next(iter(fields), ""): given}
    for key in given:
        one_of(f"key of stop.{name}", key, fields)
    for key, field in fields.items():
        if key not in given and field.default is dataclasses.MISSING:
            raise ConfigurationError(f"stop: {name} needs {key}, got {shown(given)}")
    return rule(**given)


def take_rule(settings: dict[str, Any], stop: Any) -> StoppingRule | None:
    """Return the rule that `stop` describes, or that is among the settings by its name alone.

    >>> take_rule({"patience": 4}, None)
    Patience(evaluations=4)
    """
    named = {name: settings.pop(name) for name in STOPPING_RULES if name in settings}
    named = {name: fields for name, fields in named.items() if fields is not None}
    if not named:
        return stopping_from(stop)
    if stop is not None:
        raise ConfigurationError(
            f"{next(iter(named))} and stop each give a stopping rule: remove one"
        )
    return stopping_from(named)


def stopping_to_dict(rule: StoppingRule) -> dict[str, Any]:
    """Return what `stopping_from` reads, every field by name.

    >>> stopping_to_dict(Patience(4))
    {'patience': {'evaluations': 4}}
    """
    name = next(name for name, kind in STOPPING_RULES.items() if type(rule) is kind)
    return {name: {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule)}}


def stopping_help() -> str:
    """Return every rule as a command has it, with the first paragraph of its docstring."""
    lines = []
    for name, rule in STOPPING_RULES.items():
        fields = [field.name for field in dataclasses.fields(rule)]
        table = ", ".join(f"{field}={field.upper()}" for field in fields)
        lines.append(f"{name}={fields[0].upper()}" if len(fields) == 1 else f"{name}={{{table}}}")
        summary, _, _ = inspect.cleandoc(rule.__doc__ or "").partition("\n\n")
        lines.append(textwrap.indent(summary, "    "))
    return "\n".join(lines)
