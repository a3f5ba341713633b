"""Read CIFAR-10, a folder or a tar archive, in both layouts in which it is distributed.

Python layout: pickled dictionaries, `data` [n, 3072] uint8 and `labels` [n]. Binary layout: records
of 3,073 bytes, a label and 3,072 pixels. Both hold the pixels of an image plane by plane (red,
green, blue); the readers return channel-last images.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32, UInt8

from jaxnet.data.arrays import check_labels
from jaxnet.data.dataset import DataSet
from jaxnet.data.pickled import PickledArray, read_pickle
from jaxnet.errors import DataError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
BATCHES = (*TRAIN_BATCHES, "test_batch")
RECORD_BYTES = 1 + 3072
# CIFAR-10 has 186 MB in eight files; a hostile archive could fill the memory with more.
MAX_BYTES = 1 << 30
MAX_MEMBERS = 1000

Batch = tuple[UInt8[np.ndarray, "n 32 32 3"], Int32[np.ndarray, "n"]]


def lacks(path: Path) -> list[str]:
    """Return the batches that a folder has in neither layout; an archive is not opened for this."""
    if path.is_file():
        return []
    return [b for b in BATCHES if not ((path / b).is_file() or (path / f"{b}.bin").is_file())]


def read(path: Path) -> DataSet:
    """Read a folder or a .tar.gz archive in either layout; images are `[n, 32, 32, 3]` uint8.

    An archive is read in memory: nothing is extracted. Batches may have any number of rows.
    Raises DataError, which names the file, if a batch is missing, cut short, corrupt, malicious
    or mislabelled.
    """
    batches: dict[str, Batch] = {}
    for name, content in _archive_files(path) if path.is_file() else _folder_files(path):
        batch = name.removesuffix(".bin")
        if batch in batches:
            raise DataError(
                f"{path}: holds {batch} twice. Keep the pickled and the binary batches apart."
            )
        where = f"{path}: {name}"
        batches[batch] = (
            _records(content, where) if name.endswith(".bin") else _pickled(content, where)
        )
        del content  # 31 MB that would otherwise live while the next file is read
    if missing := [b for b in BATCHES if b not in batches]:
        raise DataError(
            f"{path}: lacks {', '.join(missing)}. Expected data_batch_1 to data_batch_5 and "
            "test_batch (or the same names with .bin); `jaxnet data fetch cifar10` gets them."
        )
    test_images, test_labels = batches.pop("test_batch")
    train_images, train_labels = _join(batches)
    return DataSet(
        name="cifar10",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=CLASS_NAMES,
        source=str(path),
        default_split="tail",
    )


def read_batch(path: Path) -> Batch:
    """Read one batch file, pickled or binary (.bin); raise DataError as `read` does."""
    return (_records if path.suffix == ".bin" else _pickled)(_content(path), str(path))


def _content(file: Path) -> bytes:
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise DataError(
                f"{file}: {size:,} bytes, expected a batch of at most {MAX_BYTES:,}. "
                "This is not a CIFAR-10 batch; fetch it again."
            )
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).") from error


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for batch in BATCHES:
        for name in (batch, f"{batch}.bin"):
            if (folder / name).is_file():
                yield name, _content(folder / name)


class _Bounded:
    """A stream that raises DataError once more than MAX_BYTES were decompressed."""

    def __init__(self, stream: gzip.GzipFile | io.BufferedIOBase, archive: Path) -> None:
        self._stream, self._archive, self._left = stream, archive, MAX_BYTES

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._archive}: decompresses to more than {MAX_BYTES:,} bytes, where CIFAR-10 "
                "has 186 million. Do not trust the file; fetch the archive again."
            )
        return content


def _archive_files(archive: Path) -> Iterator[tuple[str, bytes]]:
    # tarfile's own "r|gz" does not verify the gzip checksum; reading gzip to its end does.
    try:
        with gzip.open(archive) as unpacked:
            stream = _Bounded(unpacked, archive)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as tar:  # pyright: ignore
                for count, member in enumerate(tar):
                    path = PurePosixPath(member.name)
                    if path.is_absolute() or ".." in path.parts:
                        raise DataError(
                            f"{archive}: refused, its member {member.name!r} points outside of "
                            "the archive. CIFAR-10 has no such member; fetch the archive again."
                        )
                    if count >= MAX_MEMBERS:
                        raise DataError(
                            f"{archive}: more than {MAX_MEMBERS} members, where CIFAR-10 has "
                            "eight. Fetch the archive again."
                        )
                    # The size of a sparse member is a claim: the archive may hold nothing of it.
                    whole = member.isreg() and not member.issparse()
                    if whole and path.name.removesuffix(".bin") in BATCHES:
                        file = tar.extractfile(member)
                        assert file is not None  # None is for members that are not files
                        yield path.name, file.read()
            while stream.read(1 << 20):
                pass
    except (tarfile.TarError, EOFError, OSError, OverflowError, zlib.error) as error:
        raise DataError(
            f"{archive}: cut short or corrupt ({error}). "
            "Delete it and run `jaxnet data fetch cifar10`."
        ) from error


def _records(content: bytes, where: str) -> Batch:
    count, rest = divmod(len(content), RECORD_BYTES)
    if count == 0 or rest:
        raise DataError(
            f"{where}: {len(content):,} bytes, expected a multiple of {RECORD_BYTES} (a label of "
            f"one byte and 3072 of pixels), such as {10_000 * RECORD_BYTES:,}. The file is cut "
            "short or is not a CIFAR-10 batch; fetch it again."
        )
    records = np.frombuffer(content, np.uint8).reshape(count, RECORD_BYTES)
    check_labels(records[:, 0], len(CLASS_NAMES), where)
    return _channel_last(records[:, 1:]), records[:, 0].astype(np.int32)


def _pickled(content: bytes, where: str) -> Batch:
    batch = read_pickle(content, where)
    if missing := {"data", "labels"} - batch.keys():
        raise DataError(
            f"{where}: lacks the entry {' and '.join(sorted(missing))}, has "
            f"{', '.join(map(repr, list(batch)[:9])) or 'none'}. This is not a CIFAR-10 batch; "
            "fetch it again."
        )
    array, labels = batch["data"], batch["labels"]
    try:
        data = array.to_bytes() if isinstance(array, PickledArray) else None
    except ValueError:
        data = None
    if data is None or data.shape[1:] != (3072,):
        got = str(array) if isinstance(array, PickledArray) else type(array).__name__
        raise DataError(
            f"{where}: expected data of uint8 [n, 3072], got {got}. "
            "This is not a CIFAR-10 batch; fetch it again."
        )
    if not isinstance(labels, list) or any(type(label) is not int for label in labels):
        raise DataError(f"{where}: expected labels as a list of integers. Fetch the file again.")
    if len(labels) != len(data) or not labels:
        raise DataError(
            f"{where}: {len(labels)} labels for {len(data)} images, expected one each and at "
            "least one. Fetch the file again."
        )
    # Checked before the conversion to int32, which would wrap a large value into the range.
    check_labels(np.asarray(labels), len(CLASS_NAMES), where)
    return _channel_last(data), np.asarray(labels, np.int32)


def _channel_last(planes: UInt8[np.ndarray, "n 3072"]) -> UInt8[np.ndarray, "n 32 32 3"]:
    planes = planes.reshape(-1, 3, 1024)
    images = np.empty((len(planes), 1024, 3), np.uint8)
    for channel in range(3):  # 3 times faster than one copy of the transposed view
        images[:, :, channel] = planes[:, channel]
    return images.reshape(-1, 32, 32, 3)


def _join(batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> Batch:
    rows = sum(len(labels) for _, labels in batches.values())
    images, labels = np.empty((rows, 32, 32, 3), np.uint8), np.empty(rows, np.int32)
    start = 0
    for name in TRAIN_BATCHES:  # the archive may have them in another order
        batch_images, batch_labels = batches.pop(name)  # frees each batch after its copy
        end = start + len(batch_labels)
        images[start:end], labels[start:end] = batch_images, batch_labels
        start = end
    return images, labels
