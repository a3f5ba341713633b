"""The errors that a user can cause: each text has what was expected, what came, and a remedy."""

import difflib
from collections.abc import Iterable

_MAX_CHARACTERS = 4000  # a file may contain a whole page in place of a number


class JaxnetError(Exception):
    """The base of every error that jaxnet raises for a wrong input; the CLI prints its text."""

    def __init__(self, text: str = "") -> None:
        if len(text) > _MAX_CHARACTERS:
            begin, end = _MAX_CHARACTERS * 3 // 4, _MAX_CHARACTERS // 5
            text = f"{text[:begin]} [...] {text[-end:]}"
        super().__init__(text)


class ConfigurationError(JaxnetError, ValueError):
    """A wrong setting: unknown name, value out of range, empty grid, wrong shape."""


class DataError(JaxnetError, ValueError):
    """A data set that is missing, truncated, corrupt, mislabelled or of another kind."""


class DataWarning(UserWarning):
    """Data that are valid but probably unintended: another scale, order, distribution."""


class RunFolderError(JaxnetError, OSError):
    """A run folder that cannot be written, read or resumed."""


class WorkerError(JaxnetError, RuntimeError):
    """Networks that no worker of a cluster can train."""


def unknown(kind: str, got: str, known: Iterable[str]) -> str:
    """Return the text for an unknown name, with the near match, if any, and all known names.

    >>> unknown("optimizer", "adm", ["adam", "sgd"])
    "unknown optimizer 'adm': did you mean 'adam'? Known: adam, sgd"
    """
    known, got = list(known), got if len(got) <= 100 else f"{got[:97]}..."
    near = difflib.get_close_matches(got, known, n=1, cutoff=0.5)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {got!r}{hint} Known: {', '.join(known)}"
