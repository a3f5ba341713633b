"""Which configurations train together: all of them, once, and never more than fit."""

import importlib
import math
from itertools import groupby

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from jaxnet.configuration import configure
from jaxnet.errors import ConfigurationError
from jaxnet.models import fully_connected
from jaxnet.sweeps import grid, plan, sweep
from jaxnet.sweeps.plan import (
    make_plan,
    memory_budget,
    network_bytes,
    preprocessing_of,
    step_flops,
)

sweeps_module = importlib.import_module("jaxnet.sweeps.sweep")  # the name is that of the function
FEATURES, CLASSES = 12, 3


def planned(configurations, features, classes, *, memory):
    return make_plan(configurations, features, classes, steps=10, memory=memory).chunks


# Plain settings: what a strategy calls must not use `random`, as beartype does in `configure`.
all_settings = st.lists(
    st.builds(
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
        hidden=st.sampled_from([(), (5,), (5, 4), (9,)]),
        l2=st.floats(0, 1),
        dropout=st.sampled_from([0, 0.1, 0.5]),
        batch_size=st.sampled_from([10, 900]),
        precision=st.sampled_from(["float32", "float64"]),
        seed=st.sampled_from([0, 1]),
    ),
    max_size=25,
)
memories = st.floats(1, 1e7)


@hypothesis.given(all_settings, memories)
@hypothesis.settings(deadline=None)
def test_every_plan(all_settings, memory):
    configurations = [configure(**settings) for settings in all_settings]
    chunks = planned(configurations, FEATURES, CLASSES, memory=memory)

    # Every configuration once.
    assert sorted(i for chunk in chunks for i in chunk.ids) == list(range(len(configurations)))

    sizes = {}
    for chunk in chunks:
        members = [configurations[i] for i in chunk.ids]
        assert len({(c.structure, c.seed) for c in members}) == 1
        assert list(chunk.ids) == sorted(chunk.ids)
        structure = members[0].structure
        # Within the memory, unless one network alone is too large: then it runs alone.
        fits = chunk.size * network_bytes(structure, FEATURES, CLASSES) <= memory
        assert fits or chunk.size == 1
        flops = chunk.size * step_flops(structure, FEATURES, CLASSES)
        assert chunk.flops_per_step == pytest.approx(flops, rel=1e-12)
        sizes.setdefault((structure, members[0].seed), []).append((len(chunk.ids), chunk.size))

    for filled in sizes.values():
        # One size a group, one compilation; padding only where it cannot be helped: at the end.
        assert len({size for _, size in filled}) == 1
        size = filled[0][1]
        assert [n for n, _ in filled[:-1]] == [size] * (len(filled) - 1)
        assert 1 <= filled[-1][0] <= size
        total = sum(n for n, _ in filled)
        assert size == math.ceil(total / len(filled))

    # Data are preprocessed once for each method.
    methods = [preprocessing_of(configurations[chunk.ids[0]].structure) for chunk in chunks]
    assert len([method for method, _ in groupby(methods)]) == len(set(methods))


def test_with_memory_for_all_there_is_one_chunk_a_group():
    same = [configure(l2=l2, seed=seed) for seed in (0, 1) for l2 in (0, 1, 2)]
    chunks = planned(same, FEATURES, CLASSES, memory=1e12)
    assert [(chunk.ids, chunk.size) for chunk in chunks] == [((0, 1, 2), 3), ((3, 4, 5), 3)]


def test_a_group_is_cut_into_the_fewest_equal_parts():
    same = [configure(hidden=5, l2=i) for i in range(10)]
    each = network_bytes(same[0].structure, FEATURES, CLASSES)
    chunks = planned(same, FEATURES, CLASSES, memory=4.5 * each)
    # 4 at most: three chunks are needed, and 10 over three is 4, 4, 2.
    assert [(chunk.ids, chunk.size) for chunk in chunks] == [
        ((0, 1, 2, 3), 4),
        ((4, 5, 6, 7), 4),
        ((8, 9), 4),
    ]


