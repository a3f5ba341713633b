"""Networks divided among devices: the same results, no communication, any number of networks."""

import dataclasses
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import ConfigurationError, configure
from jaxnet.data import DataSet
from jaxnet.sweeps import grid
from jaxnet.sweeps.folder.checkpoint import find_stacks
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.devices import fill
from jaxnet.sweeps.results.record import evaluation_steps
from jaxnet.sweeps.stacks.prepared import prepare, shapes_of
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.sweeps.stacks.timetable import Timetable
from jaxnet.training.layout import Layout, over_devices, put_on
from jaxnet.training.program import Counts, Program
from jaxnet.verbs import plan, sweep

STEPS = 30
RATES = [3e-1, 1e-1, 1e9, 1e-2, 1e-3]  # five, one of which diverges: not a multiple of 2 or 3
SETTINGS = {"steps": STEPS, "batch_size": 10}

pytestmark = pytest.mark.skipif(
    len(jax.local_devices()) < 3, reason="JAX was used before it was asked for three CPU devices"
)


@pytest.fixture
def placed(monkeypatch):
    """How many places and devices each stack has that trains from now on."""
    seen, real = [], Stack.train

    def train(self, *arguments):
        weights = self.state.members.params["affine_1"]["w"]
        shares = {shard.data.shape[1] for shard in weights.addressable_shards}
        assert len(shares) == 1  # every device has as many networks
        seen.append((len(self.columns), len(weights.addressable_shards)))
        return real(self, *arguments)

    monkeypatch.setattr(Stack, "train", train)
    return seen


def table(data, devices, rates=RATES, **more):
    space = grid(learning_rate=rates, hidden=[[5]])
    return sweep(space, data, devices=devices, **{**SETTINGS, **more})


@pytest.fixture(scope="module")
def alone(data):
    return table(data, 1)


@pytest.mark.parametrize(("devices", "places"), [(2, 6), (3, 6)])
def test_the_table_of_several_devices_is_that_of_one(
    data, alone, placed, assert_same_runs, devices, places
):
    divided = table(data, devices)
    assert placed == [(places, devices)]
    assert [row.outcome.kind for row in divided.rows] == ["ok", "ok", "diverged", "ok", "ok"]
    assert [row.id for row in divided.ranked] == [row.id for row in alone.ranked]
    for one, other in zip(alone.rows, divided.rows, strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)


@pytest.fixture(scope="module")
def pictures():
    """Images of 1,024 values in noise: first products wide enough for the fast kernels."""
    draws = np.random.default_rng(0)
    labels = np.arange(640) % 10
    pixels = draws.uniform(60, 200, (10, 16, 16, 4))[labels] + draws.normal(0, 45, (640, 16, 16, 4))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return DataSet.from_arrays(pixels[:512], labels[:512], pixels[512:], labels[512:])


INVARIANT = {
    "float32": {},
    "mixed": {"precision": "mixed"},
    "momentum": {"activation": "tanh", "optimizer": "momentum"},
}


@pytest.fixture
def one_and_two(pictures, outcomes):
    """What one device and two find: one product of 864 columns, or two of 432 (other kernels)."""

    def found(**settings):
        space = grid(l2=np.geomspace(1e-4, 1e-1, 12).tolist())
        common = {"steps": 20, "batch_size": 100, "learning_rate": 1e-2, "hidden": [72]}
        return [outcomes(sweep(space, pictures, devices=k, **common, **settings)) for k in (1, 2)]

    return found


# Only for CPUs are sums written in forms of one order: GPUs' libraries pick their own kernels.
on_cpus = pytest.mark.skipif(jax.default_backend() != "cpu", reason="promised for CPUs only")


@on_cpus
@pytest.mark.parametrize("settings", INVARIANT.values(), ids=INVARIANT)
def test_batch_invariant_sums_have_the_same_bits_on_several_devices(one_and_two, settings):
    one, two = one_and_two(batch_invariant=True, **settings)
    assert one == two


@on_cpus
def test_the_fastest_sums_depend_on_the_number_of_devices(one_and_two):
    """The compiler sums rows in parts where it shards a program, on every CPU."""
    one, two = one_and_two()
    assert one != two


