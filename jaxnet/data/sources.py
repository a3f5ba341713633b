"""The known data sets: where each may stand on this machine, and the function that reads it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxnet.arguments.signatures import checked
from jaxnet.data import cifar10, fashion_mnist
from jaxnet.data.dataset import DataSet
from jaxnet.errors import ConfigurationError, DataError, unknown

DATA_DIR_VARIABLE = "JAXNET_DATA_DIR"
_EMBEDDED = Path(__file__).parent / "embedded"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A known data set.

    `places` are tried in this order; a text is relative to the data directory, a Path is absolute.
    `lacks` returns the names of the files that a place is missing, and `read` reads a complete
    place. `files` has the name and the md5 of each official file; `fetch` downloads them from
    `address` into `folder` of the data directory, after which `fetched` is the place that has
    them. A source without an address is part of the package.
    """

    summary: str
    licence: str
    places: tuple[str | Path, ...]
    lacks: Callable[[Path], list[str]]
    read: Callable[[Path], DataSet]
    address: str = ""
    files: tuple[tuple[str, str], ...] = ()
    folder: str = "."
    fetched: str = "."


SOURCES: dict[str, Source] = {
    "fashion-mnist-mini": Source(
        summary="the first 2,000 + 1,000 images of Fashion-MNIST; part of the package",
        licence="MIT, Copyright (c) 2017 Zalando SE",
        places=(_EMBEDDED / "fashion-mnist-mini",),
        lacks=fashion_mnist.lacks,
        read=lambda path: fashion_mnist.read(path, "fashion-mnist-mini"),
    ),
    "fashion-mnist": Source(
        summary="60,000 + 10,000 grey images of clothes, 28×28, 10 classes",
        licence="MIT, Copyright (c) 2017 Zalando SE",
        places=(
            "fashion-mnist",
            ".",
            Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
        ),
        lacks=fashion_mnist.lacks,
        read=fashion_mnist.read,
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        # From the README of zalandoresearch/fashion-mnist. Debian compresses the files anew, which
        # changes their md5: such files are read where they stand, but no download can match them.
        files=(
            ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
        folder="fashion-mnist",
        fetched="fashion-mnist",
    ),
    "cifar10": Source(
        summary="50,000 + 10,000 colour photographs, 32×32, 10 classes",
        licence="none stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny "
        "Images, 2009",
        # The place that is fastest to read comes first.
        places=(
            "cifar-10-batches-bin",
            "cifar-10-batches-py",
            ".",
            "cifar-10-python.tar.gz",
            "cifar-10-binary.tar.gz",
        ),
        lacks=cifar10.lacks,
        read=cifar10.read,
        address="https://www.cs.toronto.edu/~kriz/",
        files=(("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
        fetched="cifar-10-python.tar.gz",
    ),
}


def data_directory() -> Path:
    """Return JAXNET_DATA_DIR if it is set, else the platform's cache folder of jaxnet."""
    if folder := os.environ.get(DATA_DIR_VARIABLE):
        return Path(folder).expanduser()
    import pooch  # here: its import takes longer than to load the embedded data set

    return Path(pooch.os_cache("jaxnet"))


@checked
def load(name: str, *, data_dir: Path | str | None = None) -> DataSet:
    """Read a known data set from `data_dir` (default: `data_directory()`).

    Raises ConfigurationError for an unknown name, and DataError if the data set is damaged or not
    there; the message lists the places tried and the remedies.

    >>> load("fashion-mnist-mini").train_images.shape
    (2000, 28, 28, 1)
    """
    source = get(name)
    found, looked = search(source, data_dir)
    if found is None:
        raise DataError(
            f"{name} is not on this machine. Looked at:\n"
            + "\n".join(f"  {line}" for line in looked)
            + f"\nEither download it:  jaxnet data fetch {name}\nor set {DATA_DIR_VARIABLE} to the "
            f"folder that holds {_what_to_hold(source)}."
        )
    return source.read(found)


@checked
def describe(name: str, data_dir: Path | str | None = None) -> dict[str, Any]:
    """Load a data set and return its description; raise errors as `load` does."""
    data = load(name, data_dir=data_dir)
    return {
        "name": name,
        "summary": get(name).summary,
        "train": len(data.train_labels),
        "test": len(data.test_labels),
        "image_shape": data.input_shape,
        "dtype": str(data.train_images.dtype),
        "classes": data.class_names,
        "bytes": data.nbytes,
        "found_at": data.source,
        "fingerprint": data.fingerprint,
        "licence": get(name).licence,
    }


@checked
def available(data_dir: Path | str | None = None) -> list[tuple[str, str, Path | None]]:
    """Return (name, summary, place or None) of every known data set, without reading any."""
    return [(name, s.summary, search(s, data_dir)[0]) for name, s in SOURCES.items()]


def get(name: str) -> Source:
    """Return a known source; raise ConfigurationError with the near match for an unknown name."""
    if name not in SOURCES:
        raise ConfigurationError(
            unknown("data set", name, SOURCES) + ". For arrays of your own: DataSet.from_arrays"
        )
    return SOURCES[name]


def search(source: Source, data_dir: Path | str | None) -> tuple[Path | None, list[str]]:
    """Return the first complete place, and for each place before it a line on what it lacks."""
    looked = []
    for path in places(source, data_dir):
        if not path.exists():
            looked.append(f"{path}: not there")
        elif missing := source.lacks(path):
            looked.append(f"{path}: lacks {', '.join(missing)}")
        else:
            return path, looked
    return None, looked


def places(source: Source, data_dir: Path | str | None) -> Iterator[Path]:
    """Yield the places of a source as full paths, in the order in which they are tried."""
    for place in source.places:
        yield place if isinstance(place, Path) else resolve(data_dir) / place


def resolve(data_dir: Path | str | None) -> Path:
    """Return `data_dir` or its default; raise DataError if it is a file."""
    directory = data_directory() if data_dir is None else Path(data_dir).expanduser()
    if directory.is_file():
        raise DataError(
            f"{directory} is a file, expected the folder that holds the data. Set "
            f"{DATA_DIR_VARIABLE}, or data_dir, to the folder."
        )
    return directory


def _what_to_hold(source: Source) -> str:
    names = [str(p) for p in source.places if isinstance(p, str) and p != "."]
    if source.folder != ".":  # the files may also lie in the data directory itself
        names += [" and ".join(file for file, _ in source.files)]
    return " or ".join(names)
