"""How a sweep is computed changes nothing of what it finds: neighbours, order, size of chunks."""

import jax
import numpy as np
import optax
import pytest

from jaxnet.sweeps import grid
from jaxnet.verbs import sweep, train

STEPS = 30
RATES = [3e-1, 1e-1, 3e-2, 1e-2, 1e-3]

# Other batch shapes sum in another order: see `ROUNDING` in conftest.py.
ROUNDING = 1e-4

pytestmark = pytest.mark.usefixtures("short_calls")


def rates(values, data, **settings):
    settings = {"steps": STEPS, "batch_size": 10, "hidden": [[5]], **settings}
    hidden = settings.pop("hidden")
    return sweep(grid(learning_rate=values, hidden=hidden), data, **settings)


@pytest.fixture(scope="module")
def five(data):
    return rates(RATES, data)


@pytest.mark.parametrize("hidden", [[5], [4, 3]], ids=str)
def test_a_member_equals_its_solo_run(data, losses, assert_same_runs, hidden):
    settings = {"steps": 20, "batch_size": 10, "l2": 0.1}
    together = rates(RATES, data, hidden=[hidden], **settings)
    for row in (together.rows[0], together.rows[3]):
        rate = row.settings["learning_rate"]
        (alone,) = train(data, hidden=hidden, learning_rate=rate, **settings).rows
        assert alone.settings == row.settings
        assert len(losses(alone)) == 20
        assert_same_runs(row, alone)
        # The first loss is made of the same weights and images: nothing to amplify yet.
        np.testing.assert_allclose(losses(row)[0], losses(alone)[0], rtol=1e-6)


def test_the_comparison_of_runs_can_fail(five, data, assert_same_runs):
    """A rate off by one percent, another seed, one image more in the batch: all are seen."""
    for change in ({"learning_rate": 0.303}, {"seed": 1}, {"batch_size": 11}, {"l2": 0.01}):
        settings = {"learning_rate": 0.3, "hidden": [5], "batch_size": 10, **change}
        (other,) = train(data, steps=STEPS, **settings).rows
        with pytest.raises(AssertionError):
            assert_same_runs(five.rows[0], other)


def test_seeds_that_train_together_equal_those_that_train_apart(five, data, trained, losses):
    """Each on its own minibatches: the same as where all share those of one seed."""
    space = grid(learning_rate=RATES, hidden=[[5]], seed=[0, 1])
    together = sweep(space, data, steps=STEPS, batch_size=10)
    assert [(one.networks, one.places) for one in trained] == [(10, 10)]
    apart = rates(RATES, data, seed=1)
    for alone, (of_0, of_1) in zip(
        zip(five.rows, apart.rows, strict=True),
        zip(together.rows[::2], together.rows[1::2], strict=True),
        strict=True,
    ):
        for one, other in zip(alone, (of_0, of_1), strict=True):
            assert one.settings == other.settings
            np.testing.assert_allclose(losses(one), losses(other), rtol=ROUNDING)
        assert np.abs(losses(of_0) - losses(of_1)).max() > 0.1  # other weights and images


def test_widths_that_are_padded_to_one_equal_those_that_are_not(five, data, trained, losses):
    """Hidden layers of 3, 4 and 5 as one program of 5, where that is cheaper than three."""
    space = grid(hidden=[[3], [4], [5]], learning_rate=RATES[:2])
    together = sweep(space, data, steps=STEPS, batch_size=10, keep=None)
    assert [one.networks for one in trained] == [6]
    for row in together.rows:
        (width,) = row.settings["hidden"]
        settings = {"hidden": [width], "learning_rate": row.settings["learning_rate"]}
        network = together.network_of(row.id)
        assert network.params["affine_1"]["w"].shape == (12, width)
        if width == 5:
            alone = five.rows[RATES.index(settings["learning_rate"])]
        elif settings["learning_rate"] == RATES[0]:
            (alone,) = train(data, steps=STEPS, batch_size=10, **settings).rows
        else:
            continue
        np.testing.assert_allclose(losses(row), losses(alone), rtol=ROUNDING)
        accuracy = network.accuracy(data.split(37).validation)
        assert row.outcome.val_accuracy == pytest.approx(accuracy, abs=1e-12)


def test_the_order_of_configurations_is_no_matter(five, data, assert_same_runs):
    turned = rates(RATES[::-1], data)
    for one, other in zip(five.rows, turned.rows[::-1], strict=True):
        assert one.settings == other.settings
        assert_same_runs(one, other)


@pytest.mark.parametrize("networks", [1, 2])
def test_the_size_of_chunks_is_no_matter(
    five, data, memory_for, trained, assert_same_runs, networks
):
    memory_for(networks)
    chunked = rates(RATES, data)
    sizes = [(one.networks, one.places) for one in trained]
    # The last one is filled up with a copy, so that it compiles nothing.
    assert sizes == {1: [(1, 1)] * 5, 2: [(2, 2), (2, 2), (1, 2)]}[networks]
    for one, other in zip(five.rows, chunked.rows, strict=True):
        assert_same_runs(one, other)
    assert chunked.best.id == five.best.id


