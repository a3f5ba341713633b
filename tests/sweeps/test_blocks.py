"""Two-layer nets in blocks: what comes out is what comes out without, and it is chosen rightly."""

import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.sweeps import random_draws
from jaxnet.sweeps.machine import rates
from jaxnet.sweeps.machine.cost import step_flops
from jaxnet.sweeps.space.space import integers
from jaxnet.training import blocks as blocks_module
from jaxnet.training.blocks import BLOCK_WIDTH, Blocks, blocks_of, can_be_cut
from jaxnet.training.layout import take_member, to_stack
from jaxnet.training.settings import Shapes, configure
from jaxnet.verbs import plan, sweep

NOW = ("cpu", "gpu")
STEPS = 20


@pytest.fixture(scope="module", autouse=True)
def quick(quick_programs):
    """Compile all of this file with few optimizations."""


@pytest.fixture
def short(monkeypatch):
    """Blocks of 4 units, so that small nets have several."""
    monkeypatch.setattr(blocks_module, "BLOCK_WIDTH", 4)


@pytest.fixture
def choose(monkeypatch):
    """Let blocks, or a program for each width, be what costs the least."""

    def set_costs(what):
        compiling = {"blocks": 1e9, "exact": 0.0}[what]
        monkeypatch.setattr(rates, "NOMINAL", dict.fromkeys(NOW, (2e11, compiling, 0.0)))

    return set_costs


def in_blocks(found):
    return [group.program.layout.blocks > 0 for group in found.groups]


# Cut and joined


@st.composite
def some_widths(draw):
    widths = draw(st.lists(st.integers(1, 300), min_size=1, max_size=6))
    return widths, draw(st.integers(0, 4))


@hypothesis.given(some_widths())
# Every shape is compiled, operation by operation: few examples.
@hypothesis.example(([32, 1, 33, 70], 3))
@hypothesis.settings(deadline=None, max_examples=4)
def test_networks_are_cut_and_joined(case):
    widths, spare = case
    units, count = max(widths), sum(math.ceil(width / BLOCK_WIDTH) for width in widths)
    assert blocks_of(widths) == count
    generator = np.random.default_rng(0)

    def network(width):
        w1, w2 = np.zeros((7, units)), np.zeros((units, 3))
        w1[:, :width], w2[:width] = generator.normal(size=(7, width)), 1 + np.arange(3)
        first = {"w": w1, "b": w1[0]}
        second = {"w": w2, "b": generator.normal(size=3)}
        return {"affine_1": first, "affine_2": second, "count": generator.normal()}

    networks = [network(width) for width in widths]
    leading = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), np.float32), *networks)
    stack = to_stack(leading)
    cut = Blocks.cut(jnp.asarray(widths, jnp.float32), units, count + spare)
    apart = cut.split(stack)

    place = 0
    for k, width in enumerate(widths):
        for start in range(0, width, BLOCK_WIDTH):
            here = min(BLOCK_WIDTH, width - start)
            block = take_member(apart, place)
            assert float(cut.width[place]) == here
            assert int(cut.owner[place]) == k
            own, whole = block["affine_1"]["w"], take_member(stack, k)
            assert own.shape == (7, BLOCK_WIDTH)
            np.testing.assert_array_equal(
                own[:, :here], whole["affine_1"]["w"][:, start : start + here]
            )
            np.testing.assert_array_equal(own[:, here:], 0)
            np.testing.assert_array_equal(
                block["affine_2"]["w"][:here], whole["affine_2"]["w"][start : start + here]
            )
            np.testing.assert_array_equal(block["affine_2"]["b"], whole["affine_2"]["b"])
            assert block["count"] == whole["count"]
            place += 1
    assert place == count
    for spare_place in range(count, count + spare):  # they fill up, and are nothing
        assert float(cut.width[spare_place]) == 0
        assert not np.any(take_member(apart, spare_place)["affine_1"]["w"])
    jax.tree.map(np.testing.assert_array_equal, cut.join(apart), stack)


# What comes out

