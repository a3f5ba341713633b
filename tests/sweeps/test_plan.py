"""Which configurations train together: all of them, once, and never more than fit."""

import dataclasses
import functools
import importlib
import math
from itertools import groupby

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxnet.errors import ConfigurationError
from jaxnet.models import fully_connected
from jaxnet.sweeps import Halving, find_preset, grid
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.cost import memory_budget, network_bytes, program_flops, step_flops
from jaxnet.sweeps.planning.plan import Capacity, make_plan
from jaxnet.sweeps.stacks.prepared import method_of
from jaxnet.sweeps.stacks.stack import Stack
from jaxnet.training.program import Program
from jaxnet.training.settings import Shapes, configure
from jaxnet.verbs import plan, sweep

plan_module = importlib.import_module(
    "jaxnet.sweeps.planning.plan"
)  # the name is that of the function
SHAPES = Shapes((12,), 3)


def flops_of(structure):
    return step_flops(structure, SHAPES)


def bytes_of(structure):
    return network_bytes(Program(structure, SHAPES))


def planned(configurations, *, memory, steps=10, **options):
    return make_plan(configurations, SHAPES, steps=steps, capacity=Capacity(memory), **options)


def compiler_says(program):
    """What no estimate of ours is: some bytes for all, a third of the estimate for each."""
    return 1000, math.ceil(network_bytes(program) / 3)


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.setattr(plan_module, "compiled_bytes", compiler_says)


# Plain settings: what a strategy calls must not use `random`, as beartype does in `configure`.
settings_of_one = st.builds(
    lambda pre, **settings: {**pre, **settings},
    pre=st.sampled_from(
        [
            {"preprocessing": "none"},
            {"preprocessing": "zca"},
            {"preprocessing": "pca", "components": 2},
            {"preprocessing": "pca", "components": 3},
            {"preprocessing": "pca", "variance": 0.5},
        ]
    ),
    hidden=st.sampled_from([(), (5,), (5, 4), (9,), (6, 3), (700,)]),
    l2=st.floats(0, 1),
    dropout=st.sampled_from([0, 0.1, 0.5]),
    batch_size=st.sampled_from([10, 900]),
    precision=st.sampled_from(["float32", "float64"]),
    seed=st.sampled_from([0, 1]),
)
# With each the step from which it goes on.
all_settings = st.lists(st.tuples(settings_of_one, st.sampled_from([0, 0, 4])), max_size=25)
memories = st.floats(1, 1e7)
compiling = st.sampled_from([0.0, 1e-6, 1e-4, 1.0])  # from a program for each to one for all
small = st.sampled_from([0.0, 1e5, 1e12])


