import subprocess
import sys

import numpy as np
import pytest

from jaxnet.data import available, data_directory, describe, load
from jaxnet.errors import ConfigurationError, DataError


@pytest.fixture(autouse=True)
def data_dir(monkeypatch, tmp_path, without_debian):
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("JAXNET_DATA_DIR", str(folder))
    return folder


def test_the_embedded_images_are_fashion_mnist_s_first():
    data = load("fashion-mnist-mini")
    assert data.train_images.shape == (2000, 28, 28, 1)
    assert data.test_images.shape == (1000, 28, 28, 1)
    # The first ten labels of the published files: ankle boot, T-shirt, T-shirt, dress, ...
    assert data.train_labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert data.test_labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert set(np.unique(data.train_labels)) == set(range(10))
    assert data.train_images.mean() == pytest.approx(72.9, abs=3)  # of all 60,000 images
    assert data.name == "fashion-mnist-mini"


def test_an_unknown_name_gets_the_near_match():
    with pytest.raises(
        ConfigurationError, match=r"'cifar-10': did you mean 'cifar10'.*from_arrays"
    ):
        load("cifar-10")


@pytest.mark.parametrize("place", ["cifar-10-batches-py", "cifar-10-batches-bin", "."])
def test_cifar_folders(data_dir, by_hand, place):
    layout = "bin" if place.endswith("bin") else "py"
    batches = by_hand.write_cifar(data_dir / place, layout)
    data = load("cifar10")
    assert data.test_labels.tolist() == batches["test_batch"][1]
    assert data.source == str(data_dir / place)


@pytest.mark.parametrize("archive", ["cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"])
def test_cifar_archives(data_dir, tmp_path, by_hand, archive):
    import tarfile

    batches = by_hand.write_cifar(tmp_path / "f", "py" if "python" in archive else "bin")
    with tarfile.open(data_dir / archive, "w:gz") as tar:
        tar.add(tmp_path / "f", "cifar-10-batches")
    assert load("cifar10").test_labels.tolist() == batches["test_batch"][1]


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize("place", ["fashion-mnist", "."])
def test_fashion_mnist_folders(data_dir, by_hand, place, gz):
    by_hand.write_fashion(data_dir / place, gz=gz)
    data = load("fashion-mnist")
    assert (data.name, data.source) == ("fashion-mnist", str(data_dir / place))


def test_debian_s_folder_comes_last(data_dir, without_debian, by_hand):
    by_hand.write_fashion(without_debian)
    assert load("fashion-mnist").source == str(without_debian)
    by_hand.write_fashion(data_dir)
    assert load("fashion-mnist").source == str(data_dir)


def test_an_argument_goes_before_the_environment(data_dir, tmp_path, by_hand):
    by_hand.write_cifar(data_dir)
    by_hand.write_cifar(tmp_path / "other")
    assert load("cifar10", data_dir=tmp_path / "other").source == str(tmp_path / "other")
    assert load("cifar10", data_dir=str(tmp_path / "other")).source == str(tmp_path / "other")
    assert load("cifar10").source == str(data_dir)


def test_nothing_found_lists_the_places_and_the_remedies(data_dir, by_hand):
    by_hand.write_cifar(data_dir / "cifar-10-batches-py")
    (data_dir / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(DataError) as error:
        load("cifar10")
    text = str(error.value)
    assert f"{data_dir / 'cifar-10-batches-py'}: lacks test_batch" in text
    assert f"{data_dir / 'cifar-10-binary.tar.gz'}: not there" in text
    assert "jaxnet data fetch cifar10" in text
    assert "set JAXNET_DATA_DIR to the folder that holds cifar-10-batches-bin or" in text


def test_an_incomplete_folder_does_not_hide_a_complete_one(data_dir, without_debian, by_hand):
    by_hand.write_fashion(data_dir / "fashion-mnist")
    (data_dir / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").unlink()
    by_hand.write_fashion(without_debian)
    assert load("fashion-mnist").source == str(without_debian)


def test_damage_is_reported_not_passed_over(data_dir, by_hand):
    by_hand.write_cifar(data_dir / "cifar-10-batches-bin", "bin")
    by_hand.write_cifar(data_dir)
    (data_dir / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"data_batch_1\.bin: 1 bytes"):
        load("cifar10")


def test_describe():
    facts = describe("fashion-mnist-mini")
    assert (facts["train"], facts["test"]) == (2000, 1000)
    assert facts["image_shape"] == (28, 28, 1)
    assert facts["bytes"] == 3000 * (784 + 4)
    assert len(facts["classes"]) == 10
    assert facts["licence"].startswith("MIT")
    assert facts["fingerprint"] == load("fashion-mnist-mini").fingerprint


def test_available(data_dir, by_hand):
    assert [(n, p is None) for n, _, p in available()] == [
        ("fashion-mnist-mini", False),
        ("fashion-mnist", True),
        ("cifar10", True),
    ]
    by_hand.write_cifar(data_dir)
    assert available()[2][2] == data_dir


def test_a_file_for_a_data_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file is a file, expected the folder"):
        load("cifar10", data_dir=tmp_path / "file")


def test_data_directory(monkeypatch, data_dir):
    assert data_directory() == data_dir
    monkeypatch.setenv("JAXNET_DATA_DIR", "~/data")
    assert not str(data_directory()).startswith("~")
    monkeypatch.delenv("JAXNET_DATA_DIR")
    assert "jaxnet" in data_directory().parts


def test_importing_and_loading_the_embedded_images_takes_numpy_only():
    code = (
        "import sys, jaxnet.data as d; d.load('fashion-mnist-mini');"
        "sys.exit(', '.join({'jax', 'pooch', 'requests', 'rich'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