WIDTHS = [[3], [10]]
CASES = [
    {"optimizer": "sgd"},
    {"optimizer": "adam", "eps": 1e-4, "norm": "batch", "activation": "sigmoid"},
    {"optimizer": "momentum", "activation": "gelu", "loss": "svm", "l2_convention": "full"},
    {"optimizer": "adamw", "weight_decay": 0.1, "label_smoothing": 0.1, "init": "glorot"},
    {"optimizer": "rmsprop", "eps": 1e-4, "schedule": "cosine", "norm": "batch"},
]
SPACE = [
    {"hidden": widths, "learning_rate": rate, "l2": l2}
    for widths in WIDTHS
    for rate, l2 in ((0.05, 0.0), (0.01, 0.1))
]


def compare(found, expected, data):
    validation = data.split(37).validation
    for one, other in zip(found.rows, expected.rows, strict=True):
        assert one.settings == other.settings
        assert one.outcome.status == other.outcome.status
        # Float64 sums in another order, some 1e-16 a step; see `test_fusion` of the enlargement
        # by an optimizer's division.
        assert one.outcome.final_loss == pytest.approx(other.outcome.final_loss, rel=1e-11)
        ours, theirs = one.outcome.history, other.outcome.history
        np.testing.assert_allclose(ours.loss, theirs.loss, rtol=2e-7)  # kept in float32
        if not one.ok:
            continue
        np.testing.assert_array_equal(ours.val_accuracy, theirs.val_accuracy)
        assert one.outcome.train_accuracy == other.outcome.train_accuracy
        network, alone = found.network_of(one.id), expected.network_of(other.id)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11),
            {"params": network.params, "state": network.state},
            {"params": alone.params, "state": alone.state},
        )
        assert network.accuracy(validation) == one.outcome.val_accuracy


def both(space, data, choose, **settings):
    options = {"steps": STEPS, "batch_size": 10, "precision": "float64", **settings}
    choose("blocks")
    assert in_blocks(plan(space, data, **options)) == [True]
    found = sweep(space, data, keep=None, **options)
    choose("exact")
    assert not any(in_blocks(plan(space, data, **options)))
    return found, sweep(space, data, keep=None, **options)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["optimizer"])
def test_blocks_find_what_networks_do(data, choose, short, case):
    found, expected = both(SPACE, data, choose, **case)
    compare(found, expected, data)
    assert found.best.id == expected.best.id
    # They differ. Their last losses need not: a hinge loss is exactly 0 once a network separates
    # its minibatch by the margin.
    assert len({row.outcome.history.loss.tobytes() for row in found.rows}) == len(SPACE)


def test_networks_that_diverge_leave_and_harm_nobody(data, choose, short, monkeypatch):
    """The rest goes on in fewer blocks."""
    space = [
        {"hidden": [width], "learning_rate": rate}
        for width, rate in zip(
            (3, 9, 5, 14, 6, 10), (0.05, 1e40, 1e40, 0.01, 1e40, 1e40), strict=True
        )
    ]
    monkeypatch.setattr("jaxnet.sweeps.stacks.stack.fitting_size", lambda left, size, flops: left)
    sizes = []
    compact = blocks_module.blocks_of
    monkeypatch.setattr(
        "jaxnet.sweeps.stacks.stack.blocks_of",
        lambda widths: sizes.append(compact(widths)) or sizes[-1],
    )
    found, expected = both(space, data, choose)
    compare(found, expected, data)
    assert [row.ok for row in found.rows] == [True, False, False, True, False, False]
    assert sizes[0] == 15
    assert sizes[-1] == 5


@pytest.mark.parametrize("fault", ["scores", "penalty"])
def test_a_sum_over_the_blocks_that_is_missing_is_seen(data, choose, short, monkeypatch, fault):
    def total(self, value):
        missing = value.ndim == (2 if fault == "scores" else 0)
        return value if missing else right(self, value)

    right = Blocks.total
    monkeypatch.setattr(Blocks, "total", total)
    space = [{**one, "l2": 0.1} for one in SPACE]
    own = {"scores": "tanh", "penalty": "sigmoid"}[fault]  # programs that no other test has
    found, expected = both(space, data, choose, steps=5, activation=own)
    for one, other in zip(found.rows, expected.rows, strict=True):
        error = abs(one.outcome.final_loss - other.outcome.final_loss)
        assert (error > 1e-6) == (one.settings["hidden"][0] > 4)  # a net of one block is whole


