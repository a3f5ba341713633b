"""Values of installed libraries, which are identified by name and by the library's version."""

import functools
import importlib.metadata
import os
import sys
import sysconfig
from typing import Any

_INSTALLED = {"site-packages", "dist-packages"}  # folders that a module's path may contain


@functools.cache
def _standard_folders() -> tuple[str, ...]:
    folders = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    return tuple({os.path.realpath(folder) + os.sep for folder in folders if folder})


def version_of(module: Any) -> str | None:
    """Return the library of a module, with its version; None for the user's own modules.

    >>> version_of("json").startswith("python 3."), version_of("__main__")
    (True, None)
    """
    return _version(module) if isinstance(module, str) and module in sys.modules else None


@functools.cache
def _version(module: str) -> str | None:
    top = module.partition(".")[0]
    if top == "__main__":
        return None
    if top == "jaxnet":  # installed or from a checkout
        return "jaxnet"
    file = _file(module)
    python = f"python {sys.version_info.major}.{sys.version_info.minor}"
    if file is None:  # compiled into Python, or made at run time
        return python if top in sys.stdlib_module_names else None
    real = os.path.realpath(file)
    if _INSTALLED.intersection([*file.split(os.sep), *real.split(os.sep)]):
        return _installed(top)
    standard = top in sys.stdlib_module_names and real.startswith(_standard_folders())
    return python if standard else None


def _file(module: str) -> str | None:
    loaded = sys.modules[module]
    file = getattr(loaded, "__file__", None)
    if file is None and (paths := list(getattr(loaded, "__path__", ()))):
        return paths[0]
    return file


@functools.cache
def _installed(top: str) -> str | None:
    """Return name and version of an installed package; None if it has no version."""
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return f"{top} {version}"
    try:
        return f"{top} {importlib.metadata.version(top)}"
    except importlib.metadata.PackageNotFoundError:
        found = importlib.metadata.packages_distributions().get(top, [])
        return ", ".join(f"{d} {importlib.metadata.version(d)}" for d in sorted(set(found))) or None


def library_name(value: Any) -> tuple[str, str, str] | None:
    """Return (library and version, module, name) if this name in a library refers to this value.

    >>> import json
    >>> library_name(json.dumps)[1:], library_name(lambda: 0)
    (('json', 'dumps'), None)
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if name is None:
        name = getattr(value, "__name__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return None
    if (version := version_of(module)) is None:
        return None
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return None
    return (version, module, name) if found is value else None


def variable_of(value: Any) -> tuple[str, str, str] | None:
    """Return (library and version, module, name) of a variable that is bound to this very object.

    The user's own variables do not count, because a script may rebind them.
    """
    bindings = [
        (module, name)
        for module, loaded in list(sys.modules.items())
        for name, bound in list(getattr(loaded, "__dict__", {}).items())
        if bound is value
    ]
    known = [(version, *at) for at in bindings if (version := version_of(at[0])) is not None]
    return min(known, default=None)
