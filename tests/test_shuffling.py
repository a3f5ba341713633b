"""Shuffled minibatches: a permutation each epoch, a fair one, and the same however a run is cut."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet import Model, configure
from jaxnet.data import DataSet
from jaxnet.sweeps import grid
from jaxnet.training import minibatches as shuffling
from jaxnet.training.layout import Layout
from jaxnet.training.learner import Hyperparameters
from jaxnet.training.minibatches import ROUNDS, shuffled_rows
from jaxnet.training.numerics import numerics
from jaxnet.training.program import Counts, Program
from jaxnet.training.settings import Shapes
from jaxnet.training.step import DeviceData
from jaxnet.verbs import sweep, train

MOST = 2**31 - 1  # steps and rows are int32
BATCH = 128  # of the tests that look at many sizes: one compilation


def key_of(seed):
    """Restate the key of minibatches: a change here changes every published number."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 1)


@functools.cache
def drawing(batch_size):
    """The function compiled, as (seed, step, examples) -> rows."""
    rows = functools.partial(shuffled_rows, batch_size=batch_size)
    return jax.jit(lambda seed, step, examples: rows(key_of(seed), step, examples))


def draw(seed, step, examples, batch_size=BATCH):
    rows = drawing(batch_size)(jnp.uint32(seed), jnp.int32(step), jnp.int32(examples))
    assert rows.dtype == jnp.int32
    return np.asarray(rows)


def epochs_of(examples, epochs, seed=0, batch_size=BATCH):
    """Return the rows of the first epochs [epochs, examples], from as many minibatches."""
    steps = math.ceil(epochs * examples / batch_size)
    rows = np.concatenate([draw(seed, step, examples, batch_size) for step in range(steps)])
    return rows[: epochs * examples].reshape(epochs, examples)


def assert_each_once(rows):
    """Every epoch has every image once."""
    expected = np.broadcast_to(np.arange(rows.shape[1]), rows.shape)
    np.testing.assert_array_equal(np.sort(rows, axis=1), expected)


# Sizes around the powers of 2 and 4, where the bits of the Feistel network change.
SIZES = [*range(1, 20), 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 1024, 1025, 4097]


@pytest.mark.parametrize("examples", SIZES)
def test_an_epoch_has_every_image_once(examples):
    rows = epochs_of(examples, 3)
    assert_each_once(rows)
    if examples > 20:
        assert not (rows[0] == rows[1]).all()
        assert not (rows[1] == rows[2]).all()


def test_an_epoch_of_cifar10_has_every_image_once():
    assert_each_once(epochs_of(49000, 2, batch_size=500))


@pytest.mark.parametrize(("examples", "batch_size"), [(1, 5), (2, 7), (3, 128), (10, 10), (7, 3)])
def test_a_minibatch_may_be_larger_than_an_epoch_and_reach_into_the_next(examples, batch_size):
    assert_each_once(epochs_of(examples, 4 * batch_size, batch_size=batch_size))


def test_the_largest_data_set_has_rows_of_its_own():
    for step in (0, 1, MOST):
        rows = draw(3, step, MOST)
        assert rows.min() >= 0
        assert rows.max() < MOST
        assert len(np.unique(rows)) == BATCH


# Against the same in plain Python, whose integers have no end


