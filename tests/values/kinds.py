"""Kinds of values, each made in two versions that differ in one thing. Run, it prints digests."""

import abc
import dataclasses
import enum
import functools
import json
import operator
import re
import sys
import types
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

KINDS: dict[str, Any] = {}
SCALE: Any = 0.0
TABLE: dict[str, Any] = {}


def kind(make):
    """Note how to make version 0 or 1 of a kind of value."""
    KINDS[make.__name__.replace("_", " ").strip()] = make
    return make


def scaled(x):
    return x * SCALE


def twice(x):
    return scaled(scaled(x))


def even(n):
    return n == SCALE or odd(n - 1)


def odd(n):
    return n != SCALE and even(n - 1)


def helper_module(constant):
    """Put a module of the user's in place, of which the functions below use something."""
    module = types.ModuleType("kinds_helpers")
    text = f"SCALE = {constant}\ndef scale(x):\n    return x * SCALE\ndef plain(x):\n    return x"
    exec(text, vars(module))
    sys.modules["kinds_helpers"] = module
    globals()["helpers"] = module


def set_global(value):
    globals()["SCALE"] = value


# Functions


@kind
def closure(v):
    return lambda x: x * v


@kind
def closure_within_a_closure(v):
    def outer(x):
        def inner(y):
            return y * v

        return inner(x)

    return outer


@kind
def closure_over_a_function(v):
    act = [jnp.tanh, jnp.sin][v]
    return lambda x: act(x)


@kind
def closure_over_an_array(v):
    array = np.zeros(3)
    array[2] = v
    return lambda x: x + array


@kind
def closure_over_an_array_of_jax(v):
    array = jnp.arange(3.0) + v
    return lambda x: x + array


@kind
def closure_over_another_dtype(v):
    array = np.ones(2, ["float32", "int32"][v])  # equal elements
    return lambda x: x + array


@kind
def closure_over_a_dict(v):
    table = {"a": {"b": [1, v]}}
    return lambda x: x * table["a"]["b"][1]


@kind
def default(v):
    def f(x, scale=v):
        return x * scale

    return f


@kind
def keyword_default(v):
    def f(x, *, scale=v):
        return x * scale

    return f


@kind
def default_of_a_lambda(v):
    return lambda x, scale=v: x * scale


@kind
def constant(v):
    return [lambda x: x * 2, lambda x: x * 3][v]


@kind
def constant_of_another_type(v):
    return [lambda x: x * 1, lambda x: x * True][v]


@kind
def sign_of_zero(v):
    return [lambda x: x * 0.0, lambda x: x * -0.0][v]


@kind
def operator_of_the_code(v):
    return [lambda x: x + 1, lambda x: x - 1][v]


@kind
def attribute_in_the_code(v):
    return [lambda x: jnp.sin(x), lambda x: jnp.cos(x)][v]


@kind
def order_of_arguments(v):
    return [lambda x, y: x - y, lambda y, x: x - y][v]


@kind
def constant_of_a_function_within(v):
    def with_two(x):
        return (lambda y: y * 2)(x)

    def with_three(x):
        return (lambda y: y * 3)(x)

    return [with_two, with_three][v]


@kind
def attribute_of_a_function(v):
    def f(x):
        return x * f.scale

    f.scale = v
    return f


@kind
def global_number(v):
    set_global(v)
    return scaled


@kind
def global_of_a_helper(v):
    set_global(v)
    return twice


@kind
def global_array(v):
    set_global(np.arange(3) + v)
    return scaled


@kind
def global_function(v):
    set_global([jnp.tanh, jnp.sin][v])
    return scaled


@kind
def global_in_a_circle(v):
    set_global(v)
    return even


@kind
def entry_of_a_global_table(v):
    TABLE["scale"] = v
    return lambda x: x * TABLE["scale"]


@kind
def global_in_a_comprehension(v):
    set_global(v)
    return lambda x: sum([x * SCALE for _ in range(2)])


