"""The split of a training set: proportions, what it depends on, and what is said of shifts."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxnet import data as known
from jaxnet.data import DataSet
from jaxnet.data.splits import label_shift, split_rows
from jaxnet.errors import ConfigurationError


def labels_of(*counts):
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def counts_of(labels, rows, classes):
    return np.bincount(labels[rows], minlength=classes)


counts = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(lambda c: sum(c) >= 2)


@st.composite
def problems(draw):
    """Labels in any order, and how many rows to validate on and to train on."""
    labels = labels_of(*draw(counts))
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    validation = draw(st.integers(0, len(labels) - 1))
    train = draw(st.integers(1, len(labels) - validation))
    return labels, validation, train, draw(st.integers(0, 2**31 - 1))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_every_class_gives_its_share_within_one_row(problem):
    labels, validation, train, seed = problem
    classes, n = int(labels.max()) + 1, len(labels)
    kept, held_out = split_rows(labels, validation, train, "stratified", seed)
    assert (len(kept), len(held_out)) == (train, validation)
    assert len({*kept.tolist(), *held_out.tolist()}) == train + validation  # no row twice
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held_out) > 0).all()
    whole = np.bincount(labels, minlength=classes)
    for rows, size, within in ((held_out, validation, 1), (kept, train, 2)):
        for c, count in enumerate(counts_of(labels, rows, classes)):
            # Two of the training part: its share of a class is what validation left, to one row.
            assert abs(int(count) - Fraction(size * int(whole[c]), n)) < within
    if train == n - validation >= np.count_nonzero(whole):
        assert (counts_of(labels, kept, classes)[whole > 0] > 0).all()


@settings(max_examples=50, deadline=None)
@given(problems(), st.integers(0, 99))
def test_the_order_of_the_rows_does_not_change_how_many_of_each_class(problem, shuffle):
    labels, validation, train, seed = problem
    classes = int(labels.max()) + 1
    other = np.random.default_rng(shuffle).permutation(labels)
    for one, two in zip(
        split_rows(labels, validation, train, "stratified", seed),
        split_rows(other, validation, train, "stratified", seed),
        strict=True,
    ):
        np.testing.assert_array_equal(
            counts_of(labels, one, classes), counts_of(other, two, classes)
        )


def philox(key, count):
    """Philox4x64-10, from the paper (Salmon et al. 2011): blocks of the counters 1, 2, ..."""
    words, mask = [], 2**64 - 1
    for counter in range(1, -(-count // 4) + 1):
        x, k = [counter, 0, 0, 0], [key, 0]
        for _ in range(10):
            a, b = 0xD2E7470EE14C6C93 * x[0], 0xCA5A826395121157 * x[2]
            x = [(b >> 64) ^ x[1] ^ k[0], b & mask, (a >> 64) ^ x[3] ^ k[1], a & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += x
    return words[:count]


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1])
def test_the_draw_is_for_good(seed):
    """Of each class the rows with the lowest Philox numbers validate, those after them train.

    Another version of NumPy, or of ours, must not move a row: folders hold results of them.
    """
    labels = np.random.default_rng(5).integers(0, 4, 50).astype(np.int32)
    kept, held_out = split_rows(labels, 12, 20, "stratified", seed)
    drawn = philox(seed, 50)
    for c in range(4):
        of_class = sorted(np.flatnonzero(labels == c), key=lambda row: drawn[row])
        validate = np.count_nonzero(labels[held_out] == c)
        train = np.count_nonzero(labels[kept] == c)
        assert set(of_class[:validate]) == set(held_out[labels[held_out] == c])
        assert set(of_class[validate : validate + train]) == set(kept[labels[kept] == c])


def test_largest_remainders_by_hand():
    """7 of 10, 5 and 5 rows: 3.5, 1.75, 1.75; whole 3, 1, 1, and one more to the two of .75."""
    labels = labels_of(10, 5, 5)
    kept, held_out = split_rows(labels, 7, 6, "stratified", 0)
    assert counts_of(labels, held_out, 3).tolist() == [3, 2, 2]
    assert counts_of(labels, kept, 3).tolist() == [3, 2, 1]  # 3, 1.5, 1.5: a tie


def test_seeds_draw_others_and_every_row_is_as_likely():
    labels = labels_of(60, 30, 10)
    held_out = [split_rows(labels, 20, 80, "stratified", s)[1] for s in range(500)]
    assert len({tuple(rows) for rows in held_out}) == 500
    often = np.bincount(np.concatenate(held_out), minlength=100)
    # Each of the 100 is binomial with 500 draws and p = 1/5: five standard deviations are 45.
    assert np.abs(often - 100).max() < 45


def test_a_class_of_one_example_is_trained_on():
    labels = labels_of(1, 1, 1, 30)
    for seed in range(20):
        kept, _ = split_rows(labels, 20, 13, "stratified", seed)
        assert {0, 1, 2, 3} == set(labels[kept].tolist())


@pytest.mark.parametrize(("kind", "seed"), [("tail", 3), ("head", 0), ("", 0)])
def test_a_split_that_there_is_not(kind, seed):
    labels = labels_of(5, 5)
    images = np.zeros((10, 2), np.float32)
    data = DataSet.from_arrays(images, labels, images, labels)
    with pytest.raises(ConfigurationError, match=r"split_seed belongs to|unknown split"):
        data.split(2, kind=kind, seed=seed)


def test_data_of_known_order_keep_the_last_rows_and_your_own_are_drawn():
    mini = known.load("fashion-mnist-mini")
    assert mini.default_split == "tail"
    np.testing.assert_array_equal(mini.split(500).validation.labels, mini.train_labels[1500:])
    assert mini.split(500, kind="stratified").validation.labels.tolist() != (
        mini.train_labels[1500:].tolist()
    )
    own = DataSet.from_arrays(
        mini.train_images, mini.train_labels, mini.test_images, mini.test_labels
    )
    assert own.default_split == "stratified"
    shares = np.bincount(own.split(500).validation.labels) - np.bincount(own.train_labels) / 4
    assert np.abs(shares).max() < 1


def test_shift_of_sorted_labels():
    labels = labels_of(*[200] * 10)
    shift = label_shift(labels[:1500], labels[1500:], 10)
    assert shift.distance == pytest.approx(0.8 + 0.2 - 100 / 1500)
    assert shift.unseen == pytest.approx(0.8)
    assert shift.clear
    assert "80% of the rows belong to classes that are not trained on" in str(shift)
    last = label_shift(labels[:1900], labels[1900:], 10)  # all classes, but one alone judges
    assert (last.unseen, last.clear) == (0, True)
    assert last.distance == pytest.approx(1 - 100 / 1900)
    assert "95% of the rows would need another label" in str(last)


@pytest.mark.parametrize("shares", [[0.1] * 10, [0.9, 0.1], [0.5, 0.3, 0.2], [1 / 200] * 200])
@pytest.mark.parametrize("sizes", [(8, 2), (150, 37), (1500, 500), (50, 1000)])
def test_chance_is_no_shift(shares, sizes):
    rng = np.random.default_rng(0)
    for _ in range(200):
        trained, judged = (
            rng.choice(len(shares), size=size, p=shares).astype(np.int32) for size in sizes
        )
        assert not label_shift(trained, judged, len(shares)).clear


def test_nothing_to_validate_on_is_no_shift():
    assert not label_shift(labels_of(3, 3), labels_of(0), 2).clear


@pytest.mark.parametrize(
    ("labels", "is_sorted"),
    [
        (labels_of(*[20] * 10), True),
        (labels_of(*[20] * 10)[::-1], True),
        (np.tile(labels_of(10, 10), 10), True),  # in runs of ten
        (np.random.default_rng(0).integers(0, 10, 200).astype(np.int32), False),
        (np.arange(200, dtype=np.int32) % 10, False),
        (labels_of(200), False),
        (labels_of(1, 199), False),  # sorted, but as any order of one rare class nearly is
    ],
)
def test_data_sorted_by_class_are_found(labels, is_sorted):
    images = np.zeros((len(labels), 2), np.float32)
    data = DataSet.from_arrays(images, labels, images, labels)
    assert data.is_sorted() == is_sorted
