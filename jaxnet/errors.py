"""The errors a user can cause: each says what was expected, what was got, and what to change."""

import difflib
from collections.abc import Iterable

_MOST = 4000  # characters: a file may have put a whole page where a number should be


class JaxnetError(Exception):
    """Base of every error that jaxnet raises for a wrong input; the CLI prints its text."""

    def __init__(self, text: str = "") -> None:
        if len(text) > _MOST:
            text = f"{text[: _MOST * 3 // 4]} [...] {text[-_MOST // 5 :]}"
        super().__init__(text)


class ConfigurationError(JaxnetError, ValueError):
    """A setting that cannot be: unknown name, value out of range, empty grid, wrong shape."""


class DataError(JaxnetError, ValueError):
    """A data set that is missing, truncated, corrupt, mislabelled or not what it says it is."""


class DataWarning(UserWarning):
    """Data that can be, but probably are not what was meant: another scale, order, distribution."""


class RunFolderError(JaxnetError, OSError):
    """A run folder that cannot be written, read or resumed."""


class WorkerError(JaxnetError, RuntimeError):
    """Networks that no worker of a cluster could train."""


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """Return the text for an unknown name: the near match if there is one, and every known name.

    >>> unknown("optimizer", "adm", ["adam", "sgd"])
    "unknown optimizer 'adm': did you mean 'adam'? Known: adam, sgd"
    """
    known, got = list(known), got if len(got) <= 100 else f"{got[:97]}..."
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {got!r}{hint} Known: {', '.join(known)}"
