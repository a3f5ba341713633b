"""Widths and seeds in one program: chosen by the least nominal time, and without a trace."""

import dataclasses
import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import optax
import pytest

from jaxnet import Model
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.sweeps import grid, random_draws
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.cost import program_flops
from jaxnet.sweeps.machine.rates import fitting_size
from jaxnet.sweeps.planning.grouping import RATIOS, bucket, by_seed, family_of
from jaxnet.sweeps.space.space import integers, log_uniform
from jaxnet.training.blocks import can_be_cut
from jaxnet.training.layout import Layout
from jaxnet.training.program import Program
from jaxnet.training.settings import Shapes, configure
from jaxnet.verbs import plan, sweep

SHAPES = Shapes((12,), 3)
NOW = ("cpu", "gpu")  # a cost is set for both: the backend of the tests is not their matter


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations."""


@pytest.fixture
def cost(monkeypatch):
    """Set what a program costs to compile, and a step, in seconds."""

    def set_cost(compiling, per_step=0.0, rate=2e11):
        monkeypatch.setattr(rates, "NOMINAL", dict.fromkeys(NOW, (rate, compiling, per_step)))

    return set_cost


@pytest.fixture
def separate_seeds(monkeypatch):
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(NOW, 0.0))


@pytest.fixture
def joint_seeds(monkeypatch):
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(NOW, math.inf))


# Widths: which are held together


def ladder(widths, ratio):
    """Cut widths, restated: two are in one cell if every layer lies between the same powers."""

    def rung(width):
        power = 0
        while ratio ** (power + 1) <= width * (1 + 1e-9):
            power += 1
        return power

    cells = {}
    for hidden in widths:
        place = hidden if ratio == 1 else tuple(map(rung, hidden))
        cells.setdefault(place, []).append(hidden)
    return list(cells.values())


def seconds(cells, steps, counts, batch, rate, compiling, per_step):
    """Nominal time of a list of cells, each its widths, from the products written out."""
    total = 0.0
    for cell in cells:
        sizes = [SHAPES.features, *map(max, zip(*cell, strict=True)), SHAPES.classes]
        products = [a * b for a, b in itertools.pairwise(sizes)]
        work = batch * (4 * products[0] + 6 * sum(products[1:]))
        networks = sum(counts[hidden] for hidden in cell)
        total += compiling + steps * (per_step + networks * work / rate)
    return total


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=12),
    st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 1.0]),
    st.sampled_from([0.0, 1e-4]),
    st.sampled_from([1, 100, 10_000]),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_the_ladder_of_least_nominal_time_is_chosen(widths, compiling, per_step, steps):
    rate = 2e11
    configurations = [configure(hidden=hidden, batch_size=10) for hidden in widths]
    members, counts = {}, {}
    for i, configuration in enumerate(configurations):
        structure = configuration.structure
        members.setdefault(structure, []).append(i)
        counts[structure.hidden] = counts.get(structure.hidden, 0) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "NOMINAL", dict.fromkeys(NOW, (rate, compiling, per_step)))
        cells = bucket(members, steps, SHAPES)

    assert sorted(i for ids in cells.values() for i in ids) == list(range(len(widths)))
    for program, ids in cells.items():
        inside = [widths[i] for i in ids]
        assert program.structure.hidden == tuple(map(max, zip(*inside, strict=True)))
        assert program.layout == Layout(size=len(ids), padded=len(set(inside)) > 1)
        assert program.shapes == SHAPES
        plain = dataclasses.replace(program.structure, hidden=())
        assert plain == dataclasses.replace(configurations[0].structure, hidden=())
    chosen = [sorted({widths[i] for i in ids}) for ids in cells.values()]
    given_to = (steps, counts, 10, rate, compiling, per_step)
    least = min(seconds(ladder(counts, ratio), *given_to) for ratio in RATIOS)
    # Sums in another order: some ulps.
    assert seconds(chosen, *given_to) == pytest.approx(least, rel=1e-9)


def test_dear_programs_are_few_and_cheap_ones_are_exact(cost):
    nets = [configure(hidden=h) for h in ([5, 4], [6, 9], [80, 3], [7, 7])]
    members = {c.structure: [i] for i, c in enumerate(nets)}
    cost(compiling=1e9)
    (only,) = bucket(members, 10, SHAPES)
    assert only.structure.hidden == (80, 9)  # the largest in each layer, of no net
    assert only.layout.padded
    cost(compiling=0.0)
    exact = bucket(members, 10, SHAPES)
    assert exact == {Program(structure, SHAPES): ids for structure, ids in members.items()}


def all_different(layers):
    """200 nets, no two of one shape, with rates and penalties of their own."""
    generator, space = (
        np.random.default_rng(0),
        random_draws(200, learning_rate=log_uniform(1e-4, 1e-1), l2=log_uniform(1e-5, 1)),
    )
    widths = [generator.permutation(np.arange(20, 220)).tolist() for _ in range(layers)]
    nets = [list(hidden) for hidden in zip(*widths, strict=True)]
    return [{**own, "hidden": net} for own, net in zip(space.settings(0), nets, strict=True)]


@pytest.mark.parametrize(("layers", "steps"), [(1, 1000), (2, 200)])
def test_a_random_search_over_widths_is_few_programs(layers, steps):
    settings = all_different(layers)
    assert len({tuple(own["hidden"]) for own in settings}) == 200
    found = plan(settings, steps=steps)
    assert found.configurations == 200
    assert 1 <= found.programs < 10
    # The padding is paid for: less than half of the work, where one program for all and 200 exact
    # ones are both there to choose from.
    each = [program_flops(g.program) / g.program.layout.size for g in found.groups]
    needed = sum(
        group.networks * own * (1 - group.waste)
        for group, own in zip(found.groups, each, strict=True)
    )
    exact = [configure(**own).structure for own in settings]
    by_hand = sum(
        200
        * (4 * 784 * s.hidden[0] + 6 * sum(a * b for a, b in itertools.pairwise([*s.hidden, 10])))
        for s in exact
    )
    assert needed == pytest.approx(by_hand, rel=1e-9)
    assert needed < found.flops / steps < 2 * needed


def test_integers_as_widths_are_few_programs():
    assert plan(random_draws(100, hidden=integers(10, 300)), steps=1000).programs < 10


def unknown_optimizer(rate, numbers):
    return optax.sgd(rate)


def _init(key, width=4):
    return jax.numpy.zeros((12, width))


def _loss(params, x, labels, key):
    return params.sum(), x.reshape(len(x), -1) @ params


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": unknown_optimizer},
        {"optimizer": optax.sgd(0.1)},
        {"optimizer": "adam", "eps": 0},
        {"optimizer": "rmsprop", "eps": 0.0},
    ],
)
def test_what_padding_could_change_is_not_padded(cost, settings):
    cost(compiling=1e9)
    found = plan(grid(hidden=[[5], [6]]), steps=2, **settings)
    assert [group.program.structure.hidden for group in found.groups] == [(5,), (6,)]
    assert not any(group.program.layout.padded for group in found.groups)
    known = {**settings, "optimizer": "adam", "eps": 1e-8}
    assert plan(grid(hidden=[[5], [6]]), steps=2, **known).programs == 1  # so it can be


def test_a_model_of_a_user_is_not_padded(cost):
    cost(compiling=1e9)
    model = Model(_init, _loss)
    families = {family_of(configure(model=model, width=width)) for width in (3, 4)}
    assert len(families) == 2


@pytest.mark.parametrize("promise", ["keeps_zeros", "is_elementwise"])
def test_a_rule_is_padded_and_cut_as_its_row_promises(cost, monkeypatch, promise):
    cost(compiling=1e9)
    row = dataclasses.replace(OPTIMIZERS["sgd"], **{promise: False})
    monkeypatch.setitem(OPTIMIZERS, "careless", row)
    careless, known = (configure(hidden=[5], optimizer=name) for name in ("careless", "sgd"))
    assert (can_be_cut(careless.structure), can_be_cut(known.structure)) == (False, True)
    padded = [
        plan(grid(hidden=[[5], [6]]), steps=2, optimizer=name).programs == 1
        for name in ("careless", "sgd")
    ]
    assert padded == [promise != "keeps_zeros", True]


def test_depth_is_not_padded(cost):
    cost(compiling=1e9)
    found = plan(grid(hidden=[[5], [6], [5, 5], []]), steps=2)
    assert sorted(group.program.structure.hidden for group in found.groups) == [(), (5, 5), (6,)]


# Widths: what comes out

# Each norm with each activation; each optimizer; dropout; two and three layers. One case each
# costs a compilation, so a case varies several at once.
CASES = [
    {"norm": "none", "activation": "relu", "optimizer": "sgd", "hidden": [[3], [6]]},
    {"norm": "none", "activation": "gelu", "optimizer": "adam", "hidden": [[6, 2], [3, 5]]},
    {
        **{"norm": "batch", "activation": "sigmoid", "optimizer": "momentum", "dropout": 0.3},
        "hidden": [[3], [6]],
    },
    {
        **{"norm": "layer", "activation": "sigmoid", "optimizer": "sgd", "dropout": 0.3},
        # At the others' rates it learns less in its few steps than minibatches and masks differ.
        **{"hidden": [[5, 3], [4, 6]], "rates": (0.5, 0.1)},
    },
    {"norm": "layer", "activation": "gelu", "optimizer": "momentum", "hidden": [[3], [6]]},
]
STEPS = 20


def names_of(case):
    return "-".join([*(case[n] for n in ("norm", "activation", "optimizer")), str(case["hidden"])])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=names_of)
def test_a_padded_sweep_finds_what_an_unpadded_one_does(data, cost, case):
    case = dict(case)
    hidden, rates = case.pop("hidden"), case.pop("rates", (0.05, 0.01))
    if case["optimizer"] == "adam":
        case["eps"] = 1e-4  # see below
    # Both widths, and with other numbers beside them.
    space = [
        {"hidden": widths, "learning_rate": rate, "l2": l2}
        for widths in hidden
        for rate, l2 in zip(rates, (0.0, 0.1), strict=True)
    ]
    settings = {"steps": STEPS, "batch_size": 10, "precision": "float64", "keep": None, **case}
    cost(compiling=1e9)
    assert plan(space, data, **{k: v for k, v in settings.items() if k != "keep"}).programs == 1
    padded = sweep(space, data, **settings)
    cost(compiling=0.0)
    assert plan(space, data, **{k: v for k, v in settings.items() if k != "keep"}).programs == 2
    exact = sweep(space, data, **settings)

    validation = data.split(37).validation
    for one, other in zip(padded.rows, exact.rows, strict=True):
        assert one.settings == other.settings
        # Float64 sums of other lengths: some 1e-16 a step. Adam divides by the root of a square
        # where the gradient is zero but for rounding (a bias before a norm), which rate/eps = 500
        # enlarges.
        for name in ("final_loss", "train_accuracy", "val_accuracy"):
            found, expected = getattr(one.outcome, name), getattr(other.outcome, name)
            assert found == pytest.approx(expected, rel=1e-12)
        history, expected = one.outcome.history, other.outcome.history
        # Losses are kept in float32, so equal but for a neighbour.
        np.testing.assert_allclose(history.loss, expected.loss, rtol=2e-7)
        np.testing.assert_array_equal(history.val_accuracy, expected.val_accuracy)

        network, alone = padded.network_of(one.id), exact.network_of(other.id)
        assert network.net.hidden == tuple(one.settings["hidden"])
        shapes = jax.tree.map(np.shape, {"params": alone.params, "state": alone.state})
        assert jax.tree.map(np.shape, {"params": network.params, "state": network.state}) == shapes
        assert network.params["affine_1"]["w"].shape == (12, one.settings["hidden"][0])
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            network.params,
            alone.params,
        )
        assert network.accuracy(validation) == one.outcome.val_accuracy
    assert padded.best.id == exact.best.id
    assert padded.test_accuracy == exact.test_accuracy
    # They have learnt, and differ: or all of it could be equal without a network.
    assert len({row.outcome.final_loss for row in padded.rows}) == len(space)
    assert np.nanmin([r.outcome.final_loss - r.outcome.history.loss[0] for r in padded.rows]) < 0


def test_a_padded_network_that_is_damaged_is_seen(data, cost, monkeypatch):
    """The comparison can fail: units beyond the width that are not masked change the losses."""
    from jaxnet import models
    from jaxnet.compose import identity

    monkeypatch.setattr(models, "first_units", lambda width: identity())
    space = [{"hidden": h, "learning_rate": 0.05} for h in ([3], [7])]
    options = {"steps": 5, "batch_size": 10, "activation": "sigmoid", "precision": "float64"}
    cost(compiling=1e9)
    padded = sweep(space, data, **options)
    cost(compiling=0.0)
    exact = sweep(space, data, **options)
    narrow, wide = (
        abs(a.outcome.final_loss - b.outcome.final_loss)
        for a, b in zip(padded.rows, exact.rows, strict=True)
    )
    assert narrow > 1e-6
    assert wide < 1e-12


# Seeds


def test_seeds_of_small_networks_train_together(joint_seeds):
    nets = [configure(hidden=[5], seed=seed, l2=l2) for seed in (4, 2) for l2 in (0, 1)]
    assert by_seed([0, 1, 2, 3], nets, 1.0) == [([0, 1, 2, 3], False)]
    assert by_seed([0, 1], nets, 1.0) == [([0, 1], True)]  # one seed is shared however small


def test_seeds_of_large_networks_train_apart():
    nets = [configure(hidden=[5], seed=seed, l2=l2) for seed in (4, 2) for l2 in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(NOW, 20.0))
        assert by_seed([0, 1, 2, 3], nets, 10.0) == [([0, 1], True), ([2, 3], True)]
        assert by_seed([0, 1, 2, 3], nets, 9.9) == [([0, 1, 2, 3], False)]
        # What fills the machine is one seed's networks, the seed with most of them.
        assert by_seed([0, 1, 2], nets, 10.0) == [([0, 1], True), ([2], True)]


def test_own_minibatches_give_what_shared_ones_do(data, monkeypatch):
    space = grid(learning_rate=[0.3, 1e300, 0.05], seed=[0, 7, 3])
    options = {"steps": STEPS, "batch_size": 10, "hidden": [6], "precision": "float64"}
    found = []
    for small, shared in ((0.0, [True] * 3), (math.inf, [False])):
        monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(NOW, small))
        groups = plan(space, data, **options).groups
        assert [group.program.layout.shared for group in groups] == shared
        found.append(sweep(space, data, **options, keep=None, dropout=0.2))
    for apart, joint in zip(found[0].rows, found[1].rows, strict=True):
        assert apart.settings == joint.settings
        assert apart.outcome.status == joint.outcome.status
        # Products of other shapes sum in another order: some 1e-16 a step, in float64.
        assert joint.outcome.final_loss == pytest.approx(apart.outcome.final_loss, rel=1e-12)
        one, other = apart.outcome.history, joint.outcome.history
        np.testing.assert_allclose(one.loss, other.loss, rtol=2e-7)  # kept in float32
        np.testing.assert_array_equal(one.train_accuracy, other.train_accuracy)
        np.testing.assert_array_equal(one.val_accuracy, other.val_accuracy)
    by = {(r.settings["learning_rate"], r.settings["seed"]): r for r in found[1].rows}
    firsts = {float(by[0.3, seed].outcome.history.loss[0]) for seed in (0, 7, 3)}
    assert len(firsts) == 3  # other weights, other minibatches


def test_a_finite_loss_beyond_float32_is_kept_without_a_warning(data):
    result = sweep(
        [{"learning_rate": 1e9}], data, steps=STEPS, batch_size=10, hidden=[6], precision="float64"
    )
    outcome = result.rows[0].outcome
    assert outcome.kind == "diverged"
    assert np.isfinite(outcome.history.loss[: outcome.steps]).all()


# Sizes


@hypothesis.given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 1e15), st.floats(1e-3, 10))
def test_fitting_size(networks, more, flops, compiling):
    size = networks + more - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "NOMINAL", dict.fromkeys(NOW, (1e11, compiling, 0.0)))
        found = fitting_size(networks, size, flops)
    sizes = [size]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    assert networks <= found <= size
    assert found in sizes  # of one size come few others: programs are reused
    smallest = min(s for s in sizes if s >= networks)
    worth = (size - smallest) * flops / 1e11 > compiling
    assert found == (smallest if worth else size)


def test_fitting_size_by_hand(cost):
    cost(compiling=1.0, rate=1.0)
    assert fitting_size(5, 20, flops_each=1.0) == 5
    assert fitting_size(6, 20, flops_each=1.0) == 10
    assert fitting_size(11, 20, flops_each=1.0) == 20
    assert fitting_size(5, 20, flops_each=1 / 15) == 20  # as long as to compile
    assert fitting_size(1, 7, flops_each=1.0) == 1
    assert fitting_size(3, 7, flops_each=1.0) == 4
    assert fitting_size(1, 1, flops_each=9.0) == 1
