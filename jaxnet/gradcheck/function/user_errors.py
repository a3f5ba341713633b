"""Exceptions of the user's functions, raised again with the function's name and its own words."""

import contextlib
import re
from collections.abc import Iterator

from jaxnet.errors import ConfigurationError, JaxnetError

# JAX raises an error for a callback whose text is a traceback, with the first exception at its end.
_RAISED = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?:$|: ?(?P<text>.*))", re.DOTALL | re.MULTILINE)


@contextlib.contextmanager
def user_errors(who: str, where: str) -> Iterator[None]:
    """Turn an exception of the user's function into a ConfigurationError that names the function.

    >>> with user_errors("grad=", "on the given arguments"):
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
    """Return the exception's name and text; for a failed callback, of its own exception.

    >>> name_and_text(RuntimeError('INTERNAL: Traceback:\\n  File "a.py", line 1\\nKeyError: 3'))
    ('KeyError', '3')
    """
    name, text = type(error).__name__, str(error)
    if "Traceback" in text and '\n  File "' in text:
        last = text[text.rindex('\n  File "') + 1 :]
        if match := _RAISED.search(last):
            name, text = match["name"].rpartition(".")[2], match["text"] or ""
    return name, " ".join(text.split())[:most] or "no message"


def error_text(error: BaseException, most: int = 400) -> str:
    """Return the exception's name and text as "name: text".

    >>> error_text(ValueError("no such key"))
    'ValueError: no such key'
    """
    return ": ".join(name_and_text(error, most))