@hypothesis.given(all_settings, memories, compiling, small)
@hypothesis.settings(deadline=None)
def test_every_plan(all_settings, memory, compiling, small):
    configurations = [configure(**settings) for settings, _ in all_settings]
    begins = [begin for _, begin in all_settings]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "compiled_bytes", compiler_says)
        # Of both kinds of device: the backend of the tests is not their matter.
        patch.setattr(rates, "NOMINAL", dict.fromkeys(("cpu", "gpu"), (2e11, compiling, 0.0)))
        patch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(("cpu", "gpu"), small))
        found = planned(configurations, memory=memory, begins=begins)

    # Every configuration once.
    ids = [i for chunk in found.chunks for i in chunk.ids]
    assert sorted(ids) == list(range(len(configurations)))
    assert found.configurations == len(configurations)

    programs, together, work = set(), {}, 0.0
    for group in found.groups:
        members = [i for chunk in group.chunks for i in chunk.ids]
        structure, layout = group.program.structure, group.program.layout
        size, blocks = layout.size, layout.blocks
        assert (group.program.shapes, layout.devices) == (SHAPES, 1)
        assert blocks or members == sorted(members)
        assert {begins[i] for i in members} == {group.begin}
        # They are what the program is for, widths aside, and their widths fit into it.
        for i in members:
            own = configurations[i].structure
            assert structure == dataclasses.replace(own, hidden=structure.hidden)
            assert len(own.hidden) == len(structure.hidden)
            assert all(a <= b for a, b in zip(own.hidden, structure.hidden, strict=True))
        cell = (structure, layout.padded, blocks, group.begin)
        together.setdefault(cell, []).extend(members)

        # One seed, or small.
        seeds = [configurations[i].seed for i in members]
        assert set(group.seeds) == set(seeds)
        assert layout.shared == (len(group.seeds) == 1)
        each = program_flops(group.program) / size
        if not layout.shared:
            assert max(map(seeds.count, seeds)) * each < small
        values = {name: [configurations[i].numbers[name] for i in members] for name in ("l2",)}
        assert ("l2" in group.traced) == (len(set(values["l2"])) > 1)
        assert ("hidden" in group.traced) == layout.padded
        assert ("seed" in group.traced) == (not layout.shared)

        # Within the memory, unless one network alone is too large: then it runs alone. The
        # estimate decides where it suffices, else the compiler.
        memory_of_each, fixed = network_bytes(group.program), 0
        if len(members) * memory_of_each > memory:
            fixed, memory_of_each = compiler_says(group.program)
        assert group.bytes_per_network == memory_of_each
        assert size == 1 or fixed + size * memory_of_each <= memory
        if blocks:  # as many as the chunk with most needs, a copy of its last network in each gap
            widths = [[configurations[i].structure.hidden[0] for i in c.ids] for c in group.chunks]
            filled = [own + [own[-1]] * (size - len(own)) for own in widths]
            assert blocks == max(sum(math.ceil(w / 32) for w in own) for own in filled)
            block = dataclasses.replace(structure, hidden=(32,))
            assert each == pytest.approx(blocks * flops_of(block) / size)
            needed = sum(flops_of(configurations[i].structure) for i in members) / len(members)
            assert group.waste == pytest.approx(1 - needed / each)
        else:
            assert program_flops(group.program) == size * flops_of(structure)
            needed = sum(flops_of(configurations[i].structure) for i in members)
            waste = 1 - needed / (len(members) * flops_of(structure))
            assert group.waste == pytest.approx(waste, abs=1e-12)
            assert layout.padded or group.waste == 0.0
        # Filled slots included.
        assert group.flops_per_step == len(group.chunks) * program_flops(group.program)

        # One size a group, one compilation; filled up only where it cannot be helped: at the end.
        assert {chunk.size for chunk in group.chunks} == {size}
        if blocks:  # dealt: one less in some
            assert all(size - 1 <= len(chunk.ids) <= size for chunk in group.chunks)
        else:
            assert all(len(chunk.ids) == size for chunk in group.chunks[:-1])
            assert 1 <= len(group.chunks[-1].ids) <= size
        assert size == math.ceil(len(members) / len(group.chunks))
        # No fewer chunks would do.
        if len(group.chunks) > 1:
            larger = math.ceil(len(members) / (len(group.chunks) - 1))
            assert fixed + larger * memory_of_each > memory
        programs.add((structure, layout.padded, blocks, layout.shared, size))
        work += (10 - group.begin) * len(group.chunks) * size * each
    assert found.programs == len(programs)
    assert found.flops == pytest.approx(work, rel=1e-12)

    for (structure, padded, _, _), members in together.items():
        widths = [configurations[i].structure.hidden for i in members]
        assert structure.hidden == tuple(map(max, zip(*widths, strict=True)))
        assert padded == (len(set(widths)) > 1)

    # Data are preprocessed once for each method.
    methods = [method_of(group.program.structure) for group in found.groups]
    assert len([method for method, _ in groupby(methods)]) == len(set(methods))


def test_with_memory_for_all_there_is_one_chunk_a_group(monkeypatch):
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", {"cpu": 0.0, "gpu": 0.0})
    same = [configure(l2=l2, seed=seed) for seed in (0, 1) for l2 in (0, 1, 2)]
    chunks = planned(same, memory=1e12).chunks
    assert [(chunk.ids, chunk.size) for chunk in chunks] == [((0, 1, 2), 3), ((3, 4, 5), 3)]


def test_small_networks_of_several_seeds_are_one_group():
    same = [configure(l2=l2, seed=seed) for seed in (0, 1) for l2 in (0, 1, 2)]
    (group,) = planned(same, memory=1e12).groups
    layout = group.program.layout
    assert (layout.shared, group.seeds, layout.size) == (False, (0, 1), 6)


def test_a_group_is_cut_into_the_fewest_equal_parts(monkeypatch):
    def compiled(program):
        return 0, network_bytes(program)

    monkeypatch.setattr(plan_module, "compiled_bytes", compiled)
    same = [configure(hidden=5, l2=i) for i in range(10)]
    each = bytes_of(same[0].structure)
    # 4 at most: three chunks are needed, and 10 over three is 4, 4, 2.
    chunks = planned(same, memory=4.5 * each).chunks
    assert [(chunk.ids, chunk.size) for chunk in chunks] == [
        ((0, 1, 2, 3), 4),
        ((4, 5, 6, 7), 4),
        ((8, 9), 4),
    ]


