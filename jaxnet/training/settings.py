"""One training run in full: what is static, what is a number, which seed.

The three-way split that every compiled function here relies on: `Structure` decides the
program (runs with equal structures share one), `numbers` enter it as arrays (no value ever
recompiles), and the state it carries holds arrays only. All defaults stand in this file and in
the tables of optimizers and schedules.
"""

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

from optax import GradientTransformation

from jaxnet.arguments.checks import flag, held, number, one_of, shown, whole
from jaxnet.errors import ConfigurationError, unknown
from jaxnet.layers import ACTIVATIONS, INITIALIZERS
from jaxnet.losses import LOSSES, SMOOTHED_LOSSES
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.schedules import SCHEDULES
from jaxnet.training.model import Model
from jaxnet.values.identified import Identified, Identities, plain
from jaxnet.values.label import label
from jaxnet.values.named import Named

NORMS = ("none", "batch", "layer")
L2_CONVENTIONS = ("half", "full")
PREPROCESSING = ("none", "unit_range", "mean_image", "standardize", "pca", "zca")
PRECISIONS = ("float32", "tf32", "mixed", "float64")
BACKWARDS = ("manual", "autodiff")
SAMPLINGS = ("with_replacement", "shuffled")


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
    def takes_images(self) -> bool:
        """Whether inputs are images [height, width, channels], not rows of features."""
        return self.model is not None or self.is_convolutional

    @property
    def is_convolutional(self) -> bool:
        """Whether this is a net of jaxnet's own with convolutions."""
        return self.model is None and self.architecture != "fully_connected"

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
    def has_ready_optimizer(self) -> bool:
        """Whether the optimizer is a ready one of optax, which reads no hyperparameter of a run."""
        rule = self.optimizer
        return isinstance(rule, Identified) and isinstance(rule.value, GradientTransformation)


# Architecture -> the numbers that it alone has.
ARCHITECTURES: dict[str, dict[str, float]] = {
    "fully_connected": {},
    "inception_resnet": {"flip": 0.0, "shift": 0.0},
}
_FULLY_CONNECTED_ONLY = ("hidden", "activation")

NAMES: dict[str, tuple[str, ...]] = {
    "architecture": tuple(ARCHITECTURES),
    "activation": tuple(ACTIVATIONS),
    "norm": NORMS,
    "loss": tuple(LOSSES),
    "l2_convention": L2_CONVENTIONS,
    "init": tuple(INITIALIZERS),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(SCHEDULES),
    "preprocessing": PREPROCESSING,
    "precision": PRECISIONS,
    "backward": BACKWARDS,
    "sampling": SAMPLINGS,
}

# The numbers that every run has; optimizers and schedules add their own (see their tables).
COMMON_NUMBERS: dict[str, float] = {
    "learning_rate": 1e-3,
    "l2": 0.0,
    "init_scale": 1.0,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "clip_norm": 0.0,  # none
    "warmup_steps": 0.0,
}

# What describes jaxnet's own networks and their loss: of no use with a model of the user's.
OWN_SETTINGS = (
    *("architecture", "hidden", "activation", "norm", "loss", "l2_convention", "init", "backward"),
    "batch_invariant",
    *("l2", "init_scale", "dropout", "label_smoothing", "flip", "shift"),
)
DERIVED = (
    *("arguments", "uses_dropout", "uses_clipping", "uses_augmentation", "hyperparameter_names"),
)

MOST_LAYERS = 1000
MOST_ROWS = 2**31 - 1  # rows, columns and steps are counted in int32

# name -> (lowest, highest, whether the highest itself is allowed)
RANGES: dict[str, tuple[float, float, bool]] = {
    "learning_rate": (0, math.inf, False),
    "l2": (0, math.inf, False),
    "weight_decay": (0, math.inf, False),
    "init_scale": (0, math.inf, False),
    "dropout": (0, 1, False),
    "label_smoothing": (0, 1, False),
    "flip": (0, 1, True),  # a probability
    "shift": (0, math.inf, False),  # pixels
    "clip_norm": (0, math.inf, False),
    "warmup_steps": (0, math.inf, False),
    "momentum": (0, 1, False),
    "beta1": (0, 1, False),
    "beta2": (0, 1, False),
    "rms_decay": (0, 1, False),
    "eps": (0, math.inf, False),
    "decay": (0, math.inf, False),
    "epochs_per_drop": (1, math.inf, False),
    "warmup_fraction": (0, 1, True),
    "initial_fraction": (0, 1, True),
    "final_fraction": (0, 1, True),
    "variance": (math.ulp(0.0), 1, True),  # above 0
}


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
        fields = [f.name for f in dataclasses.fields(Structure) if f.name not in DERIVED]
        static = {name: getattr(structure, name) for name in fields}
        shown = {n: v.value if v.is_plain else v.label for n, v in structure.handed_in.items()}
        numbers = dict(self.numbers)
        if structure.has_ready_optimizer:  # whose rate is its own
            for name in ("learning_rate", *SCHEDULES[structure.schedule].hyperparameters):
                del numbers[name]
            del static["schedule"]
        if structure.model is None:
            del static["model"]
            unused = _FULLY_CONNECTED_ONLY if structure.is_convolutional else ("architecture",)
            static = {name: value for name, value in static.items() if name not in unused}
            return {**static, **shown, **numbers, "seed": self.seed}
        static = {name: value for name, value in static.items() if name not in OWN_SETTINGS}
        return {**static, **shown, **numbers, "seed": self.seed}


