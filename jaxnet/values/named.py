"""Give a value a name, by which results are filed instead of by its content."""

from typing import Any, TypeVar, cast

from jaxnet.errors import ConfigurationError

T = TypeVar("T")


class Named:
    """A value that is known by its name alone, and behaves as the value does."""

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value
        self.__wrapped__ = value  # where `inspect.signature` looks

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the value."""
        return self.value(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("name", "value"):  # as unpickling asks for them
            raise AttributeError(name)
        return getattr(self.value, name)

    def __repr__(self) -> str:
        return f"named({self.name!r}, {type(self.value).__name__})"


def named(name: str, value: T) -> T:
    """Return `value` under a name, by which alone a sweep files its results.

    For optimizers, models, their functions and arguments that have no value to be told by (they
    hold a lock, a generator, a compiled object). Results of the same name are taken for the same:
    give another name whenever you change the value. Raises ConfigurationError for no name.

    >>> rule = named("lion, wide", lambda rate, numbers: rate)
    >>> rule(0.1, {}), rule
    (0.1, named('lion, wide', function))
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f'named: expected a name and a value, such as named("mine", value), got {name!r}'
        )
    return cast(T, Named(name, value))
