"""What a chunk takes: as the compiler says, within the budget, and less when it was too much."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import pytest

from jaxnet.optimizers import OPTIMIZERS
from jaxnet.sweeps import grid
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.cost import compiled_bytes
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Shapes, configure
from jaxnet.training.step import DeviceData
from jaxnet.verbs import plan, sweep

cost_module = importlib.import_module("jaxnet.sweeps.machine.cost")
SHAPES, STEPS = Shapes((12,), 3), 20
OPTIONS = {"steps": STEPS, "batch_size": 10, "hidden": [5]}


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations."""
    yield
    cost_module._compiled_bytes.cache_clear()


# What the compiler says


def allocated(program, networks, rows=1000):
    """Bytes of a program of so many networks by its own analysis, and of its arrays by theirs."""
    names, features = program.structure.hyperparameter_names, program.shapes.features
    given = Hyperparameters({name: jnp.full(networks, 0.1, jnp.float32) for name in names})
    seed = jnp.uint32(0)
    state = program.init(given, seed)
    data = DeviceData(
        jnp.zeros((rows, features), jnp.uint8),
        jnp.zeros(rows, jnp.int32),
        jnp.zeros(features, jnp.float32),
        jnp.ones(features, jnp.float32),
    )
    compiled = program.advance.lower(state, given, seed, data, Counts.of(1, 1, 1)).compile()
    found = compiled.memory_analysis()
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves((state, given)))
    # Of the result, what does not take the place of an argument.
    own = found.argument_size_in_bytes - sum(leaf.nbytes for leaf in jax.tree.leaves(data))
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return own + results + found.temp_size_in_bytes, arrays


BATCH_OF_MANY = Program(configure(hidden=[200], batch_size=400).structure, Shapes((100,), 3))


def test_two_sizes_tell_a_third():
    fixed, each = compiled_bytes(BATCH_OF_MANY)
    taken, arrays = allocated(BATCH_OF_MANY, 8)
    assert fixed + 8 * each == pytest.approx(taken, rel=0.05)
    # What is there before a step is taken is a part of it.
    assert fixed + 8 * each >= arrays
    # Half of the networks left out would be seen.
    assert fixed + 4 * each != pytest.approx(taken, rel=0.05)


def test_own_minibatches_take_more_than_shared_ones():
    shared, own = (
        compiled_bytes(BATCH_OF_MANY.with_layout(shared=together)) for together in (True, False)
    )
    # Each its own [400, 100] of float32, but for a few numbers a network that either program may
    # hold longer than the other: a hundredth is a row of the minibatch.
    assert own[1] > shared[1] + 0.99 * 400 * 100 * 4


def test_a_backend_that_does_not_tell_is_estimated(monkeypatch):
    class Silent:
        def compile(self):
            return self

        def memory_analysis(self):
            return None

    monkeypatch.setattr(cost_module, "_lowered", lambda *arguments: (Silent(), None))
    program = Program(configure(hidden=[5], batch_size=123).structure, SHAPES)
    fixed, each = compiled_bytes(program)
    assert (fixed, each) == (0, cost_module.network_bytes(program))


def test_the_estimate_has_room_for_the_state_that_a_rule_keeps(monkeypatch):
    """For two arrays whatever the rule, so that a user's has some, too."""
    row = dataclasses.replace(OPTIMIZERS["sgd"], state_arrays=3)
    monkeypatch.setitem(OPTIMIZERS, "three", row)
    sgd, adam, three = (
        cost_module.network_bytes(Program(configure(hidden=[5], optimizer=name).structure, SHAPES))
        for name in ("sgd", "adam", "three")
    )
    weights = (SHAPES.features + 1) * 5 + (5 + 1) * SHAPES.classes
    assert (adam - sgd, three - adam) == (0, 4 * weights)


# A budget


