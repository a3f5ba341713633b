"""The log of a run folder, which records events line by line, also over restarts."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("jaxnet.sweeps")


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error: if the disk is full, the next necessary write reports it."""


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Append log records to a file within the context; the program's own handlers get them, too."""
    handler = _File(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(min(logging.INFO, level) if level else logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        handler.close()