def test_a_sweep_that_is_killed_goes_on_in_its_blocks(data, choose, short, tmp_path, monkeypatch):
    """With the results of one that was not, bit by bit."""
    choose("blocks")
    options = {"steps": STEPS, "batch_size": 10, "evaluations": 5}
    whole = sweep(SPACE, data, **options)
    calls = []

    def interrupt(told):
        calls.append(told.step)
        if len(calls) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        sweep(SPACE, data, out=out, callback=interrupt, **options)
    again = sweep(SPACE, data, out=out, **options)
    for one, other in zip(again.rows, whole.rows, strict=True):
        assert one.outcome.final_loss == other.outcome.final_loss
        np.testing.assert_array_equal(one.outcome.history.loss, other.outcome.history.loss)


# When


def test_blocks_are_chosen_by_nominal_time(choose):
    """In a search over many widths they are; where a program for each costs nothing, they are not.

    The plan says so, and counts their work: all units, and what fills up the last blocks.
    """
    space, settings = random_draws(60, hidden=integers(10, 400)), {"steps": 200}
    found = plan(space, **settings)
    assert in_blocks(found) == [True]
    assert "cut into blocks of 32 units side by side" in str(found)
    (group,) = found.groups
    widths = [configuration["hidden"] for configuration in space.settings(0)]
    each = -(-np.asarray(widths) // 32) * 32
    work = sum(200 * (4 * 784 * units + 6 * units * 10) for units in each.tolist())
    assert group.flops_per_step == pytest.approx(work)
    shapes = Shapes((784,), 10)
    needed = sum(step_flops(configure(hidden=[w]).structure, shapes) for w in widths)
    assert group.waste == pytest.approx(1 - needed / work, rel=1e-9)
    choose("exact")
    assert not any(in_blocks(plan(space, **settings)))


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        ({}, True),
        ({"norm": "batch", "optimizer": "adam", "loss": "svm"}, True),
        ({"norm": "layer"}, False),
        ({"dropout": 0.2}, False),
        ({"clip_norm": 1.0}, False),
        ({"backward": "autodiff"}, False),
        ({"hidden": [80, 80]}, False),
        ({"hidden": []}, False),
        ({"architecture": "inception_resnet"}, False),
    ],
)
def test_what_can_be_cut(settings, can):
    assert can_be_cut(configure(**settings).structure) is can


def test_halving_rounds_devices_and_seeds_train_whole_networks(choose, monkeypatch):
    choose("blocks")
    space, settings = random_draws(60, hidden=integers(10, 400)), {"steps": 200}
    assert in_blocks(plan(space, **settings)) == [True]
    assert not any(in_blocks(plan(space, **settings, halving=3)))
    assert not any(in_blocks(plan(space, **settings, devices=2)))
    seeds = [{**own, "seed": seed} for seed in (0, 1) for own in space.settings(0)]
    assert in_blocks(plan(seeds, **settings)) == [True, True]
    monkeypatch.setattr(rates, "SEEDS_APART_MIN_FLOPS", dict.fromkeys(NOW, math.inf))
    assert not any(in_blocks(plan(seeds, **settings)))


def test_blocks_of_one_structure_are_one_program(choose):
    """However networks fall into chunks."""
    choose("blocks")
    space = random_draws(300, hidden=integers(10, 400))
    widths, found = [own["hidden"] for own in space.settings(0)], plan(space, steps=200)
    assert len(found.chunks) > 1
    assert found.programs == 1
    (group,) = found.groups
    blocks = [blocks_of([widths[i] for i in chunk.ids]) for chunk in group.chunks]
    # Dealt by width: no chunk has more than another by more than a widest network.
    assert group.program.layout.blocks == max(blocks)
    assert max(blocks) - min(blocks) <= blocks_of([400])
    assert sorted(i for chunk in group.chunks for i in chunk.ids) == list(range(300))
