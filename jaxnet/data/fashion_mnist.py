"""Read Fashion-MNIST: a folder of four idx files, plain or gzipped."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from jaxnet.data.arrays import check_labels
from jaxnet.data.dataset import DataSet
from jaxnet.data.idx import read_idx
from jaxnet.errors import DataError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def lacks(folder: Path) -> list[str]:
    """Return the names of the files that the folder has neither plain nor as .gz."""
    return [name for name in FILES if _file(folder, name) is None]


def read(folder: Path, name: str = "fashion-mnist") -> DataSet:
    """Read the four files of a folder; images are `[n, 28, 28, 1]` uint8.

    Raises DataError, which names the file, if one is missing, damaged, of another size or
    mislabelled.
    """
    if missing := lacks(folder):
        raise DataError(
            f"{folder}: lacks {', '.join(missing)} (plain or .gz). Expected the four files of "
            "Fashion-MNIST; `jaxnet data fetch fashion-mnist` gets them."
        )
    train_images, train_labels = _read_part(folder, *FILES[:2])
    test_images, test_labels = _read_part(folder, *FILES[2:])
    return DataSet(
        name=name,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=CLASS_NAMES,
        source=str(folder),
        default_split="tail",
    )


def _file(folder: Path, name: str) -> Path | None:
    plain, gzipped = folder / name, folder / f"{name}.gz"
    return plain if plain.is_file() else gzipped if gzipped.is_file() else None


def _read_part(
    folder: Path, images_name: str, labels_name: str
) -> tuple[UInt8[np.ndarray, "n 28 28 1"], Int32[np.ndarray, "n"]]:
    images_file, labels_file = _file(folder, images_name), _file(folder, labels_name)
    assert images_file is not None  # `read` has checked `lacks`
    assert labels_file is not None
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if len(images) == 0 or images.shape[1:] != (28, 28):
        raise DataError(
            f"{images_file}: expected images [n, 28, 28], got {list(images.shape)}. "
            "This is not Fashion-MNIST; use DataSet.from_arrays for other images."
        )
    if len(labels) != len(images):
        raise DataError(
            f"{labels_file}: {len(labels)} labels, but {images_file.name} has {len(images)} "
            "images. The two files do not belong together; fetch both again."
        )
    check_labels(labels, len(CLASS_NAMES), str(labels_file))
    return images[..., None], labels.astype(np.int32)
