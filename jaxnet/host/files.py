"""Replace files as a whole or not at all, and only if their content changes."""

import os
from pathlib import Path

PARTIAL = ".partial"
_COMPARED_BYTES = 1 << 20  # at once


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, unless it already has this content.

    The new file is written beside the old one and renamed over it, so that `path` is one of the
    two whatever happens in between.
    """
    if _has_content(path, content):
        return
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # a link here would redirect the write to its target
    partial.write_bytes(content)
    os.replace(partial, path)


def _has_content(path: Path, content: bytes) -> bool:
    if not path.is_file() or path.stat().st_size != len(content):
        return False
    view = memoryview(content)
    with path.open("rb") as file:
        return all(
            file.read(_COMPARED_BYTES) == view[start : start + _COMPARED_BYTES]
            for start in range(0, len(content), _COMPARED_BYTES)
        )


def remove_partial(folder: Path) -> None:
    """Remove the partial files that a killed process left in a folder."""
    for path in folder.glob("*" + PARTIAL):
        path.unlink(missing_ok=True)
