"""Names for values, under which results are stored instead of under a value's content."""

from typing import Any, TypeVar, cast

from jaxnet.errors import ConfigurationError

T = TypeVar("T")


class Named:
    """A value that is identified by its name alone, and behaves as the value does."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value
        self.__wrapped__ = value  # for `inspect.signature`

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the value."""
        return self.value(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in (
            "name",
            "value",
        ):  # unpickling asks for them before they are set
            raise AttributeError(name)
        return getattr(self.value, name)

    def __repr__(self) -> str:
        return f"named({self.name!r}, {type(self.value).__name__})"


def named(name: str, value: T) -> T:
    """Return `value` under a name, which alone identifies its results in a sweep.

    Use it for optimizers, models, their functions and arguments whose content cannot be compared
    (they hold a lock, a generator, a compiled object). Results under one name count as the same,
    so give another name whenever you change the value. Raises ConfigurationError for an empty name.

    >>> rule = named("lion, wide", lambda rate, numbers: rate)
    >>> rule(0.1, {}), rule
    (0.1, named('lion, wide', function))
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f'named: expected a name and a value, such as named("mine", value), got {name!r}'
        )
    return cast(T, Named(name, value))
