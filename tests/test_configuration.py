"""One run's settings: what is refused and why, what is filled in, and what makes runs group."""

import dataclasses
import inspect
import json
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import optax
import pytest

from jaxnet import optimizers, schedules
from jaxnet.cli.settings_page import FILES, options
from jaxnet.errors import ConfigurationError, JaxnetError
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.schedules import SCHEDULES
from jaxnet.training import architectures
from jaxnet.training.architectures import ARCHITECTURES
from jaxnet.training.settings import (
    COMMON_NUMBERS,
    SETTINGS,
    Configuration,
    Structure,
    all_settings,
    configure,
    setting_names,
)

NAMES = {name: tuple(row.choices) for name, row in all_settings().items() if row.kind is str}
RANGES = {
    name: (row.low, row.high, row.closed)
    for name, row in all_settings().items()
    if row.kind is float
}

TABLES = [SETTINGS, *(m.HYPERPARAMETERS for m in (optimizers, schedules, architectures))]


def numbers_of(table):
    return {name for rule in table.values() for name in rule.hyperparameters}


OF_ARCHITECTURES = {(a, name) for a, row in ARCHITECTURES.items() for name in row.hyperparameters}
ALL_NUMBERS = sorted(
    {
        *COMMON_NUMBERS,
        *numbers_of(OPTIMIZERS),
        *numbers_of(SCHEDULES),
        *(name for _, name in OF_ARCHITECTURES),
    }
)
USERS = {
    name: [
        (kind, user)
        for kind, table in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES))
        for user, rule in table.items()
        if name in rule.hyperparameters
    ]
    + [("architecture", a) for a, own in sorted(OF_ARCHITECTURES) if own == name]
    for name in ALL_NUMBERS
    if name not in COMMON_NUMBERS
}


SWITCHES = ("dropout", "clip_norm", "flip", "shift")  # 0 leaves their part of the program out


def with_user(name):
    """Settings under which a number is used."""
    return dict(USERS[name][:1]) if name in USERS else {}


# Defaults


def test_the_defaults_are_a_plain_net():
    configuration = configure()
    numbers = {
        "learning_rate": 1e-3,
        "l2": 0.0,
        "init_scale": 1.0,
        "dropout": 0.0,
        "label_smoothing": 0.0,
        "clip_norm": 0.0,
        "warmup_steps": 0.0,
    }
    structure = Structure(hyperparameter_names=tuple(numbers))
    assert configuration == Configuration(structure, numbers, 0)
    assert configuration.to_dict() == {
        "hidden": (100,),
        "activation": "relu",
        "norm": "none",
        "loss": "softmax",
        "l2_convention": "half",
        "init": "he",
        "optimizer": "sgd",
        "schedule": "constant",
        "batch_size": 200,
        "sampling": "with_replacement",
        "preprocessing": "standardize",
        "components": None,
        "variance": None,
        "precision": "float32",
        "batch_invariant": False,
        "backward": "manual",
        "learning_rate": 1e-3,
        "l2": 0.0,
        "init_scale": 1.0,
        "dropout": 0.0,
        "label_smoothing": 0.0,
        "clip_norm": 0.0,
        "warmup_steps": 0.0,
        "seed": 0,
    }


@pytest.mark.parametrize(("kind", "table"), [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)])
def test_a_rule_brings_its_own_numbers_with_the_defaults_of_its_table(kind, table):
    for user, rule in table.items():
        numbers = configure(**{kind: user}).numbers
        assert numbers == {**COMMON_NUMBERS, **rule.hyperparameters}


def test_a_dropout_rate_above_zero_is_another_structure():
    assert configure(dropout=0.5).structure.uses_dropout
    assert not configure(dropout=0.0).structure.uses_dropout
    assert configure(dropout=0.5).structure == configure(dropout=0.1).structure


# Names


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("optimiser", "optimizer"),
        ("learning_rat", "learning_rate"),
        ("batchsize", "batch_size"),
        ("hiden", "hidden"),
        ("sede", "seed"),
        ("beta_1", "beta1"),
        ("drop_out", "dropout"),
    ],
)
def test_an_unknown_setting_names_the_near_one(wrong, near):
    with pytest.raises(ConfigurationError, match=f"unknown setting '{wrong}': .*'{near}'"):
        configure(**{wrong: 1})


