"""Arguments and options of a check from the command line or from the function's module."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnet.errors import ConfigurationError, unknown
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.cli.argument_text import build_arguments
from jaxnet.gradcheck.cli.import_target import find_named, first_line

_NAMED = re.compile(r"[\w.]+:[\w.]+")


def arguments_for(
    module: Any, name: str, function: Callable, text: str | None, seed: int
) -> tuple[Callable, tuple, dict[str, Any]]:
    """Return the function to check, its arguments, and options of `check_grads`.

    The text is one for `build_arguments`, a tuple in Python's notation, or MODULE:NAME. The latter
    names a tuple, a dict with "args" and options, or a function that returns one of these. Without
    a text, the module's check_args() gives the arguments.
    """
    if text is None:
        values, where = check_args(module), f"{module.__name__}.check_args()"
        if _by_function(values) and name in values:
            values = values[name]
        return (function, *_arguments_and_options(values, where))
    text = text.strip()
    if text.startswith("("):
        return (function, _literal(text), {})
    if _NAMED.fullmatch(text):
        where = f"--args {text}"
        values = find_named(text, module, "--args")
        return (
            function,
            *_arguments_and_options(_call(values, where) if callable(values) else values, where),
        )
    return (*build_arguments(function, text, seed, name), {})


def check_args(module: Any) -> Any:
    """Call the module's check_args()."""
    if not callable(getattr(module, "check_args", None)):
        raise ConfigurationError(
            f'{module.__name__} has no check_args: give --args "x=f64[3,4] y=i32[3]<10 key", or '
            f"write a function check_args() in it that returns the tuple of arguments"
        )
    return _call(module.check_args, f"{module.__name__}.check_args()")


def functions_with_arguments(module: Any) -> list[str]:
    """Return the names of the functions for which the module's check_args() has arguments."""
    values = check_args(module)
    if not _by_function(values):
        raise ConfigurationError(
            f"expected MODULE:FUNCTION, or a module whose check_args() returns arguments by the "
            f"function's name, got the module {module.__name__} and {_kind(values)}"
        )
    return list(values)


def _by_function(values: Any) -> bool:
    return isinstance(values, Mapping) and bool(values) and "args" not in values


def _call(function: Callable, where: str) -> Any:
    try:
        return function()
    except Exception as error:
        raise ConfigurationError(f"{where} raised {first_line(error)}") from error


def _arguments_and_options(result: Any, where: str) -> tuple[tuple, dict[str, Any]]:
    """Return arguments and options from a tuple, or from a dict with "args"."""
    if isinstance(result, tuple):
        return result, {}
    if not (isinstance(result, dict) and isinstance(result.get("args"), tuple)):
        raise ConfigurationError(
            f"{where} expects to return a tuple of arguments, or a dict with the tuple as "
            f'"args" and options of check_grads, or a dict of these by function, got '
            f"{_kind(result)}"
        )
    options = {name: value for name, value in result.items() if name != "args"}
    known = list(inspect.signature(check_grads).parameters)[2:]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{where}: {unknown('option', str(name), ['args', *known])}")
    return result["args"], options


def _literal(text: str) -> tuple:
    """Parse a tuple in Python's notation, and turn its lists of numbers into arrays."""
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ConfigurationError(f"--args {text} is no tuple of Python values: {error}") from None
    if not isinstance(values, tuple):
        raise ConfigurationError(f"--args expects a tuple, got {text}: write ({text.strip('()')},)")
    return tuple(np.asarray(value) if isinstance(value, list) else value for value in values)


def _kind(result: Any) -> str:
    return f"a dict of {', '.join(map(str, result))}" if isinstance(result, dict) else repr(result)
