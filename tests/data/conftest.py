"""Fixtures packed by hand, byte by byte, so that no reader is tested against its own writer."""

import dataclasses
import gzip
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxnet.data.sources import SOURCES


def idx_bytes(array, code=0x08):
    """The idx format, from its description."""
    header = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_fashion(folder: Path, train=6, test=4, gz=True, label=None):
    """Write the four files; return the arrays that they hold."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8)
        labels = (np.arange(n) * 3 % 10).astype(np.uint8)
        if label is not None:
            labels[1] = label
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if gz else ''}"
            path.write_bytes(gzip.compress(content, mtime=0) if gz else content)
        arrays[part] = images, labels
    return arrays


def _text(s: bytes) -> bytes:
    return b"U" + bytes([len(s)]) + s  # SHORT_BINSTRING


def pickled_array(planes, flags=b"K\x00K\x01") -> bytes:
    """A uint8 matrix as Python 2 pickled it; the distributed files have 0 and 1 as dtype flags."""
    rows, columns = planes.shape
    raw = planes.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + b"(K\x01"
        + (b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86")
        + (b"cnumpy\ndtype\nU\x02u1" + flags + b"\x87R")
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + (b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb")
    )


def pickled_batch(planes, labels, flags=b"K\x00K\x01") -> bytes:
    return (
        b"\x80\x02}("
        + (_text(b"labels") + b"](" + b"".join(b"K" + bytes([y]) for y in labels) + b"e")
        + (_text(b"data") + pickled_array(planes, flags))
        + (_text(b"batch_label") + _text(b"by hand") + b"u.")
    )


def binary_batch(planes, labels) -> bytes:
    return b"".join(bytes([y]) + row.tobytes() for y, row in zip(labels, planes, strict=True))


def write_cifar(folder: Path, layout="py"):
    """Write six batches of different lengths; return name -> (planes, labels)."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    batches = {}
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        n = 2 + i % 3
        batches[name] = rng.integers(0, 256, (n, 3072), np.uint8), [(i + j) % 10 for j in range(n)]
        if layout == "py":
            (folder / name).write_bytes(pickled_batch(*batches[name]))
        else:
            (folder / f"{name}.bin").write_bytes(binary_batch(*batches[name]))
    return batches


@pytest.fixture
def by_hand():
    return SimpleNamespace(
        idx_bytes=idx_bytes,
        write_fashion=write_fashion,
        write_cifar=write_cifar,
        pickled_array=pickled_array,
        pickled_batch=pickled_batch,
        binary_batch=binary_batch,
    )


@pytest.fixture
def without_debian(monkeypatch, tmp_path):
    """Move Debian's folder to where nothing lies, and return that place."""
    elsewhere = tmp_path / "debian"
    source = SOURCES["fashion-mnist"]
    places = tuple(elsewhere if isinstance(p, Path) else p for p in source.places)
    monkeypatch.setitem(SOURCES, "fashion-mnist", dataclasses.replace(source, places=places))
    return elsewhere
