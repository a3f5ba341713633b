import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from jaxnet.cs231n import data_utils
from jaxnet.errors import ConfigurationError, DataError

FOLDER = "cs231n/datasets/cifar-10-batches-py"


def write(folder: Path, rows=4, seed=0):
    """Six pickled batches as Python 3 would write them; returns name -> (planes, labels)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    batches = {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        planes = rng.integers(0, 256, (rows, 3072), np.uint8)
        labels = rng.integers(0, 10, rows).tolist()
        (folder / name).write_bytes(pickle.dumps({b"data": planes, b"labels": labels}, protocol=2))
        batches[name] = planes, labels
    return batches


def images(batches, names):
    """Channel-last floats by the definition of the format, through plain reshaping."""
    planes = np.concatenate([batches[name][0] for name in names])
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).astype(float)


def labels(batches, names):
    return [y for name in names for y in batches[name][1]]


TRAIN = [f"data_batch_{i}" for i in range(1, 6)]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory, and an empty data directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXNET_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize("root", [FOLDER, f"./{FOLDER}/", "my/cifar"])
@pytest.mark.parametrize("kind", [str, Path])
def test_reads_the_folder_asked_for(elsewhere, root, kind):
    batches = write(Path(root))
    write(elsewhere / "data" / "cifar-10-batches-py", seed=1)  # other images, not asked for
    x_train, y_train, x_test, y_test = data_utils.load_CIFAR10(kind(root))
    np.testing.assert_array_equal(x_train, images(batches, TRAIN))
    np.testing.assert_array_equal(x_test, images(batches, ["test_batch"]))
    assert y_train.tolist() == labels(batches, TRAIN)
    assert y_test.tolist() == labels(batches, ["test_batch"])
    assert (x_train.dtype, y_train.dtype) == (np.float64, np.int64)
    x_train -= 1.0  # notebooks subtract in place
    y_test += 1


def test_falls_back_to_the_data_directory_for_the_courses_folder_alone(elsewhere):
    batches = write(elsewhere / "data" / "cifar-10-batches-py")
    for root in (FOLDER, f"/content/drive/My Drive/{FOLDER}"):
        x_train, *_ = data_utils.load_CIFAR10(root)
        np.testing.assert_array_equal(x_train, images(batches, TRAIN))
    with pytest.raises(DataError, match="my/cifar: not there"):
        data_utils.load_CIFAR10("my/cifar")


def test_absent_data_names_both_places_and_the_command(elsewhere):
    with pytest.raises(DataError) as error:
        data_utils.get_CIFAR10_data()
    for part in (FOLDER, str(elsewhere / "data"), "jaxnet data fetch cifar10", "JAXNET_DATA_DIR"):
        assert part in str(error.value)


def test_an_incomplete_folder_is_not_passed_over(elsewhere):
    write(Path(FOLDER))
    write(elsewhere / "data" / "cifar-10-batches-py")
    os.remove(f"{FOLDER}/data_batch_3")
    with pytest.raises(DataError, match="lacks data_batch_3"):
        data_utils.load_CIFAR10(FOLDER)


@pytest.mark.parametrize("folder", [FOLDER, "daseCV/datasets/cifar-10-batches-py"])
@pytest.mark.parametrize("subtract_mean", [True, False])
def test_preprocessed_splits(elsewhere, folder, subtract_mean):
    batches = write(Path(folder))
    write(elsewhere / "data" / "cifar-10-batches-py", seed=1)
    data = data_utils.get_CIFAR10_data(11, 6, 3, subtract_mean=subtract_mean)
    train, test = images(batches, TRAIN), images(batches, ["test_batch"])
    mean = train[:11].mean(axis=0) * subtract_mean
    for part, x in (("train", train[:11]), ("val", train[11:17]), ("test", test[:3])):
        assert data[f"X_{part}"].flags.c_contiguous
        np.testing.assert_array_equal(data[f"X_{part}"], (x - mean).transpose(0, 3, 1, 2))
    y = labels(batches, TRAIN)
    assert data["y_train"].tolist() + data["y_val"].tolist() == y[:17]
    assert data["y_test"].tolist() == labels(batches, ["test_batch"])[:3]
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ((15, 6, 1), "add up to at most 20 images, got 15 and 6"),
        ((0, 6, 1), "expected num_training .1 or more."),
        ((5, -1, 1), "got 5 and -1"),
        ((5, 5, 5), "num_test of at most 4 images, got 5"),
    ],
)
def test_splits_that_do_not_fit(elsewhere, sizes, match):
    write(Path(FOLDER))
    with pytest.raises(ConfigurationError, match=match):
        data_utils.get_CIFAR10_data(*sizes)


def test_one_batch_in_either_layout(elsewhere):
    batches = write(Path("folder"))
    planes, y = batches["data_batch_2"]
    records = np.concatenate([np.array(y, np.uint8)[:, None], planes], axis=1)
    Path("data_batch_2.bin").write_bytes(records.tobytes())
    for name in ("folder/data_batch_2", "data_batch_2.bin"):
        x, got = data_utils.load_CIFAR_batch(name)
        np.testing.assert_array_equal(x, images(batches, ["data_batch_2"]))
        assert got.tolist() == y
    with pytest.raises(DataError, match=r"data_batch_9: cannot be read \(No such file"):
        data_utils.load_CIFAR_batch("folder/data_batch_9")


class Malicious:
    def __reduce__(self):
        return print, ("the pickle ran",)


def test_a_pickle_cannot_run_code(elsewhere, capsys):
    Path("batch").write_bytes(pickle.dumps({"data": Malicious(), "labels": []}))
    with pytest.raises(DataError, match="refused"):
        data_utils.load_CIFAR_batch("batch")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "args"),
    [("load_tiny_imagenet", ("folder",)), ("load_imagenet_val", ()), ("load_models", ("folder",))],
)
def test_what_is_not_part_says_so(name, args):
    with pytest.raises(ConfigurationError, match=f"{name} is not part of jaxnet.cs231n"):
        getattr(data_utils, name)(*args)
