"""The log of a run folder: what happened on the way, line by line, kept over restarts."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("jaxnet.sweeps")


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: a disk that is full is told of by what has to be written."""


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """Append what is logged meanwhile to a file; warnings go on to the program's own logging."""
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
