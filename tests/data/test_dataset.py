import hashlib

import numpy as np
import pytest

from jaxnet.data import DataSet
from jaxnet.errors import ConfigurationError, DataError


def arrays(n=10, dtype=np.uint8, shape=(4, 4, 3), classes=3):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, *shape)).astype(dtype), np.arange(n) % classes


def make(n=10, test=4, **how):
    return DataSet.from_arrays(*arrays(n, **how), *arrays(test, **how))


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(np.uint8, np.uint8), (np.float32, np.float32), (np.float64, np.float32)],
)
def test_your_own_arrays_keep_their_values(dtype, kept):
    x, y = arrays(dtype=dtype)
    data = DataSet.from_arrays(x, y, x[:3], y[:3])
    assert data.train_images.dtype == kept
    np.testing.assert_array_equal(data.train_images, x)
    np.testing.assert_array_equal(data.train_labels, y)
    assert data.train_labels.dtype == np.int32
    assert data.class_names == ("0", "1", "2")
    assert data.input_shape == (4, 4, 3)


def test_flat_features_are_images_too():
    assert make(shape=(5,), dtype=np.float32).input_shape == (5,)


@pytest.mark.parametrize("wrong", [10, -1, 2**32])  # 2**32 would wrap to 0 in int32
def test_label_out_of_range_names_row_and_value(wrong):
    x, y = arrays()
    y[7] = wrong
    with pytest.raises(DataError, match=rf"train labels: the label of row 7 is {wrong}"):
        DataSet.from_arrays(x, y, x, np.zeros(10, np.int64), class_names=["a", "b", "c"])


def test_labels_that_are_no_class_numbers_do_not_make_a_class_each():
    x, y = arrays()
    with pytest.raises(DataError, match="row 0 is 1000000000000"):
        DataSet.from_arrays(x, y + 10**12, x, y)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_images_that_are_not_finite_in_float32_are_refused(value):
    x, y = arrays(dtype=np.float64)
    x[6, 1, 2, 0] = value
    where = r"row 6, column \[1, 2, 0\]: (nan|inf|1e\+300)"
    with pytest.raises(DataError, match=f"test images: 1 value is NaN or infinite.*{where}"):
        DataSet.from_arrays(x[:5], y[:5], x, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x.astype(np.int64), y), "expected uint8 or float32, got int64"),
        (lambda x, y: (x, y[:-1]), r"each of the 10 images, shape \[10\], got shape \[9\]"),
        (lambda x, y: (x, y[:, None]), r"got shape \[10, 1\].*ravel"),
        (lambda x, y: (x[:, 0, 0, 0], y), r"got shape \[10\]"),
        (lambda x, y: (x[:0], y[:0]), r"nothing empty, got shape \[0, 4, 4, 3\]"),
    ],
)
def test_wrong_arrays_are_refused_with_the_remedy(change, message):
    x, y = arrays()
    with pytest.raises(DataError, match=message):
        DataSet.from_arrays(*change(x, y), x, y)


def test_training_and_test_images_must_agree():
    x, y = arrays()
    with pytest.raises(DataError, match=r"\[4, 4, 3\].*, but test images are uint8 \[2, 4, 3\]"):
        DataSet.from_arrays(x, y, x[:, :2], y)


def test_the_constructor_checks_by_itself():
    x, y = arrays()
    with pytest.raises(DataError, match="expected int32, got int64"):
        DataSet(
            name="d",
            train_images=x,
            train_labels=y,
            test_images=x,
            test_labels=y,
            class_names=("a", "b", "c"),
            source="here",
        )


def test_split_follows_the_course_and_copies_nothing():
    data = make(10)
    parts = data.split(3, kind="tail")
    assert [len(p) for p in parts] == [7, 3, 4]
    np.testing.assert_array_equal(parts.validation.images, data.train_images[7:])
    np.testing.assert_array_equal(parts.validation.labels, data.train_labels[7:])
    for part in (parts.train, parts.validation):
        assert np.shares_memory(part.images, data.train_images)
    assert parts.test.images is data.test_images


def test_split_of_the_first_rows_validates_on_the_next():
    data = make(10)
    parts = data.split(2, train=5, kind="tail")
    np.testing.assert_array_equal(parts.train.images, data.train_images[:5])
    np.testing.assert_array_equal(parts.validation.images, data.train_images[5:7])


def test_split_may_use_every_row_and_validate_on_none():
    assert [len(p) for p in make(10).split(0)] == [10, 0, 4]
    assert [len(p) for p in make(10).split(4, train=6)] == [6, 4, 4]


@pytest.mark.parametrize(("validation", "train"), [(10, None), (11, None), (5, 6), (-1, 5), (1, 0)])
def test_split_of_more_than_there_is(validation, train):
    with pytest.raises(ConfigurationError, match="it has 10 training rows"):
        make(10).split(validation, train)


def test_fingerprint_is_of_content_only():
    x, y = arrays()
    data = DataSet.from_arrays(x, y, x[:2], y[:2])
    digest = hashlib.sha256()
    for a in (x, y.astype(np.int32), x[:2], y[:2].astype(np.int32)):
        digest.update(f"{a.dtype.str}{a.shape}".encode() + a.tobytes())
    assert data.fingerprint == digest.hexdigest()
    strided = np.repeat(x, 2, axis=0)[::2]  # the same values, another layout in memory
    assert DataSet.from_arrays(strided, y, x[:2], y[:2], name="b").fingerprint == data.fingerprint


@pytest.mark.parametrize("which", range(4))
def test_fingerprint_sees_one_changed_value_anywhere(which):
    x, y = arrays()
    four = [x, y, x[:2].copy(), y[:2].copy()]
    before = DataSet.from_arrays(*four).fingerprint
    changed = [a.copy() for a in four]
    changed[which].flat[-1] = (changed[which].flat[-1] + 1) % 3
    assert DataSet.from_arrays(*changed).fingerprint != before


def test_fields_cannot_be_written_and_your_arrays_still_can():
    x, y = arrays()
    data = DataSet.from_arrays(x, y, x, y)
    with pytest.raises(ValueError, match="read-only"):
        data.train_images[0] = 0
    assert np.shares_memory(data.train_images, x)
    x[0] = 0
