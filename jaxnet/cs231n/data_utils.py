"""CIFAR-10 as the course's notebooks ask for it, through the reader of `jaxnet.data`."""

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

    DataError, naming the file, for one that is missing, cut short, or no CIFAR-10 batch. A pickle
    that asks for anything but arrays is refused, unlike by pickle.load.
    """
    images, labels = cifar10.read_batch(Path(filename))
    return images.astype(np.float64), labels.astype(np.int64)


def load_CIFAR10(ROOT: str | Path) -> Both:
    """Return training images and labels, test images and labels, of CIFAR-10 in the folder ROOT.

    Images are float64 from 0 to 255, [n, 32, 32, 3]; labels int64. The 50,000 take 1.2 GB.

    If ROOT is not there and is called cifar-10-batches-py, as in the notebooks, CIFAR-10 is taken
    from jaxnet's own data directory (JAXNET_DATA_DIR). DataError if it is in neither, or damaged.
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

    Images are float64 [n, 3, 32, 32], minus the mean training image unless told otherwise.
    Training takes the first images of the 50,000, validation those that follow, test the first of
    the 10,000. Read from cs231n/datasets/cifar-10-batches-py (or that of a renamed package) in the
    working directory, else from jaxnet's own data directory.

    ConfigurationError for more images than there are; DataError as in `load_CIFAR10`.
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
        # From bytes to channels-first floats in one pass: the one large array of all this.
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
    """Raise ConfigurationError: not part of jaxnet."""
    _not_part_of_jaxnet("load_tiny_imagenet")


def load_imagenet_val(num: int | None = None) -> NoReturn:
    """Raise ConfigurationError: not part of jaxnet."""
    _not_part_of_jaxnet("load_imagenet_val")


def load_models(models_dir: Any) -> NoReturn:
    """Raise ConfigurationError: not part of jaxnet, which opens no pickles that can run code."""
    _not_part_of_jaxnet("load_models")


def _not_part_of_jaxnet(name: str) -> NoReturn:
    raise ConfigurationError(
        f"{name} is not part of jaxnet.cs231n, which covers the notebooks on CIFAR-10: for others "
        f"import it from the course's own package"
    )