def predicted(seed, step, examples, batch_size):
    """Restate the draw with Python's integers: a change here changes every published number."""
    half = max(1, ((examples - 1).bit_length() + 1) // 2)
    mask, rows = 2**half - 1, []
    for i in range(batch_size):
        epoch, x = divmod(step * batch_size + i, examples)
        keys = round_keys(seed, epoch % 2**32)
        while True:
            left, right = x >> half, x & mask
            for key in keys:
                left, right = right, left ^ (murmur3_finalizer(right ^ key) & mask)
            x = left << half | right
            if x < examples:
                break
        rows.append(x)
    return np.array(rows)


@functools.cache
def round_keys(seed, epoch):
    key = jax.random.fold_in(key_of(seed), jnp.uint32(epoch))
    return [int(k) for k in jax.random.bits(key, (ROUNDS,), jnp.uint32)]


def murmur3_finalizer(h):
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


STEPS = [0, 1, 2, 12345, 2**16, 2**30 + 7, MOST - 1, MOST]
NUMBERS = [1, 2, 3, 5, 1000, 49000, 2**16, 2**30 + 1, MOST - 1, MOST]


@pytest.mark.parametrize("examples", NUMBERS)
def test_a_draw_is_that_of_plain_python(examples):
    for step in STEPS:
        for batch_size in (1, 7):
            expected = predicted(5, step, examples, batch_size)
            np.testing.assert_array_equal(draw(5, step, examples, batch_size), expected)


def check_positions(batch_size):
    positions = jax.jit(functools.partial(shuffling._positions, batch_size=batch_size))
    i = np.arange(batch_size, dtype=object)
    for step, examples in itertools.product(STEPS, NUMBERS):
        epochs, places = positions(jnp.uint32(step), jnp.uint32(examples))
        position = step * batch_size + i
        np.testing.assert_array_equal(epochs, (position // examples % 2**32).astype(np.uint32))
        np.testing.assert_array_equal(places, (position % examples).astype(np.uint32))


@pytest.mark.parametrize("batch_size", [1, 2, 500, 4099])
def test_epoch_and_place_are_exact_up_to_the_last_step(batch_size):
    check_positions(batch_size)


def test_products_beyond_32_bits_are_divided_exactly():
    generator = np.random.default_rng(0)
    numbers = [*NUMBERS, *generator.integers(1, MOST, 200).tolist()]
    divide = jax.jit(shuffling._product_over)
    for n in numbers:
        a, b = int(generator.integers(0, MOST + 1)), int(generator.integers(0, n))
        for first, second in ((a, b), (MOST, n - 1)):
            found = divide(*map(jnp.uint32, (first, second, n)))
            quotient, remainder = divmod(first * second, n)
            assert tuple(map(int, found)) == (quotient % 2**32, remainder)


# How fair


@functools.cache
def orders(examples, seeds):
    """Return the first order of many seeds [seeds, examples]: the row at each place."""
    rows = functools.partial(shuffled_rows, batch_size=examples)
    keys = jax.vmap(key_of)(jnp.arange(seeds, dtype=jnp.uint32))
    drawn = jax.jit(jax.vmap(lambda key: rows(key, jnp.int32(0), jnp.int32(examples))))
    return np.asarray(drawn(keys))


def deviations(counts, freedom=None):
    """Return how many standard deviations chi-square of equal chances lies above its mean."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1 if freedom is None else freedom
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


def check_places(rows):
    """Every image is as likely at every place."""
    seeds, n = rows.shape
    counts = np.stack([np.bincount(rows[:, place], minlength=n) for place in range(n)])
    assert counts.sum() == seeds * n
    # Rows and columns of the table have given sums. 5 deviations: 1e-6 by chance, seeds are fixed.
    assert abs(deviations(counts, (n - 1) ** 2)) < 5


def check_pairs(rows):
    """Every two images are as likely at two places side by side."""
    n = rows.shape[1]
    apart = ~np.eye(n, dtype=bool)
    for place in range(n - 1):
        pairs = np.bincount(rows[:, place] * n + rows[:, place + 1], minlength=n * n)
        assert deviations(pairs.reshape(n, n)[apart]) < 5


def check_orders(rows):
    """Every order is as likely."""
    n = rows.shape[1]
    _, counts = np.unique(rows @ n ** np.arange(n), return_counts=True)
    assert len(counts) == math.factorial(n)
    assert deviations(counts) < 5


@pytest.mark.parametrize("examples", [2, 3, 5, 8, 16, 17, 33])
def test_an_image_is_as_likely_at_any_place(examples):
    rows = orders(examples, 20_000)
    assert_each_once(rows)
    check_places(rows)
    if examples > 2:
        check_pairs(rows)


@pytest.mark.parametrize("examples", [2, 3, 4])
def test_every_order_of_few_images_is_as_likely(examples):
    check_orders(orders(examples, 50_000))


def test_epochs_of_one_seed_are_as_fair_as_seeds():
    rows = epochs_of(4, 20_000)
    check_orders(rows)
    # And one says nothing of the next: what leads from one to the other is any order, too.
    check_orders(np.take_along_axis(rows[1:], np.argsort(rows[:-1], axis=1), axis=1))


def kept(one, other):
    return int((one == other).sum())


def test_no_order_is_like_another():
    """Chance leaves one image in its place, and one beside its neighbour, whatever their number."""
    rows = [*epochs_of(49000, 2, seed=0, batch_size=500), *epochs_of(49000, 1, 1, 500)]
    straight = np.arange(49000)
    for one, other in itertools.combinations([*rows, straight], 2):
        assert kept(one, other) < 10  # Poisson of mean 1: 1e-7 by chance
    for one in rows:
        assert kept(one[1:], one[:-1] + 1) < 10
        assert kept(one[1:], one[:-1] - 1) < 10
        # In no rank correlation either: 5 standard deviations of 1/√n.
        assert abs(np.corrcoef(one, straight)[0, 1]) < 5 / math.sqrt(49000)


# Planted faults: each is found by the check that is there for it


@pytest.fixture
def plant(monkeypatch):
    """Put a fault in place of a part, for programs compiled from now on."""

    def planted(name, fault):
        monkeypatch.setattr(shuffling, name, fault)
        for compiled in (drawing, orders):
            compiled.cache_clear()

    yield planted
    for compiled in (drawing, orders):
        compiled.cache_clear()


def test_a_walk_that_stops_after_one_step_is_found(plant):
    real = shuffling._feistel
    plant("_feistel", lambda *given: real(*given) % jnp.uint32(1000))
    with pytest.raises(AssertionError):
        assert_each_once(epochs_of(1000, 1))


def test_a_round_that_loses_bits_is_found(plant):
    plant("_feistel", lambda x, keys, half, mask: shuffling._mix(x ^ keys[0]) >> (32 - 2 * half))
    with pytest.raises(AssertionError):
        assert_each_once(epochs_of(1024, 1))


def test_an_order_of_the_epoch_before_is_found(plant):
    real = shuffling._order
    plant("_order", lambda key, places, n: real(jax.random.key(0), places, n))
    rows = epochs_of(1000, 2)
    assert_each_once(rows)
    assert (rows[0] == rows[1]).all()
    with pytest.raises(AssertionError):
        check_orders(epochs_of(4, 100))


def test_too_few_rounds_are_found(plant):
    """What it takes to be seen in so many seeds; see `ROUNDS` for how fast it vanishes."""
    plant("ROUNDS", 4)
    for check, examples in ((check_places, 5), (check_pairs, 8), (check_orders, 4)):
        with pytest.raises(AssertionError):
            check(orders(examples, 50_000))


def test_a_mixer_that_does_not_is_found(plant):
    plant("_mix", lambda x: x)
    for check, examples in ((check_pairs, 8), (check_pairs, 33)):
        with pytest.raises(AssertionError):
            check(orders(examples, 20_000))


def test_positions_that_overflow_are_found(plant):
    def overflowing(step, n, batch_size):
        position = step * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
        return position // n, position % n

    plant("_positions", overflowing)
    with pytest.raises(AssertionError):
        check_positions(500)


# In training: a model whose weights count how often each image was used


IMAGES = 23


def counting():
    """A weight for each image, the slope of which is −1 for each time that it is drawn.

    By plain descent with rate 1 the weights are counts, exactly.
    """

    def loss(params, x, labels, key):
        drawn = x.reshape(len(x), -1) @ params["count"]
        return -drawn.sum(), jnp.zeros((len(x), 2)) + 0 * drawn[:, None]

    return Model(lambda key: {"count": jnp.zeros(IMAGES)}, loss)


COUNTING = counting()
FLAGS = DeviceData(  # image i has its one bright pixel at i
    jnp.eye(IMAGES, dtype=jnp.float32), jnp.zeros(IMAGES, jnp.int32), None, None
)


def counts(seeds, ends, *, batch_size=5, shared=False, examples=IMAGES, devices=1, **settings):
    """Train networks of these seeds; return their counts at each end [ends, K, IMAGES]."""
    settings = {"sampling": "shuffled", "learning_rate": 1.0, "model": COUNTING, **settings}
    configuration = configure(batch_size=batch_size, preprocessing="none", **settings)
    layout = Layout(size=len(seeds), shared=shared, devices=devices)
    program = Program(configuration.structure, Shapes((IMAGES, 1, 1), 2), layout)
    found = []
    with numerics("float32"):
        given = Hyperparameters.of([configuration] * len(seeds))
        seed = jnp.uint32(seeds[0]) if shared else jnp.asarray(seeds, jnp.uint32)
        state = program.init(given, seed)
        for begin, end in itertools.pairwise([0, *ends]):
            steps = Counts.of(examples, end - begin, ends[-1])
            state, _ = program.advance(state, given, seed, FLAGS, steps)
            found.append(np.asarray(state.members.params["count"]))
    return np.stack(found)


def test_training_uses_every_image_once_an_epoch():
    """23 images in minibatches of 5: an epoch ends within one, and after 23 steps with one."""
    found = counts([4], range(1, 24))[:, 0]
    for step, count in enumerate(found, 1):
        epochs, more = divmod(5 * step, IMAGES)
        assert np.bincount(count.astype(int) - epochs, minlength=2).tolist() == [
            IMAGES - more,
            more,
        ]
    assert (found[-1] == 5).all()
    with_replacement = counts([4], [23], sampling="with_replacement")[-1, 0]
    assert with_replacement.sum() == 5 * 23
    assert len(set(with_replacement)) > 1  # what is counted can differ


def test_training_draws_what_plain_python_predicts():
    found = counts([4], range(1, 10))[:, 0]
    for step, drawn in enumerate(np.diff(found, axis=0, prepend=0)):
        expected = np.bincount(predicted(4, step, IMAGES, 5), minlength=IMAGES)
        np.testing.assert_array_equal(drawn, expected)


def test_a_minibatch_may_hold_several_epochs():
    (found,) = counts([4], [1], batch_size=60, examples=20)
    np.testing.assert_array_equal(found[0], [3] * 20 + [0] * 3)  # none beyond the training rows


def test_cuts_into_calls_change_nothing():
    np.testing.assert_array_equal(counts([4], [13])[-1], counts([4], [1, 4, 5, 13])[-1])


def test_networks_share_minibatches_or_have_their_own():
    alone = [counts([seed], [3])[-1, 0] for seed in (4, 9)]
    assert (alone[0] != alone[1]).any()
    np.testing.assert_array_equal(counts([4, 9, 4], [3])[-1], [alone[0], alone[1], alone[0]])
    np.testing.assert_array_equal(counts([4, 4], [3], shared=True)[-1], [alone[0]] * 2)


def test_devices_change_nothing():
    if len(jax.local_devices()) < 2:
        pytest.skip("JAX was used before it was asked for several CPU devices")
    np.testing.assert_array_equal(counts([4, 9, 4, 2], [7], devices=2), counts([4, 9, 4, 2], [7]))


def test_only_training_is_compiled_for_it():
    one, other = (
        Program(configure(hidden=[3], sampling=sampling).structure, Shapes((12,), 3))
        for sampling in ("shuffled", "with_replacement")
    )
    assert one.init is other.init
    assert one.evaluate is other.evaluate
    assert one.advance is not other.advance


def test_both_widths_of_integers_draw_the_same():
    drawn = [draw(1, 7, 1000)]
    with jax.enable_x64(True):
        drawing.cache_clear()
        drawn.append(draw(1, 7, 1000))
    drawing.cache_clear()
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("architecture", ["fully_connected", "inception_resnet"])
def test_networks_of_ours_are_traced_with_it(architecture):
    """Of a net of convolutions, whose compilation is long, the program is only written down."""
    configuration = configure(architecture=architecture, sampling="shuffled", batch_size=4)
    data = DeviceData(jnp.zeros((9, 64)), jnp.zeros(9, jnp.int32), None, None)
    shape = (64,) if architecture == "fully_connected" else (8, 8, 1)
    program = Program(configuration.structure, Shapes(shape, 3))
    with numerics("float32"):
        given = Hyperparameters.of([configuration] * 2)
        state = jax.eval_shape(program.init, given, jnp.uint32(0))
        arguments = state, given, jnp.uint32(0), data, Counts.of(9, 1, 1)
        after, _ = jax.eval_shape(program.advance, *arguments)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


# In sweeps


def test_a_sweep_trains_as_each_does_alone():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (150, 4, 3, 1)).astype(np.uint8)
    data = DataSet.from_arrays(images, np.arange(150) % 3, images[:30], np.arange(30) % 3)
    settings = {"steps": 20, "batch_size": 50, "hidden": [5], "learning_rate": 0.1}
    space = grid(sampling=["shuffled", "with_replacement"], seed=[0, 1])
    together = sweep(space, data, **settings)
    assert len({row.outcome.final_loss for row in together.rows}) == 4
    for row in together.rows[:2]:
        seed = row.settings["seed"]
        (alone,) = train(data, sampling="shuffled", seed=seed, **settings).rows
        assert alone.settings == row.settings
        # Products of other shapes sum in another order: some ulps, which 20 steps hardly amplify.
        assert row.outcome.final_loss == pytest.approx(alone.outcome.final_loss, rel=1e-4)