@kind
def global_in_a_class_within(v):
    set_global(v)

    def f(x):
        class Inner:
            scale = SCALE

        return x * Inner.scale

    return f


@kind
def constant_of_a_users_module(v):
    helper_module(v)
    return lambda x: x * helpers.SCALE


@kind
def function_of_a_users_module(v):
    helper_module(v)
    return lambda x: helpers.scale(x)


@kind
def users_module_imported_within(v):
    helper_module(v)

    def f(x):
        import kinds_helpers

        return kinds_helpers.scale(x)

    return f


@kind
def name_imported_within(v):
    helper_module(v)

    def f(x):
        from kinds_helpers import scale

        return scale(x)

    return f


@kind
def users_module_as_a_value(v):
    helper_module(v)
    return lambda x: vars(helpers)["scale"](x)


@kind
def function_put_into_a_library(v):
    def tanh(x):
        return x * v

    optax.put_there = tanh
    return lambda x: optax.put_there(x)


# What is made of functions


@kind
def partial_argument(v):
    return functools.partial(operator.mul, v)


@kind
def partial_keyword(v):
    return functools.partial(jax.nn.leaky_relu, negative_slope=v)


@kind
def partial_of_a_partial(v):
    return functools.partial(functools.partial(operator.add, v))


@kind
def partial_of_jax(v):
    return jax.tree_util.Partial(operator.mul, v)


@kind
def jitted(v):
    return jax.jit(lambda x: x * v)


@kind
def jitted_partial(v):
    return jax.jit(functools.partial(operator.mul, v))


@kind
def mapped(v):
    return jax.vmap(lambda x: x * v)


@kind
def gradient(v):
    return jax.grad(lambda x: x * v)


@kind
def checkpointed(v):
    return jax.checkpoint(lambda x: x * v)


def backward_rule(forward, backward):
    @jax.custom_vjp
    def f(x):
        return x

    f.defvjp(forward, backward)
    return f


@kind
def forward_pass_of_a_rule(v):
    return backward_rule(lambda x: (x, v), lambda kept, g: (g,))


@kind
def backward_pass_of_a_rule(v):
    return backward_rule(lambda x: (x, None), lambda kept, g: (g * v,))


@kind
def rule_of_a_jvp(v):
    @jax.custom_jvp
    def f(x):
        return x

    f.defjvp(lambda primals, tangents: (primals[0], tangents[0] * v))
    return f


@kind
def cached(v):
    return functools.lru_cache(lambda x: x * v)


@kind
def wrapped(v):
    def decorate(f):
        @functools.wraps(f)
        def inner(x):
            return f(x)

        return inner

    return decorate(lambda x: x * v)


@kind
def dispatched_by_type(v):
    f = functools.singledispatch(lambda x: x)
    f.register(int, lambda x: x * v)
    return f


@kind
def vectorized(v):
    return np.vectorize(lambda x: x * v)


# Objects


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale

    def method(self, x):
        return x * self.scale


class Slotted:
    __slots__ = ("__hidden", "scale")

    def __init__(self, scale, hidden):
        self.scale, self.__hidden = scale, hidden

    def __call__(self, x):
        return x * self.scale + self.__hidden


class Reticent(Scaled):
    """Pickles as nothing."""

    def __getstate__(self):
        return {}

    def __reduce__(self):
        return Reticent, (0,)


@dataclasses.dataclass(frozen=True)
class Frozen:
    scale: float
    offset: float = dataclasses.field(default=0.0, compare=False)

    def __call__(self, x):
        return x * self.scale + self.offset


class Abstract(abc.ABC):
    @abc.abstractmethod
    def __call__(self, x): ...


class Concrete(Abstract):
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    one: Any
    other: Any


@kind
def attribute_of_a_callable(v):
    return Scaled(v)


@kind
def bound_method(v):
    return Scaled(v).method


@kind
def slot(v):
    return Slotted(v, 0)


@kind
def hidden_slot(v):
    return Slotted(0, v)


@kind
def attribute_that_is_not_pickled(v):
    return Reticent(v)


@kind
def field(v):
    return Frozen(v)