def test_what_is_derived_is_no_setting():
    with pytest.raises(ConfigurationError, match="unknown setting 'uses_dropout'"):
        configure(uses_dropout=True)


@pytest.mark.parametrize(
    ("name", "wrong", "near"),
    [
        ("optimizer", "adm", "adam"),
        ("optimizer", "ADAM", None),
        ("norm", "batchnorm", "batch"),
        ("norm", None, "none"),
        ("activation", "rellu", "relu"),
        ("loss", "softmx", "softmax"),
        ("l2_convention", "ful", "full"),
        ("init", "glorott", "glorot"),
        ("schedule", "cosin", "cosine"),
        ("preprocessing", "standardise", "standardize"),
        ("precision", "float16", "float64|float32"),
        ("backward", "auto", "autodiff"),
        ("sampling", "shufled", "shuffled"),
        ("sampling", "replacement", "with_replacement"),
        ("sampling", True, None),
        ("activation", 3, None),
        ("optimizer", ["adam"], "adam"),
    ],
)
def test_an_unknown_name_gives_the_near_one_and_all_others(name, wrong, near):
    with pytest.raises(ConfigurationError) as caught:
        configure(**{name: wrong})
    text = str(caught.value)
    assert text.startswith(f"unknown {name} ")
    assert all(known in text for known in NAMES[name])
    if near is not None:
        assert any(f"did you mean {one!r}?" in text for one in near.split("|"))


def test_every_name_of_the_tables_is_accepted():
    for name, known in NAMES.items():
        for value in known:
            pca = {"components": 5} if value == "pca" else {}
            assert getattr(configure(**{name: value}, **pca).structure, name) == value


def test_errors_are_of_the_base_class_and_value_errors():
    assert issubclass(ConfigurationError, JaxnetError)
    assert issubclass(ConfigurationError, ValueError)


# Numbers


def test_every_numeric_setting_has_a_range_and_every_range_a_setting():
    assert set(RANGES) == {*ALL_NUMBERS, "variance"}


@pytest.mark.parametrize("name", ALL_NUMBERS)
@pytest.mark.parametrize("value", [-1e-9, -math.inf, math.nan, math.inf])
def test_negative_infinite_or_no_number_is_refused_by_its_name(name, value):
    with pytest.raises(ConfigurationError, match=rf"^{name}: expected a value in \["):
        configure(**with_user(name), **{name: value})


def test_an_integer_beyond_all_floats_is_refused_by_its_name():
    with pytest.raises(ConfigurationError, match=r"^l2: expected"):
        configure(l2=10**400)  # TOML can say it


@pytest.mark.parametrize("name", ALL_NUMBERS)
@pytest.mark.parametrize("value", [True, "0.1", None, [0.1], 1j], ids=repr)
def test_what_is_no_real_number_is_refused_by_its_name(name, value):
    with pytest.raises(ConfigurationError, match=f"^{name}: expected a number, got "):
        configure(**with_user(name), **{name: value})


@pytest.mark.parametrize("name", ALL_NUMBERS)
def test_a_range_holds_its_ends_as_it_says(name):
    low, high, closed = RANGES[name]
    assert configure(**with_user(name), **{name: low}).numbers[name] == low
    if closed:
        assert configure(**with_user(name), **{name: high}).numbers[name] == high
    elif high < math.inf:
        last = math.nextafter(high, 0)
        assert configure(**with_user(name), **{name: last}).numbers[name] == last
        with pytest.raises(ConfigurationError, match=rf"^{name}: .* {high:g}\), got"):
            configure(**with_user(name), **{name: high})


@pytest.mark.parametrize("value", [1.0, 1, 1.5])
def test_dropping_every_unit_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"^dropout: expected a value in \[0, 1\), got"):
        configure(dropout=value)


