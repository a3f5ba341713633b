"""Reader of NumPy's own files (.npy) that may come from others."""

import math
from pathlib import Path

import numpy as np

from jaxnet.errors import DataError


def read_npy(path: Path) -> np.ndarray:
    """Return the array of numbers in a .npy file.

    DataError, naming the file, for what is none, holds objects (pickles), or says of itself that it
    is larger than it is: NumPy makes room for what a file says before it reads any of it.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                header = np.lib.format.read_array_header_1_0(file)
            else:
                header = np.lib.format.read_array_header_2_0(file)
            shape, _, dtype = header
            said = math.prod(shape) * dtype.itemsize
            there = path.stat().st_size - file.tell()
            if dtype.hasobject or min(shape, default=0) < 0 or said > there:
                raise ValueError(
                    f"{dtype}{list(shape)}, {said:,} bytes, of which {there:,} are there"
                )
        return np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy parses the header as Python: nearly anything
        raise DataError(f"cannot read images from {path}: {error}") from None
