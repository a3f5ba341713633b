"""One training run in full: what is static, what is a number, which seed.

The three-way split that every compiled function here relies on: `Structure` decides the
program (runs with equal structures share one), `numbers` enter it as arrays (no value ever
recompiles), and the state it carries holds arrays only. `SETTINGS` says what each setting takes;
the tables of optimizers, schedules and architectures say which numbers are theirs.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from optax import GradientTransformation

from jaxnet import optimizers, schedules
from jaxnet.arguments.checks import held, number, shown
from jaxnet.arguments.setting import MOST_ROWS, Setting
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.layers import ACTIVATIONS, INITIALIZERS
from jaxnet.losses import LOSSES, SMOOTHED_LOSSES
from jaxnet.optimizers import OPTIMIZERS, OptimizerRule
from jaxnet.schedules import SCHEDULES
from jaxnet.training import architectures
from jaxnet.training.architectures import ARCHITECTURES, Architecture
from jaxnet.training.model import Model
from jaxnet.values.identified import Identified, Identities, plain
from jaxnet.values.label import label
from jaxnet.values.named import Named

NORMS = ("none", "batch", "layer")
PREPROCESSING = ("none", "unit_range", "mean_image", "standardize", "pca", "zca")

SETTINGS: dict[str, Setting] = {
    "model": Setting("a `jaxnet.Model` in place of jaxnet's own networks", object, None),
    "architecture": Setting(
        "kind of network", str, "fully_connected", choices=ARCHITECTURES, own=True
    ),
    "hidden": Setting("widths of the hidden layers", tuple, (100,), own=True),
    "activation": Setting("after each hidden layer", str, "relu", choices=ACTIVATIONS, own=True),
    "norm": Setting("normalization before activations", str, "none", choices=NORMS, own=True),
    "init": Setting(
        "initial weights (normal: of deviation init_scale)",
        str,
        "he",
        choices=INITIALIZERS,
        own=True,
    ),
    "precision": Setting(
        "of sums and products",
        str,
        "float32",
        choices=("float32", "tf32", "mixed", "float64"),
    ),
    "batch_invariant": Setting(
        "on CPUs, sums in one order, whatever trains beside a network", bool, False, own=True
    ),
    "loss": Setting("what is minimized", str, "softmax", choices=LOSSES, own=True),
    "l2_convention": Setting(
        "the L2 penalty, l2/2·Σ‖W‖² or l2·Σ‖W‖²", str, "half", choices=("half", "full"), own=True
    ),
    "optimizer": Setting("update rule", str, "sgd", choices=OPTIMIZERS),
    "schedule": Setting("how the learning rate changes", str, "constant", choices=SCHEDULES),
    "batch_size": Setting("images of a minibatch", int, 200, low=1, high=MOST_ROWS),
    "sampling": Setting(
        "how minibatches are drawn (shuffled: every image once an epoch)",
        str,
        "with_replacement",
        choices=("with_replacement", "shuffled"),
    ),
    "preprocessing": Setting("what is done to images", str, "standardize", choices=PREPROCESSING),
    "components": Setting(
        "how many components are kept", int, None, low=1, high=MOST_ROWS, applies_to=("pca",)
    ),
    "variance": Setting(  # above 0
        "share of the variance that is kept",
        default=None,
        low=math.ulp(0.0),
        high=1,
        closed=True,
        applies_to=("pca",),
    ),
    "backward": Setting(
        "backward passes by hand or JAX's", str, "manual", choices=("manual", "autodiff"), own=True
    ),
    "learning_rate": Setting("factor of a step", default=1e-3),
    "l2": Setting("strength of the L2 penalty on weights", own=True),
    "init_scale": Setting("factor on the initial weights", default=1.0, own=True),
    "dropout": Setting("probability to drop a hidden unit", high=1, own=True),
    "label_smoothing": Setting(
        "share of the target spread over all classes", high=1, applies_to=SMOOTHED_LOSSES, own=True
    ),
    "clip_norm": Setting("largest norm of a gradient, 0 for any"),
    "warmup_steps": Setting("steps of a linear warm-up before any schedule"),
    "seed": Setting("of weights, minibatches and masks", int, 0, high=2**32 - 1),
}
"""The settings of every run. Optimizers, schedules and architectures add numbers of their own."""

# The numbers that every run has.
COMMON_NUMBERS: dict[str, float] = {
    name: row.default
    for name, row in SETTINGS.items()
    if row.kind is float and row.default is not None
}


def all_settings() -> dict[str, Setting]:
    """Return the row of every setting that a run may have, by name."""
    return (
        SETTINGS
        | optimizers.HYPERPARAMETERS
        | schedules.HYPERPARAMETERS
        | architectures.HYPERPARAMETERS
    )


class Shapes(NamedTuple):
    """What goes into a network and comes out of it: the shape of one input, and how many classes.

    `input` is (features,), or (height, width, channels) of a net that takes images.
    """

    input: tuple[int, ...]
    classes: int

    @property
    def features(self) -> int:
        """The numbers in one input."""
        return math.prod(self.input)


@dataclass(frozen=True, kw_only=True)
class Net:
    """The part of a structure that decides what a network computes, whatever trains it.

    `hidden` lists the widths of the hidden layers: `(50,)` is the two-layer net, `()` the linear
    classifier. `architecture` "inception_resnet" is a net for images, which has no `hidden` and
    no `activation`. `precision`: "float32" (products in float32 proper, on GPUs too), "tf32" (the
    tensor cores' 10-bit mantissa where the device has it), "mixed" (products of operands rounded
    to bfloat16, summed in float32; weights and all else float32), "float64" (all of it).
    `batch_invariant`: on CPUs, sums have one order whatever trains beside a network (see
    `jaxnet.kernels.products`), not the fastest one. `model` is a user's own `Model`, in place of
    the network that the other settings describe.
    """

    model: Identified | None = None
    arguments: tuple[tuple[str, Identified], ...] = ()  # static ones of the model; not a setting

    architecture: str = "fully_connected"
    hidden: tuple[int, ...] = (100,)
    activation: str = "relu"
    norm: str = "none"
    uses_dropout: bool = False  # derived from the dropout rate; not a setting
    init: str = "he"
    precision: str = "float32"
    batch_invariant: bool = False

    @property
    def row(self) -> Architecture:
        """The row of the architecture in its table, or what holds of a user's model."""
        return architectures.MODEL if self.model is not None else ARCHITECTURES[self.architecture]

    @property
    def handed_in(self) -> dict[str, Identified]:
        """The user's own objects by the name of the setting that they are."""
        found = {"model": self.model, **dict(self.arguments)}
        return {name: one for name, one in found.items() if isinstance(one, Identified)}

    @property
    def static_arguments(self) -> dict[str, Any]:
        """The static arguments of the model, as its functions take them."""
        return {name: one.value for name, one in self.arguments}


