"""Claims about the real data sets, where JAXNET_DATA_DIR holds them; the rest needs none."""

import numpy as np
import pytest

from jaxnet import data, train
from jaxnet.data import cifar10
from jaxnet.errors import DataError
from jaxnet.sweeps import find_preset
from jaxnet.verbs import run_job

PLACES = {name: place for name, _, place in data.available()}

needs_cifar10 = pytest.mark.skipif(PLACES["cifar10"] is None, reason="CIFAR-10 is not here")
needs_fashion = pytest.mark.skipif(
    PLACES["fashion-mnist"] is None, reason="Fashion-MNIST is not here"
)


@needs_cifar10
def test_cifar10_is_whole_and_its_layouts_agree():
    dataset = data.load("cifar10")
    assert dataset.train_images.shape == (50_000, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert np.bincount(dataset.train_labels).tolist() == [5000] * 10
    assert np.bincount(dataset.test_labels).tolist() == [1000] * 10
    folder = data.data_directory()
    layouts = [folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"]
    fingerprints = {cifar10.read(layout).fingerprint for layout in layouts if layout.exists()}
    assert fingerprints == {dataset.fingerprint}


@needs_fashion
def test_the_embedded_images_are_the_first_of_fashion_mnist():
    whole, mini = data.load("fashion-mnist"), data.load("fashion-mnist-mini")
    assert whole.train_images.shape == (60_000, 28, 28, 1)
    np.testing.assert_array_equal(whole.train_images[:2000], mini.train_images)
    np.testing.assert_array_equal(whole.train_labels[:2000], mini.train_labels)
    np.testing.assert_array_equal(whole.test_images[:1000], mini.test_images)
    np.testing.assert_array_equal(whole.test_labels[:1000], mini.test_labels)


@needs_cifar10
def test_the_course_s_first_run():
    """Loss 2.3028 at the start, about 1.95 at step 900, validation accuracy 0.28-0.29."""
    result = run_job(find_preset("cifar10-first"), data.load("cifar10"))
    (row,) = result.rows
    history = row.outcome.history
    assert abs(history.loss[0] - 2.3028) < 2e-4
    late = [loss for step, loss in zip(history.steps, history.loss, strict=True) if step >= 860]
    # One minibatch of 200 has a standard error near 0.05; the mean of these is far steadier.
    assert abs(np.mean(late) - 1.95) < 0.05
    # Two standard errors of 1,000 images on either side of 0.285.
    assert abs(row.outcome.val_accuracy - 0.285) < 2 * np.sqrt(0.285 * 0.715 / 1000)


@needs_fashion
def test_fashion_mnist_sorted_by_class_is_split_as_any_other_order():
    whole = data.load("fashion-mnist")
    order = np.argsort(whole.train_labels, kind="stable")
    ordered = data.DataSet.from_arrays(
        whole.train_images[order],
        whole.train_labels[order],
        whole.test_images,
        whole.test_labels,
        whole.class_names,
    )
    splits = ordered.split(1000)
    assert np.bincount(splits.validation.labels).tolist() == [100] * 10
    assert np.bincount(splits.train.labels).tolist() == [5900] * 10
    options = {"steps": 300, "hidden": (50,), "preprocessing": "standardize", "batch_size": 200}
    result = train(ordered, learning_rate=0.05, **options)
    assert result.best is not None
    assert result.best.outcome.val_accuracy > 0.8
    with pytest.raises(DataError, match=r"sorted by class. split='stratified'"):
        train(ordered, split="tail", validation=10_000, **options)
