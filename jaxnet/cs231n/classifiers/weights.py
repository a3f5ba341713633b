"""Save and load the course's networks as safetensors files, never as pickles."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnet.errors import DataError
from jaxnet.host.tensors import read_tensors, write_tensors

Arrays = dict[str, np.ndarray]


def path_for(fname: str | os.PathLike) -> Path:
    """Return the path of the safetensors file: "best.npy" becomes best.safetensors."""
    return Path(fname).with_suffix(".safetensors")


def save(fname: str | os.PathLike, params: Arrays, statistics: Sequence[dict] = ()) -> None:
    """Write parameters, and batchnorm's statistics as running_mean1, running_var1, ..."""
    path = path_for(fname)
    write_tensors(path, {**params, **_named(statistics)})
    print(f"{path} saved.")


def load(fname: str | os.PathLike, params: Arrays, statistics: Sequence[dict] = ()) -> bool:
    """Read a file of `save` into params and statistics; return False if there is no such file.

    Raises DataError if the file has other names or shapes than this network.
    """
    path = path_for(fname)
    if not path.exists():
        print(f"{path} not available.")
        return False
    tensors, _ = read_tensors(path)
    expected = {**params, **_named(statistics)}
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in expected.items()}:
        raise DataError(
            f"{path} belongs to another network: expected {_shapes(expected)}, "
            f"got {_shapes(tensors)}"
        )
    for name in params:
        params[name] = tensors[name]
    for i, param in enumerate(statistics, start=1):
        for name in _STATISTICS:
            if name in param:
                param[name] = tensors[f"{name}{i}"]
    print(f"{path} loaded.")
    return True


_STATISTICS = ("running_mean", "running_var")


def _named(statistics: Sequence[dict]) -> Arrays:
    return {
        f"{name}{i}": param[name]
        for i, param in enumerate(statistics, start=1)
        for name in _STATISTICS
        if name in param
    }


def _shapes(arrays: Arrays) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