@kind
def field_that_is_not_compared(v):
    return Frozen(1.0, v)


@kind
def attribute_of_an_abc(v):
    return Concrete(v)


@kind
def attribute_of_an_attribute(v):
    return Scaled(Scaled(v))


@kind
def constant_of_a_method(v):
    class Two:
        def __call__(self, x):
            return x * 2

    class Three:
        def __call__(self, x):
            return x * 3

    Three.__name__ = "Two"
    return [Two, Three][v]()


@kind
def attribute_of_a_class(v):
    class Own:
        scale = v

        def __call__(self, x):
            return x * self.scale

    return Own()


@kind
def attribute_of_a_base(v):
    class Base:
        scale = v

    class Own(Base):
        def __call__(self, x):
            return x * self.scale

    return Own()


@kind
def property_(v):
    class Own:
        scale = property(lambda self: v)

        def __call__(self, x):
            return x * self.scale

    return Own()


@kind
def static_method(v):
    class Own:
        scale = staticmethod(lambda x: x * v)

    return Own.scale


@kind
def class_method(v):
    class Own:
        factor = v

        @classmethod
        def scale(cls, x):
            return x * cls.factor

    return Own.scale


@kind
def global_of_a_method(v):
    set_global(v)

    class Own:
        def __call__(self, x):
            return x * SCALE

    return Own()


@kind
def a_class_itself(v):
    class Own:
        scale = v

    return Own


@kind
def member_of_an_enumeration(v):
    return [Color.RED, Color.BLUE][v]


@kind
def named_tuple(v):
    return Pair(1, v)


@kind
def dictionary_of_a_subclass(v):
    class Own(dict):
        def __call__(self, x):
            return x * self["scale"]

    return Own(scale=v)


@kind
def number_of_a_subclass(v):
    class Own(int):
        def __call__(self, x):
            return x * self

    return Own(v)


# Data and libraries


@kind
def plain_tuple(v):
    return (1, "a", (None, v))


@kind
def type_of_a_number(v):
    return [(1,), (True,)][v]


@kind
def frozen_set(v):
    return frozenset(["a", "b", f"c{v}"])


@kind
def pattern(v):
    return re.compile("ab"[v])


@kind
def path(v):
    return Path("data") / str(v)


@kind
def dtype(v):
    return [jnp.dtype("float32"), jnp.dtype("bfloat16")][v]


@kind
def function_of_a_library(v):
    return [jnp.tanh, jax.nn.relu][v]


@kind
def universal_function(v):
    return [np.tanh, np.sin][v]


@kind
def generator_by_its_state(v):
    return np.random.default_rng(v)


@kind
def random_key(v):
    return functools.partial(operator.add, jax.random.key(v))


@kind
def masked_array(v):
    return functools.partial(operator.add, np.ma.array([1, 2], mask=[0, v]))


@kind
def schedule(v):
    return optax.cosine_decay_schedule(0.1, 10 + v)


@kind
def ready_optimizer(v):
    return optax.adam(0.1, b1=[0.9, 0.99][v])


@kind
def another_ready_optimizer(v):
    return [optax.sgd(0.1), optax.sgd(0.1, nesterov=True, momentum=0.0)][v]


@kind
def chain_of_optimizers(v):
    return optax.chain(optax.clip(1.0 + v), optax.sgd(optax.linear_schedule(0.1, 0.0, 9)))


@kind
def optimizer_of_parts(v):
    return optax.multi_transform({"a": optax.adam(0.1), "b": optax.sgd(0.1 + v)}, lambda p: p)


@kind
def factory_of_an_optimizer(v):
    return lambda rate, numbers: optax.adam(rate, b1=v)


def digests():
    """Return the digest of each version of each kind, as text."""
    from jaxnet.values.rules import new_fingerprinter

    return {
        name: [new_fingerprinter().digest(make(v)).hex() for v in (0, 1, 0)]
        for name, make in KINDS.items()
    }


if __name__ == "__main__":
    print(json.dumps(digests()))
