"""A user's arrays: what is taken, and what is said of labels, sizes and units that cannot be."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnet.data import DataSet
from jaxnet.errors import DataError, DataWarning

X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
Y = np.arange(12) % 3


def make(images=X, labels=Y, test_images=X, test_labels=Y, **how):
    return DataSet.from_arrays(images, labels, test_images, test_labels, **how)


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(np.float64),
        Y.astype(">i4"),
        Y.astype(">f4"),
        Y.astype(np.uint8),
        Y.astype(np.uint64),
        Y.tolist(),
        jnp.asarray(Y),
        np.ma.array(Y, mask=False),
    ],
)
def test_labels_of_any_number_type_are_the_same_labels(labels):
    data = make(labels=labels)
    np.testing.assert_array_equal(data.train_labels, Y)
    assert type(data.train_labels) is np.ndarray
    assert data.train_labels.dtype == np.dtype("int32")  # native, too
    assert data.fingerprint == make().fingerprint


def test_labels_that_are_true_or_false_are_two_classes():
    data = make(labels=Y > 0, test_labels=Y > 1)
    assert data.class_names == ("0", "1")
    np.testing.assert_array_equal(data.train_labels, (Y > 0).astype(int))


def changed(labels, row, value, dtype=np.float64):
    labels = np.array(labels, dtype)
    labels[row] = value
    return labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (changed(Y, 4, np.nan), "label of row 4 is nan, expected whole numbers"),
        (changed(Y, 4, 0.5), "label of row 4 is 0.5, expected whole numbers"),
        (changed(Y, 4, np.inf), "label of row 4 is inf"),
        (changed(Y, [4, 6], 1e300), r"label of row 4 is 1e\+300 \(2 such rows\)"),
        (changed(Y, 4, -1, np.int64), "label of row 4 is -1, expected 0..2"),
        (changed(Y, 4, 2**63, np.uint64), "label of row 4 is 9223372036854775808"),
        (np.ma.array(Y, mask=Y == 1), r"train labels: 4 values are masked, the first in row 1\."),
        (Y.astype(object), "expected numbers, got object"),
        (np.array(["cat", "dog", "owl"])[Y], r"expected numbers, got <U3.*np\.unique"),
        (Y.astype("datetime64[s]"), "expected numbers, got datetime64"),
        (Y.astype(complex), "expected numbers, got complex128"),
        ([[0], [1, 2]], "lists of equal lengths, got list"),
        (np.int64(3), r"got shape \[\]"),
        (np.eye(3)[Y], r"got shape \[12, 3\]. Use class numbers, not one-hot"),
        (Y + 1, r"labels run from 1 to 3, expected 0 to 2. Subtract 1 \(labels - 1\)"),
        (Y + 7, "labels run from 7 to 9, expected 0 to 2. Subtract 7"),
        (Y * 2, r"run to 4, but no example has the label 1, 3\. Renumber them"),
        (Y * 10, r"run to 20, but no example has the label 1, 2, 3, 4, 5, \.\.\.\. Renumber"),
        (Y * 2 + 1, "run to 5, but no example has the label 0, 2, 4"),
    ],
)
def test_labels_that_cannot_be(labels, message):
    with pytest.raises(DataError, match=message) as caught:
        make(labels=labels, test_labels=labels)
    assert "\n" not in str(caught.value)


def test_the_renumbering_that_is_advised_renumbers():
    labels = Y * 10 + 5
    data = make(labels=np.searchsorted(np.unique(labels), labels))
    np.testing.assert_array_equal(data.train_labels, Y)


def test_labels_from_one_need_a_name_for_nought():
    names = ["nothing", "a", "b", "c"]
    assert make(labels=Y + 1, test_labels=Y + 1, class_names=names).class_names == tuple(names)
    with pytest.raises(DataError, match=r"label of row 2 is 3.*They begin with 1: subtract it"):
        make(labels=Y + 1, test_labels=Y + 1, class_names=names[1:])


def test_a_class_of_the_test_set_alone_is_a_class():
    assert make(labels=Y % 2).class_names == ("0", "1", "2")


# Images


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64, ">f8", np.longdouble])
def test_floating_images_become_float32_of_this_machine(dtype):
    x = (X / 256).astype(np.float32)
    data = make(x.astype(dtype), test_images=x.astype(dtype))
    assert data.train_images.dtype == np.dtype("float32")
    np.testing.assert_allclose(data.train_images, x, atol=1e-3)


def test_what_numpy_takes_for_an_array_is_taken():
    assert make(jnp.asarray(X)).fingerprint == make().fingerprint
    assert make(np.ma.array(X, mask=False)).fingerprint == make().fingerprint
    flat = (X.reshape(12, -1) / 255).tolist()
    assert make(flat, test_images=flat).train_images.dtype == np.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ma.array(X, mask=X[5, 0, 1, 2] == X), r"masked, the first in row \d+, column \[.*fill"),
        (np.ma.masked_invalid(changed(X, (3, 1, 2, 0), np.nan)), r"1 value is masked.*row 3"),
        (X.astype(object), "expected numbers, got object"),
        (X.astype(np.int64), "expected uint8 or float32, got int64"),
        (X > 100, "expected uint8 or float32, got bool"),
        ([[1.0, 2.0], [3.0]], "lists of equal lengths"),
        (np.float32(1), r"nothing empty, got shape \[\]"),
        (changed(X.reshape(12, -1), (7, 5), -1e39), r"row 7, column 5: -1e\+39.*scale the values"),
    ],
)
def test_images_that_cannot_be(images, message):
    with pytest.raises(DataError, match=f"train images: .*{message}") as caught:
        make(images)
    assert "\n" not in str(caught.value)


def test_the_constructor_refuses_masks_too():
    y = Y.astype(np.int32)
    with pytest.raises(DataError, match="values are masked"):
        DataSet(
            name="d",
            train_images=np.ma.array(X, mask=X > 9),
            train_labels=y,
            test_images=X,
            test_labels=y,
            class_names=("a", "b", "c"),
            source="here",
        )
    data = DataSet(
        name="d",
        train_images=np.ma.array(X, mask=False),
        train_labels=y,
        test_images=X,
        test_labels=y,
        class_names=("a", "b", "c"),
        source="here",
    )
    assert type(data.train_images) is np.ndarray


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (4, 6, 9)])
def test_channels_that_come_first_are_said(shape):
    x = np.zeros((12, *shape), np.uint8)
    with pytest.warns(DataWarning, match=r"expected channels last: np\.moveaxis\(images, 1, -1\)"):
        make(x, test_images=x)


@pytest.mark.parametrize("shape", [(8, 8, 3), (3, 3, 3), (8, 8, 1), (3, 8, 3), (3, 8), (192,)])
def test_channels_that_come_last_are_not(shape):
    x = np.zeros((12, *shape), np.uint8)
    make(x, test_images=x)  # a warning is an error here


# Scales of the training and test images


def scaled(how):
    return np.float32({"bytes": X, "unit": X / 255, "centred": X / 127.5 - 1}[how])


@pytest.mark.parametrize(("train", "test"), [("bytes", "unit"), ("unit", "bytes")])
def test_test_images_of_another_scale_are_said(train, test):
    with pytest.warns(DataWarning, match="training images range from .* test images from .* same"):
        make(scaled(train), test_images=scaled(test))


def test_floats_cast_to_bytes_are_said():
    with pytest.warns(DataWarning, match="training images range from 0 to 255, test images from"):
        make(test_images=(X / 254).astype(np.uint8))


def test_standardized_images_beside_bytes_are_said():
    x = np.float32(X)
    with pytest.warns(DataWarning, match="the same scale"):
        make((x - x.mean()) / x.std() / 2, test_images=x)


@pytest.mark.parametrize("how", ["bytes", "unit", "centred"])
def test_images_of_one_scale_are_not(how):
    x = scaled(how)
    make(x, test_images=x)
    make(x, test_images=x / 10)  # dark
    make(x, test_images=x * 0)  # nothing but black has no scale


def test_features_with_a_rare_huge_value_are_of_one_scale():
    rng = np.random.default_rng(0)
    x = rng.standard_cauchy((400, 20)).astype(np.float32)  # no mean, no deviation
    y = np.arange(400) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in range(20):
            test = rng.standard_cauchy((50, 20)).astype(np.float32) + part
            make(x, y, test, y[:50])


def test_types_that_differ_are_refused_with_their_ranges():
    with pytest.raises(DataError, match=r"uint8 .* from \d+ to 255, but test .* from 0.* to 1"):
        make(test_images=np.float32(X / X.max()))
