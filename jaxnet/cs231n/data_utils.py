"""The course's functions that load CIFAR-10, on top of the reader of `jaxnet.data`."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Float64, Int64

from jaxnet.data import cifar10, sources
from jaxnet.errors import ConfigurationError, DataError

Batch = tuple[Float64[np.ndarray, "n 32 32 3"], Int64[np.ndarray, " n"]]
Both = tuple[
    Float64[np.ndarray, "train 32 32 3"],
    Int64[np.ndarray, " train"],
    Float64[np.ndarray, "test 32 32 3"],
    Int64[np.ndarray, " test"],
]

FOLDER = "cifar-10-batches-py"
"""The folder into which the course's script unpacks CIFAR-10."""


def load_CIFAR_batch(filename: str | Path) -> Batch:
    """Return images (float64, 0 to 255) and labels of one batch file, pickled or binary (.bin).

    Raises DataError, which names the file, if it is missing, cut short, or no CIFAR-10 batch.
    Unlike pickle.load, it refuses a pickle that asks for anything but arrays.
    """
    images, labels = cifar10.read_batch(Path(filename))
    return images.astype(np.float64), labels.astype(np.int64)


def load_CIFAR10(ROOT: str | Path) -> Both:
    """Return training images and labels, test images and labels, of CIFAR-10 in the folder ROOT.

    Images are float64 from 0 to 255, [n, 32, 32, 3], and labels int64. The 50,000 training images
    take 1.2 GB.

    If ROOT is not there and is called cifar-10-batches-py, as in the notebooks, CIFAR-10 is read
    from jaxnet's own data directory (JAXNET_DATA_DIR). Raises DataError if it is in neither place,
    or damaged.
    """
    data = cifar10.read(_place(Path(ROOT)))
    return (
        data.train_images.astype(np.float64),
        data.train_labels.astype(np.int64),
        data.test_images.astype(np.float64),
        data.test_labels.astype(np.int64),
    )


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
) -> dict[str, np.ndarray]:
    """Return X_train, y_train, X_val, y_val, X_test, y_test as a dictionary.

    Images are float64 [n, 3, 32, 32], minus the mean training image if `subtract_mean`. Training
    takes the first of the 50,000 images, validation the next ones, test the first of the 10,000.
    The data are read from cs231n/datasets/cifar-10-batches-py in the working directory (or the
    same folder of a renamed package), else from jaxnet's own data directory.

    Raises ConfigurationError for more images than there are, and DataError as `load_CIFAR10` does.
    """
    folders = [Path("cs231n/datasets") / FOLDER, *sorted(Path().glob(f"*/datasets/{FOLDER}"))]
    data = cifar10.read(_place(next((f for f in folders if f.exists()), folders[0])))
    end = num_training + num_validation
    if num_training < 1 or min(num_validation, num_test) < 0 or end > len(data.train_labels):
        raise ConfigurationError(
            f"expected num_training (1 or more) and num_validation that add up to at most "
            f"{len(data.train_labels)} images, got {num_training} and {num_validation}"
        )
    if num_test > len(data.test_labels):
        raise ConfigurationError(
            f"expected num_test of at most {len(data.test_labels)} images, got {num_test}"
        )
    parts = {
        "train": (data.train_images[:num_training], data.train_labels[:num_training]),
        "val": (data.train_images[num_training:end], data.train_labels[num_training:end]),
        "test": (data.test_images[:num_test], data.test_labels[:num_test]),
    }
    result: dict[str, np.ndarray] = {}
    for part, (images, labels) in parts.items():
        # One pass from bytes to channels-first floats, without a second large array.
        result[f"X_{part}"] = np.array(images.transpose(0, 3, 1, 2), np.float64, order="C")
        result[f"y_{part}"] = labels.astype(np.int64)
    if subtract_mean:
        mean_image = result["X_train"].mean(axis=0)
        for part in parts:
            result[f"X_{part}"] -= mean_image
    return result


def _place(root: Path) -> Path:
    """Return root if it is there, else jaxnet's own CIFAR-10 if root is the course's folder."""
    if root.exists():
        return root
    looked = [f"{root}: not there (working directory {Path.cwd()})"]
    if root.name == FOLDER:
        found, more = sources.search(sources.get("cifar10"), None)
        if found is not None:
            return found
        looked += more
    raise DataError(
        "CIFAR-10 is not here. Looked at:\n"
        + "\n".join(f"  {line}" for line in looked)
        + f"\nEither download it:  jaxnet data fetch cifar10\nor set "
        f"{sources.DATA_DIR_VARIABLE} to the folder that holds {FOLDER}, "
        "and ask for a folder of that name."
    )


def load_tiny_imagenet(path: Any, dtype: Any = np.float32, subtract_mean: bool = True) -> NoReturn:
    """Raise ConfigurationError, because this is not part of jaxnet."""
    _not_part_of_jaxnet("load_tiny_imagenet")


def load_imagenet_val(num: int | None = None) -> NoReturn:
    """Raise ConfigurationError, because this is not part of jaxnet."""
    _not_part_of_jaxnet("load_imagenet_val")


def load_models(models_dir: Any) -> NoReturn:
    """Raise ConfigurationError, because jaxnet opens no pickles that can run code."""
    _not_part_of_jaxnet("load_models")


def _not_part_of_jaxnet(name: str) -> NoReturn:
    raise ConfigurationError(
        f"{name} is not part of jaxnet.cs231n, which covers the notebooks on CIFAR-10: for others "
        f"import it from the course's own package"
    )
