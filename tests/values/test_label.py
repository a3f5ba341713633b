"""What a person reads of a value: never an address, never "<lambda>"."""

import enum
import functools
import importlib.util
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet import Model, named
from jaxnet.values.identified import Identities, plain, tell_apart
from jaxnet.values.label import MAX_LABEL_CHARACTERS, label


def with_beta(b1):
    return lambda rate, numbers: optax.adam(rate, b1=b1)


def rule(rate, numbers):
    return optax.sgd(rate)


class Loss:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, params, x, labels, key):
        return self.scale, x


class Color(enum.Enum):
    RED = 1


def model(scale):
    def init(key):
        return scale

    def loss(params, x, labels, key):
        return x * scale, x

    return Model(init, loss)


def closed():
    held = threading.Lock()

    def rule(rate, numbers):
        return held

    return rule


# fmt: off
LABELS = [
    (rule, "rule"),
    (with_beta(0.99), "with_beta(b1=0.99)"),
    (lambda r, n: optax.adam(r), "lambda r, n: optax.adam(r)"),
    ((lambda r: r + 1, lambda r: r - 1)[1], "lambda r: r - 1"),  # the second of a line
    (lambda r, b=0.5: r * b, "lambda r, b=0.5: r * b"),
    (functools.partial(rule, 0.1, numbers={}), "rule(0.1, numbers={})"),
    (Loss(9.0), "Loss(scale=9.0)"),
    (Loss(9.0).__call__, "Loss(scale=9.0).__call__"),
    (Loss(np.zeros((2, 3))), "Loss(scale=float64[2, 3])"),
    (jax.jit(rule), "rule"),
    (jnp.tanh, "tanh"),
    (jax.nn.relu, "relu"),
    (Color.RED, "Color.RED"),
    (np.float32(0.5), "0.5"),
    (jnp.float32, "float32"),
    (named("mine", rule), "mine"),
    (closed(), "closed(held=lock)"),
    (optax.adam(0.1), "adam(0.1)"),
    (optax.adam(0.1, b1=0.5), "adam(0.1, b1=0.5)"),
    (optax.sgd(1e-3), "sgd(0.001)"),
    (optax.sgd(0.1, momentum=0.9), "sgd(0.1, momentum=0.9)"),
    (optax.rmsprop(0.1), "rmsprop(0.1)"),
    (optax.adam(optax.linear_schedule(0.1, 0.0, 9)),
     "adam(polynomial_schedule(init_value=0.1, end_value=0.0, power=1, transition_steps=9))"),
    (optax.chain(optax.clip(1.0), optax.sgd(0.1)),
     "clip(max_delta=1.0) + scale_by_learning_rate(learning_rate=0.1)"),
]
# fmt: on


@pytest.mark.parametrize(("value", "expected"), LABELS, ids=[text for _, text in LABELS])
def test_labels(value, expected):
    assert label(value) == (
        expected
        if len(expected) <= MAX_LABEL_CHARACTERS
        else expected[: MAX_LABEL_CHARACTERS - 1] + "…"
    )


def test_models():
    assert model(9.0).label == "model(scale=9.0)"
    own = Model(lambda key: 0, Loss(2.0))
    assert own.label == "lambda key: 0 + Loss(scale=2.0)"


def test_no_label_of_any_kind_has_an_address_or_is_a_lambdas_name():
    path = Path(__file__).with_name("kinds.py")
    spec = importlib.util.spec_from_file_location("kinds_of_labels", path)
    kinds = importlib.util.module_from_spec(spec)
    sys.modules["kinds_of_labels"] = kinds
    spec.loader.exec_module(kinds)
    odd = [object(), threading.Lock(), (i for i in range(2)), np.random.default_rng(0), len, {}]
    for value in [*odd, *(make(v) for make in kinds.KINDS.values() for v in (0, 1))]:
        assert "0x" not in label(value)
        assert "<lambda>" not in label(value)
        assert 0 < len(label(value)) <= MAX_LABEL_CHARACTERS


def test_labels_alike_are_told_apart():
    known = Identities()
    values = [known.identify("rule", one) for one in (rule, closed(), closed(), with_beta(0.5))]
    texts = [tell_apart(values)[one.fingerprint] for one in values]
    assert texts[0] == "rule"
    assert texts[3] == "with_beta(b1=0.5)"
    assert texts[1] != texts[2]
    assert all(text.startswith("closed(held=lock) #") for text in texts[1:3])


@pytest.mark.parametrize(
    ("scalar", "number"),
    [
        (np.int64(3), 3),
        (np.uint8(3), 3),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("relu"), "relu"),
        (np.array(3), 3),
        (jnp.asarray(3), 3),
        (jnp.float32(0.5), 0.5),
        (jnp.asarray(True), True),
        (jnp.bfloat16(0.5), 0.5),
        ([np.int64(8), (np.int32(4),)], [8, (4,)]),
    ],
    ids=str,
)
def test_scalars_are_the_numbers_that_they_hold(scalar, number):
    found = plain(scalar)
    assert found == number
    assert repr(found) == repr(number)  # of the same type, those within too


def test_what_is_no_scalar_stays():
    array = np.arange(3)
    assert plain(array) is array
    assert plain(rule) is rule