@pytest.mark.parametrize("value", [np.float32(0.25), np.float64(0.25), np.int64(2), 3])
def test_numbers_of_numpy_and_integers_become_floats(value):
    number = configure(l2=value).numbers["l2"]
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize("name", sorted(USERS))
def test_a_number_that_the_rules_do_not_use_is_refused_with_those_that_do(name):
    users = {user for _, user in USERS[name]}
    assert not users & {"sgd", "constant"}  # else the test says nothing
    with pytest.raises(ConfigurationError) as caught:
        configure(**{name: 0.5 if RANGES[name][0] < 1 else 1.0})
    text = str(caught.value)
    assert text.startswith(f"{name} is used by ")
    own = [kind for kind, _ in USERS[name]] == ["architecture"]
    for chosen in ("'fully_connected'",) if own else ("'sgd'", "'constant'"):
        assert chosen in text
    assert all(user in text for user in users)


def test_a_function_as_optimizer_may_read_any_number():
    def rule(learning_rate, numbers):
        return optax.sgd(learning_rate, momentum=numbers["momentum"])

    assert configure(optimizer=rule, momentum=0.5).numbers["momentum"] == 0.5
    with pytest.raises(ConfigurationError, match=r"^momentum: expected a value"):
        configure(optimizer=rule, momentum=-0.5)


@pytest.mark.parametrize("loss", ["softmax", "squared_error"])
def test_label_smoothing_is_of_the_losses_that_have_targets(loss):
    assert configure(label_smoothing=0.1, loss=loss).numbers["label_smoothing"] == 0.1


def test_the_svm_has_no_label_smoothing():
    with pytest.raises(ConfigurationError, match="softmax, squared_error, not by 'svm': set"):
        configure(label_smoothing=0.1, loss="svm")
    assert configure(label_smoothing=0.0, loss="svm").structure.loss == "svm"


# Whole numbers, widths, preprocessing


@pytest.mark.parametrize("value", [2.0, 2.5, "200", True, None, [200], math.nan])
def test_a_batch_that_is_no_integer_is_refused(value):
    with pytest.raises(
        ConfigurationError, match=r"^batch_size: expected a whole number from 1 up, got "
    ):
        configure(batch_size=value)


@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_batch_is_refused(value):
    with pytest.raises(ConfigurationError, match=r"^batch_size: expected a whole number from 1 up"):
        configure(batch_size=value)


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        (0, "expected a whole number from 1 up, got 0"),
        ([-1], "expected a whole number from 1 up, got -1"),
        ([80, 0], "expected a whole number from 1 up, got 0"),
        ("80", "expected the widths of the hidden layers.*got '80'"),
        (80.0, "expected the widths of the hidden layers.*got 80.0"),
        (True, "expected the widths of the hidden layers.*got True"),
        (None, "expected the widths of the hidden layers.*got None"),
        ([80.0], r"expected a whole number from 1 up, got 80\.0"),
        ([True], "expected a whole number from 1 up, got True"),
        (["80"], "expected a whole number from 1 up, got '80'"),
        ([[80]], r"expected a whole number from 1 up, got \[80\]"),
    ],
)
def test_widths_that_cannot_be(hidden, text):
    with pytest.raises(ConfigurationError, match=f"^hidden: {text}"):
        configure(hidden=hidden)


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        (50, (50,)),
        (np.int64(50), (50,)),
        ([50], (50,)),
        ((50, 20), (50, 20)),
        (np.array([50, 20]), (50, 20)),
        ([], ()),
        ((), ()),
    ],
)
def test_widths_become_a_tuple_of_plain_integers(hidden, expected):
    widths = configure(hidden=hidden).structure.hidden
    assert widths == expected
    assert all(type(width) is int for width in widths)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_beyond_32_bits_is_refused(seed):
    with pytest.raises(ConfigurationError, match=r"^seed: expected a whole number from 0 "):
        configure(seed=seed)


def test_a_seed_is_a_number_and_no_structure():
    assert configure(seed=2**32 - 1).seed == 2**32 - 1
    assert configure(seed=1).structure == configure(seed=2).structure


@pytest.mark.parametrize("given", [{}, {"components": 3, "variance": 0.9}])
def test_pca_needs_components_or_variance_and_not_both(given):
    with pytest.raises(ConfigurationError, match=r"'pca' needs components .* or variance"):
        configure(preprocessing="pca", **given)


