import gzip
import struct

import numpy as np
import pytest

from jaxnet.data.idx import read_idx
from jaxnet.errors import DataError

ARRAY = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


@pytest.fixture
def content(by_hand):
    return by_hand.idx_bytes(ARRAY)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reads_back(tmp_path, content, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    got = read_idx(path, 3)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, ARRAY)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c[:-1], r"\[5, 4, 3\], 60 bytes, but there are 59"),
        (lambda c: c + b"\0", "60 bytes, but more follow"),
        (lambda c: c[:9], "cut short within its header"),
        (lambda c: b"", "starts with nothing, expected 00 00 08 03"),
        (lambda c: b"\1" + c[1:], "starts with 01 00 08 03"),
        (lambda c: c[:2] + b"\x0d" + c[3:], "starts with 00 00 0d 03"),
        (lambda c: c[:3] + b"\1" + c[4:], "starts with 00 00 08 01"),
        # Lies of 2 GB, which must not be believed before they are allocated, and of 2**96 bytes.
        (lambda c: c[:4] + struct.pack(">3I", 2, 10**3, 10**6) + c[16:], "but there are 60"),
        (lambda c: c[:4] + struct.pack(">3I", *[2**32 - 1] * 3) + c[16:], "expected at most"),
    ],
)
def test_damage_is_named(tmp_path, content, suffix, damage, message):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(damage(content)) if suffix else damage(content))
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated_gzip(tmp_path, content, keep):
    path = tmp_path / "images.gz"
    packed = gzip.compress(content)
    path.write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(DataError, match=r"images\.gz: the gzip stream is cut short"):
        read_idx(path, 3)


def test_every_flipped_byte_of_a_gzip_is_noticed_or_harmless(tmp_path, content):
    path = tmp_path / "images.gz"
    packed = gzip.compress(content, mtime=0)
    noticed = 0
    for i in range(len(packed)):
        path.write_bytes(packed[:i] + bytes([packed[i] ^ 0xFF]) + packed[i + 1 :])
        try:
            got = read_idx(path, 3)
        except DataError:
            noticed += 1
        else:  # the header's time, operating system and flags say nothing of the content
            assert i < 10
            np.testing.assert_array_equal(got, ARRAY)
    assert noticed >= len(packed) - 10


def test_not_gzip_at_all(tmp_path, content):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a sound gzip file"):
        read_idx(path, 3)


def test_missing(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "none", 1)
