"""Replace characters that the encoding of a terminal, a pipe or a file lacks.

Windows redirects output as cp1252, some schedulers as ASCII. There "→" is written as "->", and a
character without a plainer form (a letter of a file's name) as its escape, `\\xe9`.
"""

import codecs
import io
import sys

PLAINER = {
    **{"·": "*", "×": "x", "−": "-", "±": "+-", "√": "sqrt", "Σ": "sum", "‖": "||"},
    **{"½": "1/2", "²": "^2", "≤": "<=", "≥": ">=", "µ": "u"},
    **{"α": "alpha", "β": "beta", "ε": "eps", "–": "-", "…": "...", "→": "->", "✕": "x"},
}
_HANDLER = "jaxnet.plainer"


def _plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return a replacement for the first character that an encoding lacks, and its end."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(character) <= 0xDCFF:  # an undecodable byte of a file's name stays as it is
        return bytes([ord(character) - 0xDC00]), after
    escaped = character.encode("ascii", "backslashreplace").decode("ascii")
    return PLAINER.get(character, escaped), after


codecs.register_error(_HANDLER, _plainer)


def plain_output() -> None:
    """Make standard output and error write plainer characters instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # notebooks and tests replace the streams
            stream.reconfigure(errors=_HANDLER)


def printable(text: str) -> str:
    """Return a text without characters that standard output's encoding lacks.

    `__str__` methods use it, because users print objects from programs that do not call
    `plain_output`.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, _HANDLER).decode(encoding)
    except (LookupError, UnicodeError):  # an unknown encoding
        return text
