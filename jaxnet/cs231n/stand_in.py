"""Let notebooks import this package under the course's name."""

import importlib
import pkgutil
import sys

from jaxnet.errors import ConfigurationError


def stand_in_for(name: str) -> None:
    """Make imports from the package `name` give the modules of jaxnet.cs231n in this process.

    Call it before the notebook's own imports, because it does not change earlier imports from
    another package of this name. Raises ConfigurationError if `name` cannot name a package.
    """
    if not name.isidentifier():
        raise ConfigurationError(f"expected the name of a package, say 'cs231n', got {name!r}")
    package = importlib.import_module("jaxnet.cs231n")
    sys.modules[name] = package
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        alias = name + module.name.removeprefix(package.__name__)
        sys.modules[alias] = importlib.import_module(module.name)
