"""One digest for any value, the same in every process: values with one digest act the same.

The digest of plain data and arrays covers their content. The digest of a function covers its
instructions, closure, defaults, attributes and the globals that it uses, and the digest of an
object its class and attributes. All this recurses within the user's own modules; for anything that
an installed library defines, the digest covers name and version.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from jaxnet.errors import ConfigurationError
from jaxnet.values.library import library_name
from jaxnet.values.named import Named

DIGEST_BYTES = 12
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class Unidentifiable(Exception):
    """A value has no digest that distinguishes it; the text says which part of it, and why."""


def digest(kind: str, *parts: bytes) -> bytes:
    """Return the digest of a kind of value and of its parts, in order."""
    state = hashlib.blake2b(kind.encode(), digest_size=DIGEST_BYTES)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))  # so that parts cannot run into each other
        state.update(part)
    return state.digest()


class Fingerprinter:
    """Digests values, each object once; no value should change while this is in use.

    Values that lead back to themselves (functions that call each other) form a circle. A circle is
    digested from the value at which it is entered, and a value that comes again is replaced by the
    distance back to it. The digest of a member therefore depends on the entry, so remembered
    digests of members serve only outside of the circle: no digest depends on earlier calls.
    """

    def __init__(self, rule_for: "Callable[[Any], Rule]") -> None:
        self._rule_for = rule_for  # handed in: the rules call a Fingerprinter back
        self._names: dict[str, Any] = {}
        self._known: dict[
            int, tuple[Any, bytes]
        ] = {}  # by id; the object is stored to keep it alive
        self._open: dict[int, tuple[Any, int]] = {}  # values in progress, and their circles
        self._lowest = 0  # the first position that the value in progress leads back to
        self._circle: dict[int, int] = {}  # id of a member -> id of the entry of its circle
        self._inside: set[int] = set()  # circles in which members are digested again
        self._alive: list[Any] = []  # members, so that no other value gets their id
        self._where: list[str] = []  # the parts in progress, for error texts

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value; raise Unidentifiable if nothing distinguishes it."""
        self._open, self._lowest, self._where, self._inside = {}, 0, [], set()
        try:
            return self.of(value)
        except RecursionError:
            raise Unidentifiable("it is nested too deeply") from None

    def of(self, value: Any) -> bytes:
        """Return the digest of a value within another."""
        if type(value) in PLAIN:
            text = value.hex() if type(value) is float else repr(value)
            return digest(type(value).__name__, text.encode("utf-8", "surrogatepass"))
        key = id(value)
        circle = self._circle.get(key)
        if key in self._known and circle not in self._inside:
            return self._known[key][1]
        if key in self._open:
            back = self._open[key][1]
            self._lowest = min(self._lowest, back)
            return digest("circle", str(len(self._open) - back).encode())
        if circle is None or circle in self._inside:
            return self._enter(key, value)
        self._inside.add(circle)
        result = self._enter(key, value)
        self._inside.remove(circle)
        return result

    def _enter(self, key: int, value: Any) -> bytes:
        position, before = len(self._open), self._lowest
        self._open[key], self._lowest = (value, position), position
        result = self._digest(value)
        if self._lowest >= position:  # nothing leads back beyond this value: its circle is complete
            members = list(self._open.items())[position:]
            for inner, (member, _) in members:
                del self._open[inner]
                if len(members) > 1:
                    self._circle[inner] = self._circle.get(key, key)
                    self._alive.append(member)
            self._known[key] = value, result
        self._lowest = min(before, self._lowest)
        return result

    def all(self, kind: str, values: Iterable[Any]) -> bytes:
        """Return the digest of several values, in order."""
        return digest(kind, *[self.of(value) for value in values])

    def table(self, kind: str, items: Iterable[tuple[str, Any]], where: str) -> bytes:
        """Return the digest of named values; errors name the part by `where.format(name)`."""
        parts = []
        for name, value in items:
            self._where.append(where.format(name))
            parts += [name.encode(), self.of(value)]
            self._where.pop()
        return digest(kind, *parts)

    def unknown(self, why: str) -> Unidentifiable:
        """Return the error for the value in progress."""
        return Unidentifiable(f"{self._where[-1] if self._where else 'it'} {why}")

    def _digest(self, value: Any) -> bytes:
        if isinstance(value, Named):
            return self._named(value)
        if (name := library_name(value)) is not None:
            return digest("library", *(part.encode() for part in name))
        return self._rule_for(value)(self, value)

    def _named(self, value: Named) -> bytes:
        known = self._names.setdefault(value.name, value.value)
        if known is not value.value:
            other = Fingerprinter(self._rule_for)
            try:
                same = other.digest(known) == other.digest(value.value)
            except Unidentifiable:
                same = False
            if not same:
                raise ConfigurationError(
                    f"named: two different values have the name {value.name!r}, which alone "
                    f"identifies them: give each another name"
                )
        return digest("named", value.name.encode())


Rule = Callable[[Fingerprinter, Any], bytes]
"""A function that digests the values of one kind."""
