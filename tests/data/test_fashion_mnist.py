import gzip

import numpy as np
import pytest

from jaxnet.data import fashion_mnist
from jaxnet.errors import DataError


@pytest.mark.parametrize("gz", [True, False])
def test_reads_the_four_files(tmp_path, by_hand, gz):
    arrays = by_hand.write_fashion(tmp_path, gz=gz)
    data = fashion_mnist.read(tmp_path)
    for part, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("t10k", data.test_images, data.test_labels),
    ):
        np.testing.assert_array_equal(images[..., 0], arrays[part][0])
        np.testing.assert_array_equal(labels, arrays[part][1])
        assert images.shape[1:] == (28, 28, 1)
        assert labels.dtype == np.int32
    assert data.class_names[9] == "Ankle boot"


def test_missing_files_are_listed(tmp_path, by_hand):
    by_hand.write_fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert fashion_mnist.lacks(tmp_path) == ["t10k-labels-idx1-ubyte"]
    with pytest.raises(DataError, match=r"lacks t10k-labels-idx1-ubyte .*jaxnet data fetch"):
        fashion_mnist.read(tmp_path)


def test_empty_folder_lacks_all_four(tmp_path):
    assert len(fashion_mnist.lacks(tmp_path)) == 4


def test_label_out_of_range_names_the_file(tmp_path, by_hand):
    by_hand.write_fashion(tmp_path, label=10)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: the label of row 1 is 10"):
        fashion_mnist.read(tmp_path)


def test_labels_of_another_part(tmp_path, by_hand):
    by_hand.write_fashion(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").replace(tmp_path / "train-labels-idx1-ubyte.gz")
    by_hand.write_fashion(tmp_path / "b")
    (tmp_path / "b" / "t10k-labels-idx1-ubyte.gz").replace(tmp_path / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=r"4 labels, but train-images.* has 6 images"):
        fashion_mnist.read(tmp_path)


@pytest.mark.parametrize("shape", [(6, 28, 27), (0, 28, 28)])
def test_images_of_another_size(tmp_path, by_hand, shape):
    by_hand.write_fashion(tmp_path)
    content = by_hand.idx_bytes(np.zeros(shape, np.uint8))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=r"train-images.*expected images \[n, 28, 28\]"):
        fashion_mnist.read(tmp_path)
