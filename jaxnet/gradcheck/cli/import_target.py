"""Import the module that the command line names, and find the functions in it."""

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Any

from jaxnet.errors import ConfigurationError, unknown


def find_functions(target: str) -> tuple[Any, list[str]]:
    """Return the module of MODULE:FUNCTION,FUNCTION and the names, which MODULE alone has not."""
    path, colon, names = target.partition(":")
    functions = names.split(",") if names else []
    if not path or (colon and not all(functions)) or (colon and not functions):
        raise ConfigurationError(
            f"expected MODULE:FUNCTION, such as package.module:loss, got {target!r}"
        )
    if path.endswith(".py"):
        dotted = path.removesuffix(".py").replace("/", ".")
        raise ConfigurationError(
            f"expected a module, got the file {path}: write {dotted}{colon}{names}"
        )
    return _import(path), functions


def find_named(text: str, module: Any, option: str) -> Any:
    """Return the value of MODULE:NAME, or of NAME in the given module."""
    path, colon, name = text.rpartition(":")
    if not name or (colon and not path):
        raise ConfigurationError(f"{option} expects MODULE:NAME or NAME, got {text!r}")
    return find_in(_import(path) if path else module, name)


def find_in(module: Any, name: str) -> Any:
    """Return an attribute of a module, also a nested one such as `Model.energy`."""
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [n for n, member in vars(value).items() if callable(member) and n[0] != "_"]
            raise ConfigurationError(unknown(f"function in {module.__name__}", part, known))
        value = getattr(value, part)
    return value


def _import(path: str) -> Any:
    """Import a module, also one of the current directory."""
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
    folders = getattr(sys.modules.get(parent), "__path__", [])
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(folders)]


def first_line(error: Exception) -> str:
    """Return the exception's name and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