@dataclass(frozen=True, kw_only=True)
class Structure(Net):
    """A net and the rule that trains it: all that decides the compiled step. Hashable.

    `optimizer` is a name, or what the user handed in: an optax optimizer, or a function
    `(learning_rate, numbers) -> optax.GradientTransformation` that is given the rate of the step
    and all hyperparameters as 0-d arrays. `sampling`: minibatches "with_replacement", each image
    drawn from all of them, or "shuffled", every image once an epoch. What the user handed in
    stands here with its fingerprint, so that a function is another when what it closes over has
    changed.
    """

    uses_clipping: bool = False  # derived from clip_norm; not a setting
    uses_augmentation: bool = False  # derived from flip and shift; not a setting
    hyperparameter_names: tuple[str, ...] = ()  # derived from all of this; not a setting
    loss: str = "softmax"
    l2_convention: str = "half"
    optimizer: str | Identified = "sgd"
    schedule: str = "constant"
    batch_size: int = 200
    sampling: str = "with_replacement"
    preprocessing: str = "standardize"
    components: int | None = None  # of PCA: how many, or
    variance: float | None = None  # the share of the variance that they keep
    backward: str = "manual"

    @property
    def net(self) -> Net:
        """The net alone: structures that differ in how they are trained share it."""
        return Net(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Net)})

    @property
    def handed_in(self) -> dict[str, Identified]:
        """The user's own objects by the name of the setting that they are."""
        found = super().handed_in
        return found | (
            {"optimizer": self.optimizer} if isinstance(self.optimizer, Identified) else {}
        )

    @property
    def rule(self) -> OptimizerRule | None:
        """The row of the optimizer in its table; None for what the user handed in."""
        return OPTIMIZERS[self.optimizer] if isinstance(self.optimizer, str) else None

    @property
    def has_ready_optimizer(self) -> bool:
        """Whether the optimizer is a ready one of optax, which reads no hyperparameter of a run."""
        rule = self.optimizer
        return isinstance(rule, Identified) and isinstance(rule.value, GradientTransformation)


