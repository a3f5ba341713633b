"""A function of the user's found by name, and the arguments that its module gives."""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnet.errors import ConfigurationError, unknown
from jaxnet.gradcheck.check import check_grads


def find_function(target: str) -> tuple[Any, Callable, str]:
    """Return module, function and the function's name."""
    path, colon, name = target.partition(":")
    if not (path and colon and name):
        near = f": write {'.'.join(path.split('.')[:-1])}:{path.split('.')[-1]}"
        raise ConfigurationError(
            f"expected MODULE:FUNCTION, such as package.module:loss, got {target!r}"
            + (near if "." in path and not colon else "")
        )
    if path.endswith(".py"):
        dotted = path.removesuffix(".py").replace("/", ".")
        raise ConfigurationError(f"expected a module, got the file {path}: write {dotted}:{name}")
    module = _import(path)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
            raise ConfigurationError(unknown(f"function in {path}", part, known))
        found = getattr(found, part)
    if not callable(found):
        raise ConfigurationError(f"{target} expects a function, got {type(found).__name__}")
    return module, found, name


def _import(path: str) -> Any:
    """Import a module, those of the current directory too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{path} raised {first_line(error)}") from error
        known = _modules(error.name.rpartition(".")[0])
        text = unknown("module", error.name, known) if known else f"no module {error.name!r} here"
        raise ConfigurationError(text) from None
    except Exception as error:
        raise ConfigurationError(f"importing {path} raised {first_line(error)}") from error
    finally:
        sys.path.remove(here)


def _modules(parent: str) -> list[str]:
    """Return the modules of a package, or of the current directory."""
    if not parent:
        return [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
    places = getattr(sys.modules.get(parent), "__path__", [])
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(places)]


def from_module(module: Any) -> tuple[tuple, dict[str, Any]]:
    """Return the arguments and options that the module's check_args gives."""
    where = f"{module.__name__}.check_args()"
    try:
        result = module.check_args()
    except Exception as error:
        raise ConfigurationError(f"{where} raised {first_line(error)}") from error
    if isinstance(result, tuple):
        return result, {}
    if not (isinstance(result, dict) and isinstance(result.get("args"), tuple)):
        raise ConfigurationError(
            f"{where} expects to return a tuple of arguments, or a dict with the tuple as "
            f'"args" and options of check_grads, got {_kind(result)}'
        )
    options = {name: value for name, value in result.items() if name != "args"}
    known = list(inspect.signature(check_grads).parameters)[2:]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{where}: {unknown('option', str(name), ['args', *known])}")
    return result["args"], options


def _kind(result: Any) -> str:
    return f"a dict of {', '.join(map(str, result))}" if isinstance(result, dict) else repr(result)


def first_line(error: Exception) -> str:
    """Return the exception's name and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
