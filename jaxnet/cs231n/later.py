"""Names of the course's package that jaxnet does not compute yet: they say so when called."""

from collections.abc import Callable
from typing import Any, NoReturn


def convolution(name: str) -> Callable[..., Any]:
    """Return a function of this name that raises NotImplementedError."""

    def call(*args: Any, **settings: Any) -> NoReturn:
        raise NotImplementedError(
            f"{name}: convolutional layers are not part of jaxnet yet; fully-connected networks, "
            f"their layers, losses, Solver and gradient checks are"
        )

    call.__name__ = call.__qualname__ = name
    call.__doc__ = "Raise NotImplementedError: convolutional layers are yet to come."
    return call
