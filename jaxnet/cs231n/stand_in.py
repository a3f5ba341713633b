"""Let notebooks import this package under the name that they know."""

import importlib
import pkgutil
import sys

from jaxnet.errors import ConfigurationError


def stand_in_for(name: str) -> None:
    """Make `import name.layers` and the like give the modules of jaxnet.cs231n in this process.

    Call it before the notebook's own imports: what was imported from another package of that name
    stays what it was. ConfigurationError if `name` is no name of a package.
    """
    if not name.isidentifier():
        raise ConfigurationError(f"expected the name of a package, say 'cs231n', got {name!r}")
    package = importlib.import_module("jaxnet.cs231n")
    sys.modules[name] = package
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        alias = name + module.name.removeprefix(package.__name__)
        sys.modules[alias] = importlib.import_module(module.name)