@pytest.mark.parametrize("given", [{"components": 3}, {"variance": 0.9}])
def test_the_extent_of_pca_belongs_to_pca(given):
    (item,) = given.items()
    assert item in configure(preprocessing="pca", **given).to_dict().items()
    with pytest.raises(ConfigurationError, match="used by preprocessing 'pca', not by 'zca'"):
        configure(preprocessing="zca", **given)


@pytest.mark.parametrize("variance", [0, 0.0, -0.1, 1.1, math.nan])
def test_a_share_of_variance_is_above_zero_and_at_most_one(variance):
    """0 too: `fit` refuses it, and should not be the one to say so, after the folder is made."""
    with pytest.raises(ConfigurationError, match=r"^variance: expected a value in"):
        configure(preprocessing="pca", variance=variance)


@pytest.mark.parametrize("components", [0, -3, 2.5, True, "3"])
def test_components_are_a_whole_number_from_one(components):
    with pytest.raises(ConfigurationError, match=r"^components: expected a whole number"):
        configure(preprocessing="pca", components=components)


# Round trip


@st.composite
def settings(draw):
    chosen = {
        "hidden": draw(st.lists(st.integers(1, 10_000), max_size=4)),
        "batch_size": draw(st.integers(1, 10**6)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }
    for name, known in NAMES.items():
        chosen[name] = draw(st.sampled_from(known))
    if chosen["architecture"] != "fully_connected":
        del chosen["hidden"], chosen["activation"]
        if chosen["preprocessing"] == "pca":
            chosen["preprocessing"] = "none"
    if chosen["preprocessing"] == "pca":
        if draw(st.booleans()):
            chosen["components"] = draw(st.integers(1, 1000))
        else:
            chosen["variance"] = draw(st.floats(0.01, 1))
    usable = {
        *COMMON_NUMBERS,
        *OPTIMIZERS[chosen["optimizer"]].hyperparameters,
        *SCHEDULES[chosen["schedule"]].hyperparameters,
        *ARCHITECTURES[chosen["architecture"]].hyperparameters,
    }
    for name in sorted(usable):
        low, high, closed = RANGES[name]
        values = st.floats(low, min(high, 1e30), exclude_max=high <= 1 and not closed)
        if draw(st.booleans()) and (name, chosen["loss"]) != ("label_smoothing", "svm"):
            chosen[name] = draw(values)
    return draw(st.permutations(list(chosen.items())).map(dict))


@hypothesis.given(settings())
@hypothesis.settings(max_examples=100, deadline=None)
def test_what_a_run_says_of_itself_makes_the_same_run(chosen):
    configuration = configure(**chosen)
    said = configuration.to_dict()
    expected = dict(chosen)
    if expected["architecture"] == "fully_connected":  # goes without saying
        expected["hidden"] = tuple(expected["hidden"])
        del expected["architecture"]
    assert said.items() >= expected.items()
    again = configure(**said)
    assert again == configuration
    assert hash(again.structure) == hash(configuration.structure)
    assert again.to_dict() == said


def test_the_order_of_settings_is_no_matter():
    one = configure(l2=0.1, hidden=3, learning_rate=0.2)
    other = configure(learning_rate=0.2, hidden=[3], l2=0.1)
    assert one == other
    assert list(one.to_dict()) == list(other.to_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 7},
        {"hidden": (100, 100)},
        {"activation": "tanh"},
        {"norm": "layer"},
        {"dropout": 0.1},
        {"loss": "svm"},
        {"l2_convention": "full"},
        {"init": "lecun"},
        {"optimizer": "adam"},
        {"schedule": "cosine"},
        {"batch_size": 7},
        {"sampling": "shuffled"},
        {"preprocessing": "zca"},
        {"preprocessing": "pca", "components": 3},
        {"preprocessing": "pca", "variance": 0.5},
        {"precision": "float64"},
        {"batch_invariant": True},
        {"backward": "autodiff"},
    ],
    ids=str,
)
def test_what_decides_the_program_is_structure(change):
    assert configure(**change).structure != configure().structure
    assert hash(configure(**change).structure) == hash(configure(**change).structure)


