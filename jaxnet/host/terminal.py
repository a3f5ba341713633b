"""Signs beyond ASCII on terminals, pipes and files whose encoding lacks them.

Windows redirects output as cp1252, some schedulers as ASCII: there "→" is written as "->", and
what has no plainer form (a letter of a file's name) as its escape, `\\xe9`.
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
    """Return what stands for the first sign that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    sign, after = error.object[error.start], error.start + 1
    if 0xDC80 <= ord(sign) <= 0xDCFF:  # a byte of a file's name that is no text: as it is
        return bytes([ord(sign) - 0xDC00]), after
    return PLAINER.get(sign, sign.encode("ascii", "backslashreplace").decode("ascii")), after


codecs.register_error(_HANDLER, _plainer)


def plain_output() -> None:
    """Have standard output and error write a plainer sign instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a notebook or a test puts there
            stream.reconfigure(errors=_HANDLER)


def printable(text: str) -> str:
    """Return a text with the signs that standard output's encoding lacks made plainer.

    For the `__str__` of what users print from programs of their own, whose output is theirs.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding, _HANDLER).decode(encoding)
    except (LookupError, UnicodeError):  # an encoding that Python does not have
        return text
