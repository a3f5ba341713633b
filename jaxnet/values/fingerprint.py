"""One digest for any value, the same in every process: two values of one digest act alike.

Plain data and arrays are known by content; functions by their instructions, what they close over,
their defaults, attributes and the globals that they use; objects by class and attributes. This
goes on within the user's own modules; what an installed library defines is known by name and
version.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from jaxnet.errors import ConfigurationError
from jaxnet.values.library import library_name
from jaxnet.values.named import Named

SIZE = 12  # bytes of a digest
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class Unidentifiable(Exception):
    """Nothing tells a value from another; the text says which part of it, and why."""


def digest(kind: str, *parts: bytes) -> bytes:
    """Return the digest of a kind of value and of its parts, in order."""
    found = hashlib.blake2b(kind.encode(), digest_size=SIZE)
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()


class Fingerprinter:
    """Digests values, each object once: none should change while this is in use.

    Values that lead back to themselves (functions that call each other) form circles. A circle is
    digested from where it is entered, and a value met again is the distance back to it. What is
    remembered of a circle serves outside of it only, so that no digest depends on what was asked
    before.
    """

    def __init__(self, rule_for: "Callable[[Any], Rule]") -> None:
        self._rule_for = rule_for  # handed in: the rules call a Fingerprinter back
        self._names: dict[str, Any] = {}
        self._known: dict[int, tuple[Any, bytes]] = {}  # by id, with the object to keep it alive
        self._open: dict[int, tuple[Any, int]] = {}  # under way, or in a circle that is
        self._lowest = 0  # the first position that the value under way leads back to
        self._circle: dict[int, int] = {}  # id of a value in a circle -> of where it was entered
        self._inside: set[int] = set()  # circles that are being digested again
        self._alive: list[Any] = []  # values known by their id
        self._where: list[str] = []

    def digest(self, value: Any) -> bytes:
        """Return the digest of a value; Unidentifiable if nothing tells it from others."""
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
        found = self._enter(key, value)
        self._inside.remove(circle)
        return found

    def _enter(self, key: int, value: Any) -> bytes:
        position, before = len(self._open), self._lowest
        self._open[key], self._lowest = (value, position), position
        found = self._digest(value)
        if self._lowest >= position:  # nothing leads further back
            members = list(self._open.items())[position:]
            for inner, (kept, _) in members:
                del self._open[inner]
                if len(members) > 1:
                    self._circle[inner] = self._circle.get(key, key)
                    self._alive.append(kept)
            self._known[key] = value, found
        self._lowest = min(before, self._lowest)
        return found

    def all(self, kind: str, values: Iterable[Any]) -> bytes:
        """Return the digest of several values, in order."""
        return digest(kind, *[self.of(value) for value in values])

    def table(self, kind: str, items: Iterable[tuple[str, Any]], where: str) -> bytes:
        """Return the digest of values by name; `where` says of an error whose value it is in."""
        parts = []
        for name, value in items:
            self._where.append(where.format(name))
            parts += [name.encode(), self.of(value)]
            self._where.pop()
        return digest(kind, *parts)

    def unknown(self, why: str) -> Unidentifiable:
        """Return the error for the value under way."""
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
                    f"named: two different values have the name {value.name!r}, by which alone "
                    f"they are told apart: give each a name of its own"
                )
        return digest("named", value.name.encode())


Rule = Callable[[Fingerprinter, Any], bytes]
"""How values of one kind are digested."""