THREADS = """
import hashlib
import numpy as np
import jaxnet
from jaxnet.data import DataSet

draws = np.random.default_rng(0)
pixels = draws.integers(0, 256, (600, 16, 16, 4), dtype=np.uint8)
labels = np.arange(600) % 10
data = DataSet.from_arrays(pixels[:550], labels[:550], pixels[550:], labels[550:])
found = jaxnet.sweep(
    jaxnet.grid(l2=np.geomspace(1e-4, 1e-1, 4).tolist()), data, steps=3, batch_size=500,
    learning_rate=1e-2, hidden=[200], precision="mixed", batch_invariant=True, devices=1,
    keep=None,
)
weights = [found.networks[row.key].params["affine_2"]["w"] for row in found.rows]
print(hashlib.sha256(b"".join(np.asarray(w).tobytes() for w in weights)).hexdigest())
"""


@on_cpus
def test_batch_invariant_sums_in_mixed_precision_have_the_same_bits_on_any_number_of_threads():
    """A product of [200, 500] and [500, 10] in float32 is summed in as many parts, else."""
    found = {
        subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, "NPROC": str(threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in (1, 2)
    }
    assert len(found) == 1


def test_seeds_of_their_own_are_divided_too(data, placed, assert_same_runs):
    space = grid(learning_rate=RATES[:2], hidden=[[5]], seed=[0, 1])
    one, three = (
        sweep(space, data, devices=count, **(SETTINGS | {"steps": 12})) for count in (1, 3)
    )
    assert placed == [(4, 1), (6, 3)]
    for row, other in zip(one.rows, three.rows, strict=True):
        assert_same_runs(row, other)


def test_chunks_are_multiples_of_the_devices_and_the_last_is_filled(
    data, placed, memory_for, alone, assert_same_runs
):
    memory_for(3, configure(hidden=[5], batch_size=10).structure)
    divided = table(data, 2)
    assert placed == [(2, 2), (2, 2), (2, 2)]  # three have room: two, two and one
    for one, other in zip(alone.rows, divided.rows, strict=True):
        assert_same_runs(one, other)


def test_fewer_networks_than_devices_take_one_each(data, placed):
    table(data, 3, rates=RATES[:2], steps=4)
    assert placed == [(2, 2)]


def test_what_has_ended_leaves_in_step(data, small_programs, trained, monkeypatch):
    """Four of six diverge: one place a device is left, not one place."""
    rates = [1e-1, 1e9, 1e9, 1e9, 1e9, 1e-2]
    seen, real = [], Stack._compact

    def compact(self):
        shrunk = real(self)
        seen.append((len(self.columns), shrunk))
        return shrunk

    monkeypatch.setattr(Stack, "_compact", compact)
    divided = table(data, 2, rates=rates)
    assert (2, True) in seen
    assert [row.outcome.kind for row in divided.rows] == ["ok", *["diverged"] * 4, "ok"]


def test_halving_goes_on_from_networks_of_several_devices(data, assert_same_runs):
    one, two = (table(data, count, halving=2) for count in (1, 2))
    for row, other in zip(one.rows, two.rows, strict=True):
        assert row.outcome.status == other.outcome.status
        assert_same_runs(row, other)


@pytest.mark.parametrize("then", [1, 2, 3])
def test_a_run_goes_on_with_other_devices(
    data, tmp_path, alone, then, interrupt, kept_each_call, assert_same_runs
):
    """Interrupted on two devices, ended on as many, on one, or on three that do not divide it."""
    with interrupt(Stack, "_advance", 4):
        table(data, 2, out=tmp_path / "run")
    (kept,) = find_stacks(tmp_path / "run")
    assert (kept.layout.size, kept.layout.devices) == (6, 2)
    assert 0 < kept.step < STEPS
    done = table(data, then, out=tmp_path / "run")
    for one, other in zip(alone.rows, done.rows, strict=True):
        assert_same_runs(one, other)


def test_a_run_that_goes_on_with_the_same_devices_has_the_same_bits(
    data, tmp_path, interrupt, kept_each_call, outcomes
):
    with interrupt(Stack, "_advance", 5):
        table(data, 2, out=tmp_path / "run")
    assert outcomes(table(data, 2, out=tmp_path / "run")) == outcomes(table(data, 2))


@pytest.mark.parametrize("shared", [True, False])
def test_no_device_waits_for_another(data, shared):
    """The compiled training and evaluation hold no collective operation."""
    configuration = configure(hidden=[5], batch_size=10)
    prepared = prepare(data.split(40), configuration.structure, shapes_of(data)).on(2)
    layout = Layout(size=4, shared=shared, devices=2)
    program = Program(configuration.structure, prepared.shapes, layout)
    stack = Stack.start(
        program,
        [dataclasses.replace(configuration, seed=i * (not shared)) for i in range(4)],
        prepared,
        Timetable(8, tuple(evaluation_steps(8, 2)), 1),
        until=8,
    )
    given = stack.state, stack._hyperparameters, stack._seed, prepared.device
    ends = jnp.int32(0), jnp.int32(9)
    texts = [
        program.advance.lower(*given, Counts.of(0, 9, 8)).compile().as_text(),
        program.evaluate.lower(given[0], given[1], given[3], *ends).compile().as_text(),
    ]
    for text in texts:
        assert "num_partitions=2" in text
        assert not any(name in text for name in COLLECTIVES)
    # A sum over the networks of all devices would be seen.
    total = jax.jit(over_devices(lambda x: jax.lax.psum(x.sum(), "config"), 2, (0,), None))
    assert any(name in total.lower(jnp.ones(4)).compile().as_text() for name in COLLECTIVES)


COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def test_arrays_are_divided_along_the_axis_that_is_named():
    x = np.arange(24.0).reshape(3, 4, 2)
    first, whole = put_on(2, {"x": x, "y": x}, {"x": 1, "y": None}).values()
    assert [shard.data.shape for shard in first.addressable_shards] == [(3, 2, 2)] * 2
    assert [shard.data.shape for shard in whole.addressable_shards] == [(3, 4, 2)] * 2
    np.testing.assert_array_equal(first, x)
    doubled = over_devices(lambda a: 2 * a, 2, (1,), 1)(first)
    np.testing.assert_array_equal(doubled, 2 * x)


def test_places_are_a_multiple_of_the_devices():
    for networks in range(1, 12):
        for devices in range(1, 5):
            places = fill(networks, devices)
            assert places % devices == 0
            assert networks <= places < networks + devices


# The plan


def layouts(found):
    return [group.program.layout for group in found.groups]


def test_cpu_devices_are_used_by_themselves_for_small_networks_only(monkeypatch):
    monkeypatch.setattr(rates, "CPU_SPLIT_MAX_FLOPS", 2e6)
    small, large = (grid(hidden=[[width]], l2=list(range(13))) for width in (2, 500))
    found = plan(small, steps=10, batch_size=10)
    assert [(layout.devices, layout.size) for layout in layouts(found)] == [(3, 15)]
    few = plan(grid(hidden=[[2]], l2=[0, 1, 2]), steps=10, batch_size=10)
    assert [layout.devices for layout in layouts(few)] == [1]
    assert "divided among 3 devices: the products of one network are too small" in str(found)
    assert [layout.devices for layout in layouts(plan(large, steps=10))] == [1]
    assert "devices" not in str(plan(large, steps=10))
    asked = plan(large, steps=10, devices=2)
    assert [layout.devices for layout in layouts(asked)] == [2]
    assert "divided among 2 devices: as asked for" in str(asked)


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "2"])
def test_a_number_of_devices_that_cannot_be_is_refused(data, count, as_a_user):
    with pytest.raises(ConfigurationError, match=r"devices: expected a whole number.*, got"):
        table(data, count)


def test_more_devices_than_there_are_say_how_to_have_them(data):
    with pytest.raises(ConfigurationError, match=r"has 3 \(cpu\), got 64: .*num_cpu_devices\", 64"):
        table(data, 64)


def test_the_command_has_as_many_cpu_devices_as_it_asks_for(tmp_path):
    """In a process of its own: JAX is told before it computes anything."""
    job = tmp_path / "job.toml"
    job.write_text("[grid]\nl2 = [0.1, 0.2, 0.3]\nhidden = [[200]]\n")
    code = "import sys; from jaxnet.cli.parser import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["sweep", str(job), "--plan", "--devices", "4"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "divided among 3 devices: as asked for" in done.stdout