def test_groups_of_one_preprocessing_run_one_after_another():
    mixed = [
        configure(preprocessing=method, hidden=width)
        for width in (3, 4)
        for method in ("none", "zca", "standardize")
    ]
    chunks = planned(mixed, FEATURES, CLASSES, memory=1e12)
    assert [chunk.ids for chunk in chunks] == [(0,), (3,), (1,), (4,), (2,), (5,)]


def test_no_configurations_no_chunks():
    assert planned([], FEATURES, CLASSES, memory=1e9) == []


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
    assert step_flops(structure, FEATURES, CLASSES) == pytest.approx(expected, rel=1e-12)


def test_the_memory_of_a_network_is_an_estimate_from_above():
    """At least weights, gradients, both moments of Adam, and the activations of a batch."""
    for hidden in ((), (5,), (50, 40)):
        structure = configure(hidden=hidden, batch_size=900).structure
        params, _, _ = fully_connected(hidden, CLASSES).init(jax.random.key(0), (FEATURES,))
        weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        activations = 4 * 900 * (sum(hidden) + CLASSES)
        estimate = network_bytes(structure, FEATURES, CLASSES)
        assert 4 * weights + 2 * activations < estimate < 20 * (weights + activations)


def test_float64_takes_twice_the_memory():
    one, two = (configure(precision=p).structure for p in ("float32", "float64"))
    assert network_bytes(two, 10, 3) == 2 * network_bytes(one, 10, 3)


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
    from jaxnet.sweeps import find_preset

    configurations = find_preset("default").configurations()
    chunks = planned(configurations, 784, 10, memory=2.0**31)
    assert len(chunks) == 9  # 3 batch sizes × 3 widths, 16 rates and penalties each
    assert np.all([chunk.size == 16 for chunk in chunks])


def test_a_plan_says_what_is_compiled_and_what_is_an_array():
    space = grid(learning_rate=[1e-1, 1e-2], l2=[0, 1], hidden=[[5], [7, 6]], seed=[0, 1])
    found = plan(space, steps=30, optimizer="adam", beta1=0.8)
    assert (found.configurations, len(found.groups), found.programs) == (16, 4, 2)
    assert found.split_by == ["hidden", "seed"]
    assert {group.traced for group in found.groups} == {("learning_rate", "l2")}
    work = sum(step_flops(configure(hidden=h).structure, 784, 10) for h in ((5,), (7, 6)))
    assert found.flops == pytest.approx(30 * 8 * work)
    assert found.bytes == 4 * network_bytes(configure(hidden=(7, 6)).structure, 784, 10)
    text = str(found)
    assert "16 configurations × 30 steps: 4 groups, 4 chunks, 2 programs to compile" in text
    assert "Split by hidden, seed" in text
    assert "7-6" in text


def test_a_plan_is_what_the_sweep_does(monkeypatch):
    called = []

    def noted(configurations, *arguments, **options):
        called.append(len(configurations))
        return train_chunk(configurations, *arguments, **options)

    train_chunk = sweeps_module.train_chunk
    monkeypatch.setattr(sweeps_module, "train_chunk", noted)
    space = grid(l2=[0, 1, 2], hidden=[[3], [4]])
    each = network_bytes(configure(hidden=4).structure, 784, 10)
    found = plan(space, steps=2, memory=2 * each)
    sweep(space, steps=2, memory=2 * each)
    assert called == [chunk.size for chunk in found.chunks] == [2, 2, 2, 2]


def test_one_program_for_all_is_said_so():
    assert "All share one program." in str(plan(grid(l2=[0, 1]), steps=2))


def test_a_budget_below_one_network_is_refused():
    with pytest.raises(ConfigurationError, match=r"hidden \(100,\), .* budget of 5"):
        plan([{}], memory=5)
