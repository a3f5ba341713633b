"""A sweep written down: the space, the data and how long to train. Read from TOML or JSON."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxnet.arguments.checks import LARGEST, shown, whole
from jaxnet.arguments.signatures import check_fields, checked
from jaxnet.data import DataSet, Splits
from jaxnet.data.splits import LabelShift, check_split, label_shift
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.host.texts import parse_json, parse_toml, read_text
from jaxnet.sweeps.results.record import EVALUATIONS, HISTORY_POINTS
from jaxnet.sweeps.space.halving import Halving, halving_from
from jaxnet.sweeps.space.space import SPACES, Space, space_from_dict
from jaxnet.sweeps.space.stopping import (
    STOPPING_RULES,
    StoppingRule,
    stopping_from,
    stopping_to_dict,
    take_rule,
)
from jaxnet.training.settings import Configuration, configured
from jaxnet.values.identified import Identities

STEPS = 200


@dataclass(frozen=True)
class Job:
    """Everything that decides the results of a sweep, data and versions aside.

    `settings` hold for every configuration that does not set them itself; `seed` likewise, and it
    seeds the draws of a random space. `validation` is the number of training images that judge the
    configurations (default: 1000, or a quarter of the training set if that is less), `train` the
    number trained on (default: all others), and `split` how they are drawn: "stratified", within
    each class and from `split_seed`, or "tail", the last rows (see `DataSet.split`; default: as
    is usual for the data set). `data` names a data set of `jaxnet.data`.

    `replicates` trains every configuration with so many seeds: seed, seed + 1, ... `halving` (see
    `Halving`, or its eta) cuts on the way. `stop` is a rule that stops a run by its validation
    accuracies, such as `Patience(4)` or {"patience": 4}. They are measured at so many
    `evaluations`, evenly over the steps. `history` is the most losses kept of a run.

    `ids` has the id of each configuration in the order of the space, where they are not 0, 1, ...:
    in a run folder that grew, configurations keep the ids that they had.
    """

    space: Space
    data: str = "fashion-mnist-mini"
    steps: int = STEPS
    seed: int = 0
    validation: int | None = None
    train: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    replicates: int = 1
    halving: Halving | None = None
    stop: StoppingRule | None = None
    evaluations: int = EVALUATIONS
    history: int = HISTORY_POINTS
    split: str | None = None
    split_seed: int = 0
    ids: tuple[int, ...] | None = None
    # One for all jobs made of this one: what has no fingerprint is known by the object alone.
    identities: Identities = field(default_factory=Identities, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, lowest in WHOLE.items():
            value = getattr(self, name)
            if value is None and name in ("validation", "train"):
                continue
            most = MOST[name] - 1 if name in MOST else LARGEST
            object.__setattr__(self, name, whole(name, value, lowest, most))
        # A rule that STOPPING_RULES does not name could not be filed nor read again.
        object.__setattr__(self, "stop", stopping_from(self.stop))
        check_fields(self)
        if self.split is not None:
            check_split(self.split, self.split_seed)
        axes = getattr(self.space, "axes", {})
        if self.replicates > 1 and ("seed" in axes or "seed" in self.settings):
            raise ConfigurationError(
                "replicates are seeds, and seed is an axis or a setting too: remove one"
            )
        for name in self.settings:
            if name in axes:
                raise ConfigurationError(
                    f"{name} is an axis of the space and a setting for all: remove one"
                )

    def configurations(self) -> list[Configuration]:
        """Return every configuration of the space, checked and completed, by id."""
        return self._configurations

    @functools.cached_property
    def _configurations(self) -> list[Configuration]:
        made = self._in_order_of_space
        if self.ids is None:
            return made
        return [made[i] for i in sorted(range(len(made)), key=self.ids.__getitem__)]

    @functools.cached_property
    def _in_order_of_space(self) -> list[Configuration]:
        count = self.space.count * self.replicates
        if count > MOST_CONFIGURATIONS:
            raise ConfigurationError(
                f"the space has {count:,} configurations, expected at most "
                f"{MOST_CONFIGURATIONS:,}: draw some at random, or split it"
            )
        configurations, settings = [], self.space.settings(self.seed)
        for i, own in enumerate(settings):
            try:
                settings_of_one = {"seed": self.seed, **self.settings, **own}
                configurations.append(configured(settings_of_one, self.identities))
            except ConfigurationError as error:
                where = f"configuration {i}: " if len(settings) > 1 else ""
                raise ConfigurationError(f"{where}{error}") from None
        if not configurations:
            raise ConfigurationError("the space is empty: it has no configurations")
        if self.replicates == 1:
            return configurations
        if any("seed" in own for own in settings):
            raise ConfigurationError(
                "replicates are seeds, and a configuration sets its seed too: remove one"
            )
        return [
            dataclasses.replace(configuration, seed=configuration.seed + k)
            for configuration in configurations
            for k in range(self.replicates)
        ]

    def units(self) -> list[tuple[int, ...]]:
        """Return the places of the configurations that differ in their seed only, together."""
        found: dict[Any, list[int]] = {}
        for i, configuration in enumerate(self.configurations()):
            numbers = tuple(configuration.numbers.items())
            found.setdefault((configuration.structure, numbers), []).append(i)
        return [tuple(ids) for ids in found.values()]

    def splits(self, data: DataSet) -> Splits:
        """Return the training, validation and test examples."""
        return data.split(self._held_out(data), self.train, **self._how(data))

    def sizes(self, data: DataSet) -> tuple[int, int]:
        """Return how many examples are trained on, and how many judge."""
        return data.split_sizes(self._held_out(data), self.train)

    def label_shifts(self, data: DataSet) -> dict[str, LabelShift]:
        """Return how far the labels of "validation" and of "test" are from those trained on."""
        kept, held_out = data.split_rows(self._held_out(data), self.train, **self._how(data))
        parts = {"validation": data.train_labels[held_out], "test": data.test_labels}
        trained, classes = data.train_labels[kept], len(data.class_names)
        return {part: label_shift(trained, labels, classes) for part, labels in parts.items()}

    def split_kind(self, data: DataSet) -> str:
        """Return how the rows are drawn: as asked for, or as is usual for the data."""
        return data.default_split if self.split is None else self.split

    def _held_out(self, data: DataSet) -> int:
        rows = len(data.train_labels)
        return min(1000, max(1, rows // 4)) if self.validation is None else self.validation

    def _how(self, data: DataSet) -> dict[str, Any]:
        return {"kind": self.split_kind(data), "seed": self.split_seed}

    def to_dict(self) -> dict[str, Any]:
        """Return what `job_from_dict` reads, as JSON has it; unset parts are left out.

        A function or another object is its label, which cannot be read back.
        """
        parts = {
            "data": self.data,
            "steps": self.steps,
            "seed": self.seed,
            "validation": self.validation,
            "train": self.train,
            "split": self.split,
            "split_seed": self.split_seed or None,
            "settings": dict(self.settings) or None,
            "replicates": self.replicates if self.replicates > 1 else None,
            "halving": None if self.halving is None else self.halving.to_dict(),
            "stop": None if self.stop is None else stopping_to_dict(self.stop),
            "evaluations": self.evaluations if self.evaluations != EVALUATIONS else None,
            "history": self.history if self.history != HISTORY_POINTS else None,
        }
        parts = {k: v for k, v in parts.items() if v is not None} | self.space.to_dict()
        return self.identities.readable(parts)


WHOLE = {
    **{"steps": 1, "seed": 0, "validation": 1, "train": 1, "split_seed": 0},
    **{"replicates": 1, "evaluations": 1, "history": 1},
}
# Steps and rows are counted in int32; of evaluations and of the history arrays are made at once.
MOST = {name: 2**31 for name in WHOLE if name != "seed"} | {"evaluations": 10**6, "history": 10**6}
MOST_CONFIGURATIONS = 10**7
_SCALARS = ("data", *WHOLE, "split", "halving", "stop")


@checked
def job_from_dict(spec: Mapping[str, Any]) -> Job:
    """Return the job that a mapping describes; ConfigurationError for what it cannot be.

    >>> job_from_dict({"steps": 300, "grid": {"learning_rate": [0.1, 0.01]}}).steps
    300
    """
    known = (*_SCALARS, *STOPPING_RULES, "settings", *SPACES)
    for name in spec:
        if name not in known:
            raise ConfigurationError(unknown("key", name, known))
    settings = spec.get("settings", {})
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"write [settings] as a table, got {shown(settings)}")
    if not isinstance(spec.get("data", ""), str):
        raise ConfigurationError(
            f"data: expected the name of a data set, got {shown(spec['data'])}"
        )
    scalars = {name: spec[name] for name in _SCALARS if name in spec}
    scalars["halving"] = halving_from(spec.get("halving"))
    rules = {name: spec[name] for name in STOPPING_RULES if name in spec}
    scalars["stop"] = take_rule(rules, spec.get("stop"))
    return Job(space_from_dict(spec), settings=dict(settings), **scalars)


@checked
def read_job(path: Path | str) -> Job:
    """Read a job from a TOML file, or from JSON: a `config.json` of a run folder, too."""
    path = Path(path)
    language = "json" if path.suffix == ".json" else "toml"
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None
    try:
        spec = parse_json(text) if language == "json" else parse_toml(text)
    except ValueError as error:
        raise ConfigurationError(f"{path} is not valid {language}: {error}") from None
    spec = spec.get("job", spec) if isinstance(spec, dict) else spec
    if not isinstance(spec, dict):
        raise ConfigurationError(f"{path}: expected a table of keys, got {type(spec).__name__}")
    try:
        return job_from_dict(spec)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from None