def _all_numbers() -> dict[str, list[str]]:
    """Every numeric setting -> the parts of a run that use it (empty: all runs do)."""
    users: dict[str, list[str]] = {name: [] for name in COMMON_NUMBERS}
    for table in (OPTIMIZERS, SCHEDULES):
        for user, rule in table.items():
            for name in rule.hyperparameters:
                users.setdefault(name, []).append(user)
    for architecture, own in ARCHITECTURES.items():
        for name in own:
            users.setdefault(name, []).append(architecture)
    return users


def users_of(number: str) -> list[str]:
    """Return the optimizers, schedules or architectures that use a number; none: all runs do."""
    return _all_numbers().get(number, [])


def setting_names() -> list[str]:
    """Return the name of every setting that a run may have."""
    static = [f.name for f in dataclasses.fields(Structure) if f.name not in DERIVED]
    return [*static, *_all_numbers(), "seed"]


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
    seed = whole("seed", settings.get("seed", 0), 0, 2**32 - 1)
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
    names = [name for name in setting_names() if name not in OWN_SETTINGS]
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
    chosen = {name: value for name, value in settings.items() if name in fields}
    for name, value in chosen.items():
        if name not in NAMES or isinstance(value, Identified):
            continue
        one_of(name, value, NAMES[name])
    if "hidden" in chosen:
        chosen["hidden"] = _widths(chosen["hidden"])
    if "batch_invariant" in chosen:
        chosen["batch_invariant"] = flag("batch_invariant", chosen["batch_invariant"])
    if "batch_size" in chosen:
        chosen["batch_size"] = whole("batch_size", chosen["batch_size"], 1, MOST_ROWS)
    if chosen.get("components") is not None:
        chosen["components"] = whole("components", chosen["components"], 1, MOST_ROWS)
    if chosen.get("variance") is not None:
        chosen["variance"] = _number("variance", chosen["variance"])
    structure = Structure(**chosen)
    if structure.is_convolutional:
        _check_images(structure, chosen)
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


def _check_images(structure: Structure, chosen: Mapping[str, Any]) -> None:
    for name in _FULLY_CONNECTED_ONLY:
        if name in chosen:
            raise ConfigurationError(
                f"{name} is no setting of architecture {structure.architecture!r}, whose layers "
                f"are given: remove it, or choose architecture 'fully_connected'"
            )
    if structure.preprocessing == "pca":
        raise ConfigurationError(
            f"preprocessing 'pca' leaves no images, which architecture "
            f"{structure.architecture!r} takes: choose another"
        )


def _widths(hidden: Any) -> tuple[int, ...]:
    hidden = held(hidden)
    if isinstance(hidden, Integral) and not isinstance(hidden, bool):
        hidden = [hidden]  # one hidden layer
    if getattr(hidden, "ndim", 0):
        hidden = hidden.tolist()  # an array, NumPy's or JAX's
    if isinstance(hidden, str | bytes) or not isinstance(hidden, Sequence):
        raise ConfigurationError(
            f"hidden: expected the widths of the hidden layers, such as [80] or [160, 80]; "
            f"got {shown(hidden)}"
        )
    if len(hidden) > MOST_LAYERS:
        raise ConfigurationError(
            f"hidden: expected at most {MOST_LAYERS} layers, got {len(hidden)}: each is compiled"
        )
    return tuple(whole("hidden", width, 1, MOST_ROWS) for width in hidden)


def _numbers(settings: Mapping[str, Any], structure: Structure) -> dict[str, float]:
    numbers = dict(COMMON_NUMBERS)
    if structure.model is not None:
        numbers = {name: n for name, n in numbers.items() if name not in OWN_SETTINGS}
    if isinstance(structure.optimizer, str):
        numbers |= OPTIMIZERS[structure.optimizer].hyperparameters
    numbers |= SCHEDULES[structure.schedule].hyperparameters
    if structure.model is None:
        numbers |= ARCHITECTURES[structure.architecture]
    for name, users in _all_numbers().items():
        if name not in settings:
            continue
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
        numbers[name] = _number(name, settings[name])
    if numbers.get("label_smoothing", 0) > 0 and structure.loss not in SMOOTHED_LOSSES:
        raise ConfigurationError(
            f"label_smoothing is used by the losses {', '.join(SMOOTHED_LOSSES)}, "
            f"not by {structure.loss!r}: set it to 0, or choose one of those"
        )
    return numbers


def _number(name: str, value: Any) -> float:
    low, high, closed = RANGES[name]
    value = held(value)
    try:
        real = isinstance(value, Real) and not isinstance(value, bool)
        taken = float(value if real else number(name, value))
    except OverflowError:  # an integer of hundreds of digits
        taken = math.inf
    if not (low <= taken < high or (closed and taken == high)):
        bracket = "]" if closed else ")"
        raise ConfigurationError(
            f"{name}: expected a value in [{low:g}, {high:g}{bracket}, got {shown(value)}"
        )
    return taken
