"""What tells values apart: anything that may decide a result, and nothing else."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnet import ConfigurationError, Model, configure, named
from jaxnet.sweeps.folder.identity import identify
from jaxnet.sweeps.space.job import Job
from jaxnet.sweeps.space.space import Listed
from jaxnet.values.fingerprint import Unidentifiable
from jaxnet.values.rules import new_fingerprinter

FILE = Path(__file__).with_name("kinds.py")


def _loaded():
    spec = importlib.util.spec_from_file_location("kinds", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["kinds"] = module
    spec.loader.exec_module(module)
    return module


kinds = _loaded()


def digest(value):
    return new_fingerprinter().digest(value).hex()


def init(key, act=None):
    return jnp.zeros((784, 10))


def loss(params, x, labels, key):
    return params.sum(), x.reshape(len(x), -1) @ params


def key(value):
    """The name under which a run folder has the result of a value."""
    is_rule = isinstance(value, optax.GradientTransformation)
    settings = {"optimizer": value} if is_rule else {"model": Model(init, loss), "act": value}
    return identify(Job(Listed([settings])))[0].key


@pytest.mark.parametrize("name", kinds.KINDS)
def test_one_change_makes_another_value(name):
    make = kinds.KINDS[name]
    first, other, again = digest(make(0)), digest(make(1)), digest(make(0))
    assert first != other
    assert first == again, "made anew it is the same value"


@pytest.mark.parametrize("name", kinds.KINDS)
def test_one_change_makes_another_result_of_a_folder(name):
    make = kinds.KINDS[name]
    first, other, again = key(make(0)), key(make(1)), key(make(0))
    assert first != other
    assert first == again


@pytest.mark.parametrize("name", kinds.KINDS)
def test_one_change_makes_another_program(name):
    """In memory: what was compiled for the one does not serve the other."""
    make, structures = kinds.KINDS[name], []
    for v in (0, 1):
        value = make(v)
        rule = isinstance(value, optax.GradientTransformation)
        given = {"optimizer": value} if rule else {"model": Model(init, loss), "act": value}
        structures.append([configure(**given).structure, configure(**given).structure])
    (one, same), (other, _) = structures
    assert one == same
    assert one != other


def test_another_process_has_the_same_digests():
    """Whatever seeds the hashes of texts, and whether it is a module or a script that runs."""
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, FILE], env=environment, capture_output=True)
        found.append(json.loads(out.stdout))
    assert found[0] == found[1]
    ours = kinds.digests()
    assert {name for name in ours if ours[name] != found[0][name]} == set()


def test_no_digest_depends_on_what_was_asked_before():
    made = {name: make(0) for name, make in kinds.KINDS.items() if "global" not in name}
    made |= {"even": kinds.even, "odd": kinds.odd, "twice": kinds.twice}
    alone = {name: digest(value) for name, value in made.items()}
    for order in (list(made), list(reversed(made))):
        together = new_fingerprinter()
        assert {name: together.digest(made[name]).hex() for name in order} == alone


# What does not decide


def compiled(text, **names):
    exec(text, names)
    return names["f"]


def test_where_and_how_a_function_is_written_does_not_decide():
    plain = "def f(x, scale=2):\n    y = x * scale\n    return y + ONE"
    moved = (
        "# A comment.\n\n\ndef f(x: float, scale: int = 2) -> float:\n"
        '    """Say what it does."""\n\n    # why\n    y = x * scale\n\n    return y + ONE'
    )
    elsewhere = plain.replace("def f", "def g") + "\nf = g"
    first = digest(compiled(plain, ONE=1))
    assert digest(compiled(moved, ONE=1)) == first
    assert digest(compiled(elsewhere, ONE=1)) == first
    assert digest(compiled(plain, ONE=1, OTHER=2)) == first  # a global that is not used
    assert digest(compiled(plain, ONE=2)) != first


def test_where_a_class_within_a_function_stands_does_not_decide():
    plain = "def f(x):\n    class A:\n        def g(self):\n            self.b = self.a = 2"
    moved = "\n\n" + plain.replace("class A:\n", "class A:\n\n        # why\n")
    assert digest(compiled(plain)) == digest(compiled(moved))
    assert digest(compiled(plain)) != digest(compiled(plain.replace("2", "3")))


def test_equal_values_made_apart_are_the_same():
    assert digest(optax.adam(0.1)) == digest(optax.adam(0.1))
    assert digest(np.arange(3)) == digest(np.arange(3))
    shared = [1, 2]
    assert digest((shared, shared)) == digest(([1, 2], [1, 2]))
    assert digest({"b", "a", 3}) == digest({3, "a", "b"})


def test_a_value_that_was_computed_once_is_no_other():
    class Table:
        def __init__(self, size):
            self.size = size

        @functools.cached_property
        def entries(self):
            return list(range(self.size))

    table = Table(3)
    before = digest(table)
    assert table.entries == [0, 1, 2]
    assert digest(table) == before != digest(Table(4))


def test_an_object_in_a_circle():
    def ring(scale):
        one, other = kinds.Scaled(scale), kinds.Scaled(None)
        one.next, other.next = other, one
        return one

    assert digest(ring(1)) == digest(ring(1)) != digest(ring(2))
    assert digest(ring(1)) != digest(ring(1).next)


# What nothing tells apart


def held(value):
    return lambda x: (x, value)


def reads_anything(x):
    return eval("x * 2")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (held(threading.Lock()), "the closure variable value of a lambda is a lock"),
        (held(i for i in range(3)), "the closure variable value of a lambda is a generator"),
        (kinds.Scaled(sys.stdout), "the attribute scale of Scaled is a TextIOWrapper|.*cannot"),
        (held(np.frompyfunc(lambda x: x, 1, 1)), "of no known library"),
        (object(), "is an object"),
        (reads_anything, "reads_anything calls eval, which may read anything"),
        (memoryview(b"a"), "it is a memoryview"),
    ],
    ids=["lock", "generator", "file", "ufunc", "object", "eval", "memoryview"],
)
def test_what_cannot_be_told_is_said(value, why):
    with pytest.raises(Unidentifiable, match=why):
        digest(value)


def test_a_traced_array_has_no_value():
    with pytest.raises(Unidentifiable, match="traced"):
        jax.jit(lambda x: digest(held(x)))(1.0)


def test_what_is_nested_too_deeply_is_said():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(Unidentifiable, match="too deeply"):
        digest(value)
    while value:  # or Python's own destructor goes as deep
        value = value.pop()


# Names


def test_a_name_is_all_that_counts():
    lock = threading.Lock()
    mine = named("mine", held(lock))
    assert digest(mine) == digest(named("mine", optax.adam(0.1))) != digest(named("yours", lock))
    assert digest(held(mine)) == digest(held(named("mine", 3)))
    assert mine(3) == (3, lock)
    rule = named("rule", optax.adam(0.1))
    assert rule.init({}) is not None  # attributes are those of the value


def test_two_values_of_one_name_are_refused():
    look = new_fingerprinter()
    look.digest(named("mine", kinds.Scaled(1)))
    look.digest(named("mine", kinds.Scaled(1)))
    with pytest.raises(ConfigurationError, match="two different values have the name 'mine'"):
        look.digest(named("mine", kinds.Scaled(2)))