@dataclass(frozen=True)
class Configuration:
    """One run: its structure, its numbers (name -> value) and its seed (weights, batches, masks).

    Make one with `configure(...)`, which checks every setting.
    """

    structure: Structure
    numbers: Mapping[str, float]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return every setting under its name; functions and other objects are their labels."""
        structure = self.structure
        static = {
            field.name: getattr(structure, field.name)
            for field in dataclasses.fields(Structure)
            if field.name in SETTINGS
        }
        shown = {n: v.value if v.is_plain else v.label for n, v in structure.handed_in.items()}
        numbers = dict(self.numbers)
        if structure.has_ready_optimizer:  # whose rate is its own
            for name in ("learning_rate", *SCHEDULES[structure.schedule].hyperparameters):
                del numbers[name]
            del static["schedule"]
        if structure.model is not None:
            unused = [name for name in static if SETTINGS[name].own]
        else:
            unused = ["model", *(n for n in static if not _is_used(n, structure.row))]
            if structure.architecture == SETTINGS["architecture"].default:
                unused.append("architecture")
        static = {name: value for name, value in static.items() if name not in unused}
        return {**static, **shown, **numbers, "seed": self.seed}


def _is_used(name: str, row: Architecture) -> bool:
    """Whether an architecture uses a static setting: its own, or one that is no other's."""
    return name in row.settings or not architectures_with(name)


def architectures_with(name: str) -> list[str]:
    """Return the architectures that have a static setting as theirs; none: all have it."""
    return [own for own, row in ARCHITECTURES.items() if name in row.settings]


def users_of(number: str) -> list[str]:
    """Return the optimizers, schedules or architectures that use a number; none: all runs do."""
    tables: tuple[Mapping[str, Any], ...] = (OPTIMIZERS, SCHEDULES, ARCHITECTURES)
    return [
        user for table in tables for user, rule in table.items() if number in rule.hyperparameters
    ]


def setting_names() -> list[str]:
    """Return the name of every setting that a run may have."""
    return list(all_settings())


def configure(**settings: Any) -> Configuration:
    """Check the settings of one run and fill in the defaults.

    Raises ConfigurationError for an unknown setting or name (with the near match), a number
    out of its range, or a number that the chosen optimizer and schedule do not use.

    >>> configure(hidden=[50], learning_rate=1e-4, l2=0.25).numbers["l2"]
    0.25
    >>> configure(optimiser="adam")
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: unknown setting 'optimiser': did you mean 'optimizer'? ...
    """
    return configured(settings, Identities())


def configured(settings: Mapping[str, Any], identities: Identities) -> Configuration:
    """Return what `configure` does, for one of many configurations of a job."""
    settings = {name: plain(value) for name, value in settings.items()}
    given = settings.get("model")
    model = given.value if isinstance(given, Named) else given
    if model is not None and not isinstance(model, Model):
        raise ConfigurationError(f"model: expected a jaxnet.Model(init, loss), got {shown(model)}")
    known = setting_names() if model is None else _settings_beside(model)
    for name in settings:
        if name not in known:
            raise ConfigurationError(unknown("setting", name, known))
    seed = SETTINGS["seed"].take("seed", settings.get("seed", 0))
    arguments = {} if model is None else _arguments(model, settings)
    settings = {name: value for name, value in settings.items() if name not in arguments}
    if model is not None:
        text = given.name if isinstance(given, Named) else model.label
        settings["model"] = identities.identify("model", given, text)
    optimizer = settings.get("optimizer")
    if isinstance(optimizer, GradientTransformation) or callable(optimizer):
        text = label(optimizer)
        text = f"function {text}" if text in OPTIMIZERS else text  # none of jaxnet's own
        settings["optimizer"] = identities.identify("optimizer", optimizer, text)
    structure = _structure(settings)
    numbers = _numbers(settings, structure)
    structure = dataclasses.replace(
        structure,
        uses_dropout=numbers.get("dropout", 0) > 0,
        uses_clipping=numbers["clip_norm"] > 0,
        uses_augmentation=numbers.get("flip", 0) > 0 or numbers.get("shift", 0) > 0,
        arguments=tuple(
            (name, identities.identify(name, value))
            for name, value in arguments.items()
            if not isinstance(value, float)
        ),
    )
    numbers |= {name: value for name, value in arguments.items() if isinstance(value, float)}
    structure = dataclasses.replace(structure, hyperparameter_names=tuple(numbers))
    return Configuration(structure, numbers, seed)


