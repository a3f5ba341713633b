"""Files that are replaced as a whole or not at all, and only by another content."""

import os
from pathlib import Path

PARTIAL = ".partial"
_PART = 1 << 20  # bytes compared at once


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, unless it holds this already; OSError if it cannot be.

    The new file is written beside the old one and renamed over it: whatever happens on the way,
    `path` holds one of the two.
    """
    if _holds(path, content):
        return
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)  # were it a link, the file that it points to would be written
    partial.write_bytes(content)
    os.replace(partial, path)


def _holds(path: Path, content: bytes) -> bool:
    if not path.is_file() or path.stat().st_size != len(content):
        return False
    view = memoryview(content)
    with path.open("rb") as file:
        return all(
            file.read(_PART) == view[start : start + _PART]
            for start in range(0, len(content), _PART)
        )


def remove_partial(folder: Path) -> None:
    """Remove what a process that was killed had begun to write in a folder."""
    for path in folder.glob("*" + PARTIAL):
        path.unlink(missing_ok=True)