@pytest.fixture(scope="module")
def space():
    return grid(l2=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


@pytest.fixture(scope="module")
def whole(data, space):
    return sweep(space, data, keep=None, **OPTIONS)


def test_a_budget_forces_chunks(data, space, whole, trained, assert_same_runs):
    fixed, each = compiled_bytes(Program(configure(hidden=[5], batch_size=10).structure, SHAPES))
    budget = fixed + 3 * each
    found = plan(space, data, memory=budget, **OPTIONS)
    assert [len(chunk.ids) for chunk in found.chunks] == [3, 3, 2]
    assert found.groups[0].bytes_per_network == each
    result = sweep(space, data, memory=budget, keep=None, **OPTIONS)
    assert [(one.networks, one.places) for one in trained] == [(3, 3), (3, 3), (2, 3)]
    for one, other in zip(result.rows, whole.rows, strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)


# Out of memory


@pytest.fixture
def exhausted(monkeypatch):
    """Let `Stack.train` fail for more than so many places, in the words of the device."""
    sizes, real = [], Stack.train

    def allow(
        most, *, message="RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.", on_the_way=False
    ):
        def train(self, *arguments, **options):
            sizes.append(len(self.columns))
            if len(self.columns) > most:
                if not on_the_way:
                    raise jax.errors.JaxRuntimeError(message)
                advance = self._advance

                def fail(*given):
                    advance(*given)
                    raise jax.errors.JaxRuntimeError(message)

                self._advance = fail
            return real(self, *arguments, **options)

        monkeypatch.setattr(Stack, "train", train)
        return sizes

    return allow


@pytest.mark.parametrize(
    ("most", "sizes"),
    [
        (4, [8, 4, 4]),
        (1, [8, 4, 2, 1, 1, 2, 1, 1, 4, 2, 1, 1, 2, 1, 1]),
    ],
)
def test_a_chunk_too_large_is_halved(
    data, space, whole, tmp_path, exhausted, assert_same_runs, most, sizes
):
    seen = exhausted(most)
    result = sweep(space, data, keep=None, out=tmp_path / "run", **OPTIONS)
    # At least as often as needed; what has failed once need not be tried again.
    assert seen[0] == 8
    assert sum(size for size in seen if size <= most) == 8
    assert len(seen) <= len(sizes)
    for one, other in zip(result.rows, whole.rows, strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_an_odd_chunk_is_halved(data, space, whole, exhausted, assert_same_runs):
    seen = exhausted(2)
    odd = dataclasses.replace(space, axes={"l2": space.axes["l2"][:5]})
    result = sweep(odd, data, **OPTIONS)
    assert seen[:4] == [5, 3, 2, 2]
    for one, other in zip(result.rows, whole.rows, strict=False):
        assert_same_runs(one, other)


def test_memory_that_runs_out_on_the_way(data, space, whole, exhausted, assert_same_runs):
    """After some steps: their state is gone, and the networks begin again."""
    exhausted(4, on_the_way=True)
    result = sweep(space, data, **OPTIONS)
    for one, other in zip(result.rows, whole.rows, strict=True):
        assert_same_runs(one, other)


def test_what_is_too_large_alone_is_an_error(data, space, exhausted, tmp_path):
    seen = exhausted(0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        sweep(space, data, out=tmp_path / "run", **OPTIONS)
    assert seen == [8, 4, 2, 1]


def test_another_error_is_not_swallowed(data, space, exhausted):
    seen = exhausted(4, message="INTERNAL: the device is on fire")
    with pytest.raises(jax.errors.JaxRuntimeError, match="on fire"):
        sweep(space, data, **OPTIONS)
    assert seen == [8]


def test_what_is_committed_when_the_memory_runs_out_stays(
    data, space, exhausted, monkeypatch, tmp_path, trained
):
    """The first seed is done; the second cannot be, and the next call does it alone."""
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", {"cpu": 0.0, "gpu": 0.0})
    real, calls = Stack.train, []

    def train(self, *arguments, **options):
        calls.append(self.configurations[0].seed)
        if self.configurations[0].seed == 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: no")
        return real(self, *arguments, **options)

    options = {**OPTIONS, "replicates": 2, "out": tmp_path / "run", "keep": None}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "train", train)
        with pytest.raises(jax.errors.JaxRuntimeError):
            sweep(grid(l2=[0.0, 0.1]), data, **options)
    assert calls == [0, 1, 1]
    trained.clear()
    result = sweep(grid(l2=[0.0, 0.1]), data, **options)
    assert [one.networks for one in trained] == [2]
    assert len(result.rows) == 4
