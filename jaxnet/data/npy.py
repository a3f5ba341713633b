"""Read .npy files that may not be trusted."""

import math
from pathlib import Path

import numpy as np

from jaxnet.errors import DataError


def read_npy(path: Path) -> np.ndarray:
    """Return the array of numbers in a .npy file.

    Raises DataError, which names the file, if it is no such file, if it holds objects (pickles),
    or if its header claims more bytes than there are: NumPy would allocate them before it reads.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
            shape, _, dtype = header
            claimed = math.prod(shape) * dtype.itemsize
            there = path.stat().st_size - file.tell()
            if dtype.hasobject or min(shape, default=0) < 0 or claimed > there:
                raise ValueError(
                    f"{dtype}{list(shape)}, {claimed:,} bytes, of which {there:,} are there"
                )
        return np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python code, so nearly any error
        raise DataError(f"cannot read images from {path}: {error}") from None