def test_the_compiler_is_asked_only_where_the_estimate_does_not_do(monkeypatch):
    asked = []

    def compiled(*arguments):
        asked.append(arguments)
        return compiler_says(*arguments)

    monkeypatch.setattr(plan_module, "compiled_bytes", compiled)
    same = [configure(hidden=5, l2=i) for i in range(9)]
    each = bytes_of(same[0].structure)
    assert [chunk.size for chunk in planned(same, memory=9 * each).chunks] == [9]
    assert asked == []
    # A third of the estimate each, by the compiler: all nine where the estimate has room for four.
    assert [chunk.size for chunk in planned(same, memory=4 * each).chunks] == [9]
    assert len(asked) == 1


def test_groups_of_one_preprocessing_run_one_after_another():
    mixed = [
        configure(preprocessing=method, hidden=(width,) * depth)
        for width, depth in ((3, 1), (4, 2))
        for method in ("none", "zca", "standardize")
    ]
    chunks = planned(mixed, memory=1e12).chunks
    assert [chunk.ids for chunk in chunks] == [(0,), (3,), (1,), (4,), (2,), (5,)]


def test_some_of_the_configurations_are_planned_alone():
    same = [configure(hidden=5, l2=i) for i in range(10)]
    found = planned(same, memory=1e12, ids=[2, 3, 7], begins=[5] * 3 + [0] * 7)
    assert [(group.begin, group.chunks[0].ids) for group in found.groups] == [
        (5, (2,)),
        (0, (3, 7)),
    ]
    assert found.configurations == 3


def test_no_configurations_no_chunks():
    found = planned([], memory=1e9)
    assert found.chunks == []
    assert str(found) == "Nothing is left to train."


@pytest.mark.parametrize(
    ("hidden", "products"),
    [
        # (rows, inner, columns) of each matrix product of a step, written out by hand.
        ((), [(7, 12, 3), (12, 7, 3)]),
        ((5,), [(7, 12, 5), (7, 5, 3), (5, 7, 3), (7, 3, 5), (12, 7, 5)]),
        (
            (5, 4),
            [
                *[(7, 12, 5), (7, 5, 4), (7, 4, 3)],
                *[(4, 7, 3), (7, 3, 4), (5, 7, 4), (7, 4, 5), (12, 7, 5)],
            ],
        ),
    ],
)
def test_the_work_of_a_step_by_hand(hidden, products):
    structure = configure(hidden=hidden, batch_size=7).structure
    expected = sum(2 * rows * inner * columns for rows, inner, columns in products)
    assert flops_of(structure) == pytest.approx(expected, rel=1e-12)


def test_the_memory_of_a_network_is_an_estimate_from_above():
    """At least weights, gradients, both moments of Adam, and the activations of a batch."""
    for hidden in ((), (5,), (50, 40)):
        structure = configure(hidden=hidden, batch_size=900).structure
        net = fully_connected(hidden, SHAPES.classes)
        init = functools.partial(net.init, input_shape=SHAPES.input)
        params = jax.eval_shape(lambda key, init=init: init(key)[0], jax.random.key(0))
        weights = 4 * sum(leaf.size for leaf in jax.tree.leaves(params))
        activations = 4 * 900 * (sum(hidden) + SHAPES.classes)
        estimate = bytes_of(structure)
        assert 4 * weights + 2 * activations < estimate < 20 * (weights + activations)


def test_float64_takes_twice_the_memory():
    one, two = (configure(precision=p).structure for p in ("float32", "float64"))
    assert bytes_of(two) == 2 * bytes_of(one)


def test_the_budget_is_a_part_of_this_machine(monkeypatch):
    import os

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if jax.default_backend() == "cpu":
        assert memory_budget() == total / 4

    class Accelerator:
        def memory_stats(self):
            return {"bytes_limit": 1000}

    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator()])
    assert memory_budget() == 500


def test_the_default_sweep_is_few_chunks():
    configurations = find_preset("default").configurations()
    shapes = Shapes((784,), 10)
    found = make_plan(configurations, shapes, steps=200, capacity=Capacity(2.0**31))
    # 3 batch sizes × 3 widths, 16 rates and penalties each: nothing is filled up or cut.
    sizes = [group.program.layout.size for group in found.groups]
    assert sizes == [group.networks for group in found.groups]
    assert np.all([size % 16 == 0 for size in sizes])
    assert found.configurations == 144


@pytest.mark.parametrize(
    ("hidden", "batch_size", "networks", "chunks"),
    [
        (32, 32, 10_000, 7),  # 32·(32 + 10) activations: 1,560 in 2²¹
        (32, 32, 1_560, 1),
        (32, 32, 1_561, 2),
        (4000, 500, 64, 1),  # wide products: the rate does not depend on it
        (4000, 500, 65, 2),
    ],
)
def test_many_networks_stay_near_the_processor(hidden, batch_size, networks, chunks):
    own = configure(hidden=hidden, batch_size=batch_size)
    shapes = Shapes((2,), 10)
    found = make_plan([own] * networks, shapes, steps=200, capacity=Capacity(1e15))
    (group,) = found.groups
    assert len(group.chunks) == chunks
    assert chunks * group.program.layout.size - networks < chunks


