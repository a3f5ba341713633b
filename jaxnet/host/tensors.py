"""Arrays in one safetensors file, replaced as a whole or not at all."""

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
    """Write arrays and texts; RunFolderError if it cannot be. An older file stays until then."""
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        write_whole(path, save(whole, metadata))
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return arrays and texts of a file; DataError if it is damaged or no safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a whole safetensors file: {error}") from error


def read_fields(path: Path, fields: Mapping[str, tuple[str, int | None]]) -> dict[str, np.ndarray]:
    """Return the arrays of these names; `fields` gives kinds of dtype and number of dimensions.

    None stands for any number from one up. DataError if the file is damaged, or one is missing or
    of another kind.
    """
    tensors, _ = read_tensors(path)
    for name, (kinds, dimensions) in fields.items():
        found = tensors.get(name)
        fits = found is not None and found.ndim > 0 and dimensions in (None, found.ndim)
        if found is None or not fits or found.dtype.kind not in kinds:
            got = "none" if found is None else f"{found.dtype}{list(found.shape)}"
            raise DataError(f"{path}: {name} should be {dimensions}-dimensional, got {got}")
    return {name: tensors[name] for name in fields}


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts of a file alone; DataError if it is damaged or no safetensors file."""
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is not a whole safetensors file: {error}") from error