def test_out_of_memory_the_chunk_is_halved(five, data, monkeypatch, trained, assert_same_runs):
    """The device has less than was thought: it says so when a program is too large."""
    from jaxnet.sweeps.stacks.stack import Stack

    real, failed = Stack.start.__func__, []

    def start(cls, program, *arguments, **settings):
        if program.layout.size > 2:
            failed.append(program.layout.size)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return real(cls, program, *arguments, **settings)

    monkeypatch.setattr(Stack, "start", classmethod(start))
    result = rates(RATES, data)
    assert failed[:2] == [5, 3]
    assert sum(one.networks for one in trained) == 5
    assert max(one.places for one in trained) <= 2
    for one, other in zip(five.rows, result.rows, strict=True):
        assert_same_runs(one, other)


def test_an_error_of_the_device_that_is_none_of_memory_is_raised(data, monkeypatch):
    from jaxnet.sweeps.stacks.stack import Stack

    def start(cls, *arguments, **settings):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(Stack, "start", classmethod(start))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        rates(RATES, data)


def test_a_diverging_neighbour_changes_no_bit(five, data, outcomes):
    """The same program with one rate exchanged."""
    beside = rates([3e-1, 1e-1, 1e9, 1e-2, 1e-3], data)
    assert [row.id for row in beside.diverged] == [2]
    for i in (0, 1, 3, 4):
        assert outcomes(beside)[i] == outcomes(five)[i]
    assert beside.best.id != 2


def test_how_often_the_host_looks_changes_no_bit(five, data, outcomes, monkeypatch):
    monkeypatch.setattr("jaxnet.sweeps.stacks.stack.SECONDS_PER_CALL", 0.5)
    assert outcomes(rates(RATES, data)) == outcomes(five)


def test_a_second_sweep_with_other_values_compiles_nothing(data, make_data, compilations):
    """Rates, penalties, seeds, steps, the numbers of the optimizer, and the images themselves."""

    def run(data, steps, **values):
        space = grid(learning_rate=[0.1, values.pop("rate")], l2=[0, values.pop("l2")])
        common = {"hidden": [6], "batch_size": 10, "optimizer": "momentum"}
        return sweep(space, data, steps=steps, **common, **values)

    run(data, 15, rate=0.01, l2=0.1, seed=0)
    assert compilations  # the counter counts
    before = len(compilations)
    run(data, 15, rate=0.02, l2=0.3, seed=0)
    run(data, 23, rate=0.5, l2=0.2, seed=5, momentum=0.5, init_scale=0.1)
    run(make_data(seed=9), 15, rate=0.02, l2=0.3, seed=0)
    assert len(compilations) == before
    run(data, 15, rate=0.01, l2=0.1, seed=0, activation="tanh")
    assert len(compilations) > before


def test_the_full_convention_of_l2_is_the_half_one_with_twice_the_strength(data, losses):
    """l2·Σ‖W‖² = (2·l2)/2·Σ‖W‖²; with the same number they differ."""

    def final(convention, l2):
        settings = {"hidden": [5], "batch_size": 10, "learning_rate": 0.1}
        (row,) = train(data, steps=20, l2=l2, l2_convention=convention, **settings).rows
        return losses(row)

    np.testing.assert_allclose(final("full", 0.25), final("half", 0.5), rtol=ROUNDING)
    difference = final("full", 0.25)[0] - final("half", 0.25)[0]
    # At the start the difference is l2/2·Σ‖W‖², and E‖W‖² of he is 2·outputs: Σ ≈ 2·(5 + 3).
    assert difference == pytest.approx(0.25 / 2 * 2 * (5 + 3), rel=0.5)


def test_float64_trains_in_float64(data, numpy_scores):
    settings = {"steps": STEPS, "hidden": [5], "batch_size": 10, "learning_rate": 0.1}
    double = train(data, precision="float64", **settings)
    assert {leaf.dtype for leaf in jax.tree.leaves(double.network.params)} == {np.dtype("float64")}
    assert not jax.config.jax_enable_x64  # and leaves the rest of the session as it was
    # The sum of squares etc. agree with themselves far beyond float32.
    again = train(data, precision="float64", backward="autodiff", **settings)
    np.testing.assert_allclose(
        double.rows[0].outcome.final_loss, again.rows[0].outcome.final_loss, rtol=1e-12
    )
    right = numpy_scores(double.network, data.test_images).argmax(axis=1) == data.test_labels
    assert double.test_accuracy == pytest.approx(right.mean(), abs=1e-12)


def test_both_backward_passes_train_the_same(data, assert_close):
    settings = {"steps": 20, "batch_size": 10, "learning_rate": 0.1, "hidden": [4, 3], "l2": 0.1}
    one, other = (train(data, backward=way, **settings).rows[0] for way in ("manual", "autodiff"))
    assert_close(one, other)


@pytest.mark.parametrize(
    ("foreign", "own"),
    [
        (
            {"optimizer": optax.adam(0.01)},
            {"optimizer": "adam", "learning_rate": 0.01},
        ),
        (
            {
                "optimizer": lambda rate, numbers: optax.sgd(rate, numbers["momentum"]),
                "momentum": 0.8,
                "learning_rate": 0.05,
            },
            {"optimizer": "momentum", "momentum": 0.8, "learning_rate": 0.05},
        ),
    ],
    ids=["adam", "function"],
)
def test_an_optimizer_of_optax_trains_as_ours(data, losses, foreign, own):
    common = {"steps": 20, "hidden": [5], "batch_size": 10}
    one, other = (train(data, **common, **s).rows[0] for s in (foreign, own))
    # optax computes with Python numbers where ours are float32 arrays (style.md).
    np.testing.assert_allclose(losses(one), losses(other), rtol=1e-3)