def test_a_plan_says_what_is_compiled_and_what_is_an_array(monkeypatch):
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", {"cpu": 0.0, "gpu": 0.0})
    space = grid(learning_rate=[1e-1, 1e-2], l2=[0, 1], hidden=[[5], [7, 6]], seed=[0, 1])
    found = plan(space, steps=30, optimizer="adam", beta1=0.8)
    assert (found.configurations, len(found.groups), found.programs) == (16, 4, 2)
    assert found.split_by == ["hidden", "seed"]
    assert {group.traced for group in found.groups} == {("learning_rate", "l2")}
    structures = [configure(hidden=h).structure for h in ((5,), (7, 6))]
    shapes = Shapes((784,), 10)
    work = sum(step_flops(structure, shapes) for structure in structures)
    assert found.flops == pytest.approx(30 * 8 * work)
    assert found.bytes == 4 * network_bytes(Program(structures[1], shapes))
    text = str(found)
    assert "16 configurations × 30 steps: 4 groups, 4 chunks, 2 programs to compile" in text
    assert "Split by hidden, seed" in text
    assert "7-6" in text


def test_a_plan_says_why(monkeypatch):
    text = str(plan(grid(l2=[0, 1]), steps=2))
    assert "All share one program." in text
    assert "minibatches" not in text
    text = str(plan(grid(hidden=[[5], [6]], seed=[0, 1]), steps=2))
    assert "padded with zeros in 1 groups" in text
    assert "each on its own minibatches" in text
    monkeypatch.setattr(plan_module, "compiled_bytes", compiler_says)
    text = str(plan(grid(l2=list(range(20))), steps=2, memory=4e6))
    assert "More than one chunk: all at once would exceed the memory" in text
    text = str(plan(grid(l2=list(range(9))), steps=90, halving=Halving(3)))
    assert "Halving: 10 → 30 → 90 steps, the best 1/3 goes on" in text


def test_the_padding_of_a_group_by_hand(monkeypatch):
    """Widths 5 and 10 held as 10: 12·5 + 2·… multiplications are needed of twice as many."""
    monkeypatch.setattr(rates, "NOMINAL", dict.fromkeys(("cpu", "gpu"), (2e11, 1e3, 0.0)))
    (group,) = planned([configure(hidden=h) for h in (5, 10, 10)], memory=1e12).groups
    products = 200 * 2 * (2 * 12 + 3 * 3)  # a unit: x·W and its gradient, and three by classes
    assert group.program.structure.hidden == (10,)
    assert group.flops_per_step == 3 * 10 * products
    assert group.waste == pytest.approx(5 / 30, rel=1e-12)


STEPS = 6


@pytest.fixture
def advances():
    """The training programs that XLA compiles from now on."""
    seen = []

    def listen(event, seconds, **more):
        if "backend_compile" in event and more.get("fun_name") == "jit(advance)":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_plan_is_what_the_sweep_does(data, monkeypatch, advances, chunked):
    """Its stacks are those that are trained, its programs those that XLA compiles."""
    started, real = [], Stack.start

    def start(program, configurations, *arguments, **options):
        started.append((program, len(configurations), program.layout.size))
        return real(program, configurations, *arguments, **options)

    monkeypatch.setattr(Stack, "start", start)
    monkeypatch.setattr(plan_module, "compiled_bytes", compiler_says)
    if chunked:  # seeds apart
        monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", {"cpu": 0.0, "gpu": 0.0})
        space = grid(hidden=[[18], [18, 2]], l2=[0, 1, 2], seed=[0, 1])
        fixed, each = compiler_says(Program(configure(hidden=(18, 2)).structure, SHAPES))
        settings = {"memory": fixed + 2 * each}
    else:
        space = grid(hidden=[[17], [19]], l2=[0, 1, 2], seed=[0, 1], norm=["none", "batch"])
        settings = {}
    found = plan(space, data, steps=STEPS, batch_size=11, **settings)
    assert advances == []
    # keep=None: else the best of two seeds may have to be trained again to have its network.
    sweep(space, data, steps=STEPS, batch_size=11, keep=None, **settings)
    assert started == [
        (group.program, len(chunk.ids), chunk.size)
        for group in found.groups
        for chunk in group.chunks
    ]
    assert len(started) == (8 if chunked else 2)
    assert len(advances) == found.programs == 2


def test_a_budget_below_one_network_is_refused():
    with pytest.raises(ConfigurationError, match=r"hidden \(100,\), .* budget of 5"):
        plan([{}], memory=5)