def _settings_beside(model: Model) -> list[str]:
    """Return what may be set for a user's model: its arguments, and how it is trained."""
    names = [name for name, row in all_settings().items() if not row.own]
    if clash := sorted(set(names) & model.defaults.keys()):
        raise ConfigurationError(
            f"model: its argument {clash[0]} is a setting of the sweep: rename the argument"
        )
    return [*model.defaults, *names]


def _arguments(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each argument of a model; whole numbers become floats as its default."""
    values = {}
    for name, default in model.defaults.items():
        value = plain(settings.get(name, default))
        if value is inspect.Parameter.empty:
            raise ConfigurationError(
                f"model: its argument {name} has no default and no value: set it, as an axis or "
                f"for all"
            )
        value = held(value)
        if isinstance(default, float) or isinstance(value, float):
            value = float(number(f"model: {name}", value))
        if isinstance(value, list):
            value = tuple(value)
        try:
            hash(value)
        except TypeError:
            if callable(value):
                values[name] = value
                continue
            raise ConfigurationError(
                f"model: {name} should be a float or something hashable, got {shown(value)}"
            ) from None
        values[name] = value
    return values


def _structure(settings: Mapping[str, Any]) -> Structure:
    fields = {f.name for f in dataclasses.fields(Structure)}
    chosen: dict[str, Any] = {
        name: value if isinstance(value, Identified) else SETTINGS[name].take(name, value)
        for name, value in settings.items()
        if name in fields
    }
    structure = Structure(**chosen)
    if structure.model is None:
        _check_architecture(structure, chosen)
        if not _is_used("hidden", structure.row):
            structure = dataclasses.replace(structure, hidden=())
    extent = (structure.components, structure.variance)
    if structure.preprocessing == "pca" and extent.count(None) != 1:
        raise ConfigurationError(
            "preprocessing 'pca' needs components (how many) or variance (the share kept, such as "
            "0.99), one of the two"
        )
    if structure.preprocessing != "pca" and extent != (None, None):
        raise ConfigurationError(
            f"components and variance are used by preprocessing 'pca', not by "
            f"{structure.preprocessing!r}: remove them"
        )
    return structure


def _check_architecture(structure: Structure, chosen: Mapping[str, Any]) -> None:
    for name in chosen:
        if not _is_used(name, structure.row):
            others = " or ".join(map(repr, architectures_with(name)))
            raise ConfigurationError(
                f"{name} is no setting of architecture {structure.architecture!r}, whose layers "
                f"are given: remove it, or choose architecture {others}"
            )
    if structure.row.takes_images and structure.preprocessing == "pca":
        raise ConfigurationError(
            f"preprocessing 'pca' leaves no images, which architecture "
            f"{structure.architecture!r} takes: choose another"
        )


def _numbers(settings: Mapping[str, Any], structure: Structure) -> dict[str, float]:
    numbers = dict(COMMON_NUMBERS)
    if structure.model is not None:
        numbers = {name: n for name, n in numbers.items() if not SETTINGS[name].own}
    if structure.rule is not None:
        numbers |= structure.rule.hyperparameters
    numbers |= SCHEDULES[structure.schedule].hyperparameters
    numbers |= structure.row.hyperparameters
    for name, row in all_settings().items():
        if name not in settings or (name in SETTINGS and name not in COMMON_NUMBERS):
            continue
        users = users_of(name)
        if name not in numbers and users[0] in ARCHITECTURES:
            raise ConfigurationError(
                f"{name} is used by architecture {', '.join(users)}, not by "
                f"{structure.architecture!r}: remove it, or choose that"
            )
        # A function as optimizer may read any number it is given.
        if name not in numbers and isinstance(structure.optimizer, str):
            raise ConfigurationError(
                f"{name} is used by {', '.join(users)}, not by optimizer "
                f"{structure.optimizer!r} with schedule {structure.schedule!r}: "
                f"remove it, or choose one of those"
            )
        numbers[name] = row.take(name, settings[name])
    if numbers.get("label_smoothing", 0) > 0 and structure.loss not in SMOOTHED_LOSSES:
        raise ConfigurationError(
            f"label_smoothing is used by the losses {', '.join(SMOOTHED_LOSSES)}, "
            f"not by {structure.loss!r}: set it to 0, or choose one of those"
        )
    return numbers
