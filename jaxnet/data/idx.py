"""Read idx files, the format of MNIST and its descendants, plain or gzipped.

Big-endian: two zero bytes, a type code (8 is unsigned byte), the number of dimensions, each
dimension as int32, then the values, last dimension fastest.
"""

import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jaxnet.errors import DataError

UNSIGNED_BYTE_CODE = 0x08
MAX_BYTES = 1 << 31  # forty times Fashion-MNIST; a gzip stream of 2 MB can decompress to as much
_READ_BYTES = 1 << 24


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Return the unsigned bytes of an idx file as an array with that many dimensions.

    Raises DataError, which names the file, if it is no such file, if its length differs from its
    header, or if its gzip stream is corrupt.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            return _parse(stream, path, dimensions)
    except EOFError as error:
        raise DataError(f"{path}: the gzip stream is cut short. Fetch the file again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not a sound gzip file ({error}). Fetch the file again, or drop the .gz from "
            "its name if it is not compressed."
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _parse(stream: io.BufferedIOBase, path: Path, dimensions: int) -> np.ndarray:
    size = 4 + 4 * dimensions
    header = stream.read(size)
    expected = struct.pack(">HBB", 0, UNSIGNED_BYTE_CODE, dimensions)
    if header[:4] != expected:
        raise DataError(
            f"{path}: starts with {header[:4].hex(' ') or 'nothing'}, expected "
            f"{expected.hex(' ')} (idx, unsigned bytes, {dimensions} dimensions). This is not the "
            "file that its name says; fetch it again."
        )
    if len(header) < size:
        raise DataError(f"{path}: cut short within its header. Fetch the file again.")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    count = math.prod(shape)
    if count > MAX_BYTES:
        raise DataError(
            f"{path}: its header says {list(shape)}, {count:,} bytes, expected at most "
            f"{MAX_BYTES:,}. Fetch the file again."
        )
    values = _read_up_to(stream, count + 1)
    if len(values) != count:
        got = "more follow" if len(values) > count else f"there are {len(values):,}"
        raise DataError(
            f"{path}: its header says {list(shape)}, {count:,} bytes, but {got}. "
            "Fetch the file again."
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_up_to(stream: io.BufferedIOBase, limit: int) -> bytearray:
    # Reads in parts, because a false header could otherwise make one read allocate any amount.
    # The caller asks for one byte past the end, because gzip verifies its checksum only there.
    values = bytearray()
    while len(values) < limit and (part := stream.read(min(_READ_BYTES, limit - len(values)))):
        values += part
    return values
