"""The values of one job with their fingerprints, and labels for people."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxnet.values.fingerprint import Fingerprinter, Unidentifiable
from jaxnet.values.label import label
from jaxnet.values.named import Named
from jaxnet.values.rules import new_fingerprinter

_SCALARS = (type(None), bool, int, float, str)
MIN_SUFFIX_LETTERS = 4  # of a fingerprint, behind a label that several values share


@dataclass(frozen=True, eq=False)
class Identified:
    """A value with the fingerprint that it had when it was identified, and a label for people.

    Two are equal if they share a fingerprint and their values are one object or compare equal. An
    equal fingerprint alone is not enough, because a compiled program may read its object again
    later, when another object with the same content today may differ. `unknown` says why nothing
    distinguishes a value; it then has a unique random fingerprint.
    """

    value: Any = field(repr=False)
    label: str
    fingerprint: str
    unknown: str | None = None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Identified)
            and self.fingerprint == other.fingerprint
            and _same(self.value, other.value)
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @property
    def is_plain(self) -> bool:
        """Whether JSON can represent the value."""
        return is_plain(self.value)


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return hash(one) == hash(other) and bool(one == other)
    except TypeError:  # values without a hash can change, so equality now does not last
        return False


def is_plain(value: Any) -> bool:
    """Whether a value is a number, a text, None, or a list or tuple of them."""
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return type(value) in _SCALARS


def plain(value: Any) -> Any:
    """Return a value in which Python numbers replace NumPy and JAX scalars.

    >>> plain([np.int64(8), (np.float32(0.5), np.bool_(True)), jax.numpy.asarray(3)])
    [8, (0.5, True), 3]
    """
    if type(value) in _SCALARS:
        return value
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0
    if not scalar or isinstance(value, jax.core.Tracer):
        return value
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):  # a random key
        return value
    if value.dtype.kind in "USO" or jnp.issubdtype(value.dtype, np.bool_):
        return value.item()
    return value.item() if jnp.issubdtype(value.dtype, np.number) else value


class Identities:
    """The values of a job, each digested once.

    The first of several values with one fingerprint represents all of them.
    """

    def __init__(self) -> None:
        self._fingerprinters: dict[str, Fingerprinter] = {}
        self._by_object: dict[tuple[str, int], tuple[Any, Identified]] = {}
        self._first: dict[tuple[str, str], Identified] = {}

    def identify(self, setting: str, value: Any, text: str | None = None) -> Identified:
        """Return the value of a setting with its fingerprint, and `text` or its own label.

        Raises ConfigurationError for two values with one name.
        """
        if (known := self._by_object.get((setting, id(value)))) is not None:
            return known[1]
        look, unknown = self._fingerprinters.setdefault(setting, new_fingerprinter()), None
        try:
            fingerprint = look.digest(value).hex()
        except Unidentifiable as error:
            fingerprint, unknown = f"none-{uuid.uuid4().hex}", str(error)
        inner = value.value if isinstance(value, Named) else value
        new = Identified(inner, text or label(value), fingerprint, unknown)
        identified = self._first.setdefault((setting, fingerprint), new)
        self._by_object[setting, id(value)] = value, identified
        return identified

    def readable(self, value: Any) -> Any:
        """Return settings for JSON, with labels in place of values that it cannot represent."""
        texts = {}
        for setting in {setting for setting, _ in self._first}:
            known = {i: one for (of, i), (_, one) in self._by_object.items() if of == setting}
            shown = tell_apart(known.values())
            texts |= {i: shown[one.fingerprint] for i, one in known.items() if not one.is_plain}
        return _readable(value, texts)


def _readable(value: Any, texts: Mapping[int, str]) -> Any:
    value = plain(value)
    if id(value) in texts:
        return texts[id(value)]
    if type(value) in _SCALARS:
        return value
    if isinstance(value, Mapping):
        return {str(name): _readable(inner, texts) for name, inner in value.items()}
    if type(value) in (list, tuple, range, np.ndarray):
        return [_readable(inner, texts) for inner in value]
    return label(value)


def tell_apart(values: Iterable[Identified], taken: Iterable[str] = ()) -> dict[str, str]:
    """Return fingerprint -> label, with a part of the fingerprint behind a label that is shared.

    `taken` are the labels of other values.
    """
    by_label: dict[str, set[str]] = {name: {""} for name in taken}
    for one in values:
        by_label.setdefault(one.label, set()).add(one.fingerprint)
    labels = {}
    for text, fingerprints in by_label.items():
        size = MIN_SUFFIX_LETTERS
        while len({one[-size:] for one in fingerprints}) < len(fingerprints):
            size += 1
        for one in fingerprints:
            labels[one] = text if len(fingerprints) == 1 else f"{text} #{one[-size:]}"
    labels.pop("", None)
    return labels


# JAX caches its traces of a user's functions, and does not notice that their globals or attributes
# have changed since. Another value of this context makes it trace them again.
traced_for = jax.make_user_context(())
