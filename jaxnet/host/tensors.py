"""Write and read arrays in one safetensors file, which is replaced as a whole or not at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxnet.errors import DataError, RunFolderError
from jaxnet.host.files import write_whole


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Write arrays and texts, or raise RunFolderError and leave an older file as it is."""
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        write_whole(path, save(whole, metadata))
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return arrays and texts of a file; raise DataError if it is no whole safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a whole safetensors file: {error}") from error


def read_fields(path: Path, fields: Mapping[str, tuple[str, int | None]]) -> dict[str, np.ndarray]:
    """Return the arrays of these names; `fields` has kinds of dtype and numbers of dimensions.

    None stands for any number from one up. Raises DataError if the file is damaged, or if an array
    is missing or of another kind.
    """
    tensors, _ = read_tensors(path)
    for name, (kinds, dimensions) in fields.items():
        array = tensors.get(name)
        fits = array is not None and array.ndim > 0 and dimensions in (None, array.ndim)
        if array is None or not fits or array.dtype.kind not in kinds:
            got = "none" if array is None else f"{array.dtype}{list(array.shape)}"
            raise DataError(f"{path}: {name} should be {dimensions}-dimensional, got {got}")
    return {name: tensors[name] for name in fields}


def read_metadata(path: Path) -> dict[str, str]:
    """Return only the texts of a file; raise DataError if it is no whole safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a whole safetensors file: {error}") from error