@pytest.mark.parametrize("name", [n for n in ALL_NUMBERS if n not in SWITCHES])
def test_no_number_decides_the_program(name):
    """Else each value of a sweep would compile anew."""
    one, other = (
        configure(**with_user(name), **{name: v}) for v in ([1, 2] if RANGES[name][0] else [0, 0.5])
    )
    assert one.structure == other.structure
    assert one.numbers != other.numbers


@pytest.mark.parametrize("wrong", [1, 0, "true", None, [True]])
def test_a_switch_is_true_or_false(wrong):
    with pytest.raises(ConfigurationError, match="batch_invariant: expected True or False, got"):
        configure(batch_invariant=wrong)
    assert configure(batch_invariant=np.True_).structure.batch_invariant is True


@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_off_at_zero_is_left_out_of_the_program(name):
    off, low, high = (
        configure(**with_user(name), **{name: value}).structure for value in (0, 0.25, 0.5)
    )
    assert off != low == high


# Optimizers from elsewhere


@pytest.mark.parametrize(
    "ready",
    [
        optax.adam(1e-3),
        optax.chain(optax.clip(1.0), optax.sgd(0.1)),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
    ],
    ids=["adam", "chain", "with extra arguments"],
)
def test_a_ready_optax_optimizer_is_taken_as_it_is(ready):
    configuration = configure(optimizer=ready)
    assert configuration.structure.optimizer.value is ready
    # Equal objects group: one program for all rows of a sweep that share it.
    assert configuration.structure == configure(optimizer=ready).structure
    assert hash(configuration.structure) == hash(configure(optimizer=ready).structure)
    assert configuration.structure != configure(optimizer=optax.adam(1e-4)).structure


def test_a_function_is_shown_by_its_name():
    def clipped(learning_rate, numbers):
        return optax.chain(optax.clip(1.0), optax.sgd(learning_rate))

    configuration = configure(optimizer=clipped)
    assert configuration.structure.optimizer.value is clipped
    assert configuration.to_dict()["optimizer"] == "clipped"
    assert configuration.structure == configure(optimizer=clipped, l2=0.1).structure


# The table of settings, the command line and the page of the docs

OPTIONS = {name: (kind, text) for name, kind, text in json.loads(options())}


def test_the_table_has_the_defaults_of_the_dataclass():
    fields = {f.name: f.default for f in dataclasses.fields(Structure)}
    assert fields.items() >= {n: r.default for n, r in SETTINGS.items() if n in fields}.items()
    derived = {"arguments", "hyperparameter_names"}
    assert all(n in SETTINGS or n.startswith("uses_") or n in derived for n in fields)


def test_every_setting_of_the_table_is_a_field_or_a_number():
    fields = {f.name for f in dataclasses.fields(Structure)}
    assert set(SETTINGS) == {"seed", *COMMON_NUMBERS, *fields.intersection(SETTINGS)}
    assert len(all_settings()) == sum(map(len, TABLES))  # no name is in two of them


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_written_from_the_table_is_up_to_date(path):
    """Else run `python -m jaxnet.cli.settings_page`."""
    assert path.read_text(encoding="utf-8") == FILES[path]()


def test_every_setting_is_an_option_of_train_and_vice_versa():
    # A model is a Python object; the seed is an option of sweeps, too.
    assert {*OPTIONS, "seed", "model"} == set(setting_names())
    assert len(setting_names()) == len(set(setting_names()))


def test_options_are_read_as_what_the_setting_takes():
    for name, (kind, text) in OPTIONS.items():
        special = {"batch_size": "int", "components": "int", "batch_invariant": "bool"}
        special["hidden"] = "tuple"
        assert kind == special.get(name, "str" if name in NAMES else "float"), name
        assert text.strip(), name


def test_the_help_of_an_option_lists_every_name_and_every_user():
    for name, known in NAMES.items():
        text = OPTIONS[name][1]
        assert all(one in text for one in known), f"--{name}: {text!r} lacks one of {known}"
    for name, users in USERS.items():
        text = OPTIONS[name][1]
        assert all(user in text for _, user in users), f"--{name}: {text!r} lacks one of {users}"


def test_configure_takes_keywords_only():
    """A positional argument would be a second spelling."""
    kinds = {p.kind for p in inspect.signature(configure).parameters.values()}
    assert kinds == {inspect.Parameter.VAR_KEYWORD}
