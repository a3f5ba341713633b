"""Exceptions of the user's functions, told with the function's name and its own words."""

import contextlib
import re
from collections.abc import Iterator

from jaxnet.errors import ConfigurationError, JaxnetError

# What JAX raises for a callback has the traceback as its text, and what was raised at its end.
_RAISED = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?:$|: ?(?P<text>.*))", re.DOTALL | re.MULTILINE)


@contextlib.contextmanager
def blamed(who: str, where: str) -> Iterator[None]:
    """Raise what the user's function raises as a ConfigurationError that names the function.

    >>> with blamed("grad=", "on the given arguments"):
    ...     {}["w"]
    Traceback (most recent call last):
    jaxnet.errors.ConfigurationError: grad= raised KeyError on the given arguments: 'w'
    """
    try:
        yield
    except JaxnetError:
        raise
    except Exception as error:
        name, text = name_and_text(error)
        raise ConfigurationError(f"{who} raised {name} {where}: {text}") from error


def name_and_text(error: BaseException, most: int = 400) -> tuple[str, str]:
    """Return the exception's name and text, those of the callback's if one raised it.

    >>> name_and_text(RuntimeError('INTERNAL: Traceback:\\n  File "a.py", line 1\\nKeyError: 3'))
    ('KeyError', '3')
    """
    name, text = type(error).__name__, str(error)
    if "Traceback" in text and '\n  File "' in text:
        last = text[text.rindex('\n  File "') + 1 :]
        if match := _RAISED.search(last):
            name, text = match["name"].rpartition(".")[2], match["text"] or ""
    return name, " ".join(text.split())[:most] or "no message"


def told(error: BaseException, most: int = 400) -> str:
    """Return name and text in one piece.

    >>> told(ValueError("no such key"))
    'ValueError: no such key'
    """
    return ": ".join(name_and_text(error, most))
