"""Digests of classes, modules, objects and arrays."""

import copyreg
import dataclasses
import enum
import functools
import types
import weakref
from collections.abc import Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxnet.values.fingerprint import Fingerprinter, digest
from jaxnet.values.functions import METADATA
from jaxnet.values.library import variable_of, version_of
from jaxnet.values.state import attributes

# Attributes that Python itself keeps in a class; the generated methods of a dataclass already
# contain what its fields say.
_CLASS_METADATA = METADATA | {
    *("__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "_abc_impl"),
    *("__orig_bases__", "__parameters__", "__dataclass_fields__", "__dataclass_params__"),
    "__slotnames__",  # which copyreg writes
}
# The original methods, because a subclass may override them.
_INNER: dict[type, Any] = {list: list.__iter__, tuple: tuple.__iter__}
_EXACT: dict[type, Any] = {
    **{str: str.__str__, bytes: bytes.__bytes__, int: int.__int__},
    **{float: float.__float__, complex: complex.__complex__},
}
_CONTAINERS = (dict, set, frozenset, *_INNER, *_EXACT)
_METHODS = (types.FunctionType, property, staticmethod, classmethod)


def of_class(look: Fingerprinter, cls: type) -> bytes:
    """Digest name, bases and attributes of a class."""
    members = {name: value for name, value in vars(cls).items() if name not in _CLASS_METADATA}
    if issubclass(cls, enum.Enum):
        members = {name: value for name, value in members.items() if isinstance(value, _METHODS)}
        members |= {name: member.value for name, member in cls.__members__.items()}
    slots = (types.GetSetDescriptorType, types.MemberDescriptorType)
    own = sorted((name, value) for name, value in members.items() if not isinstance(value, slots))
    return digest(
        "class",
        cls.__name__.encode(),
        look.all("bases", (type(cls), *cls.__bases__)),
        look.table("attributes", own, f"the attribute {{}} of {cls.__name__}"),
    )


def of_module(look: Fingerprinter, module: types.ModuleType) -> bytes:
    """Digest the whole of a user's module, or name and version of a library's."""
    if (version := version_of(module.__name__)) is not None:
        return digest("library", version.encode(), module.__name__.encode())
    content = sorted((n, value) for n, value in vars(module).items() if not n.startswith("__"))
    return look.table("module", content, f"{{}} of the module {module.__name__}")


def of_member(look: Fingerprinter, member: enum.Enum) -> bytes:
    """Digest a member of an enumeration."""
    return look.all("member", (type(member), member.name, member.value))


def of_reference(look: Fingerprinter, reference: weakref.ref) -> bytes:
    """Digest the object of a weak reference."""
    return look.all("reference", (reference(),))


def of_cache(look: Fingerprinter, cache: Any) -> bytes:
    """Digest the type of a weak container, because its content comes and goes."""
    return look.all("cache", (type(cache),))


def of_object(look: Fingerprinter, value: Any) -> bytes:
    """Digest class and content: the elements of a container, attributes, and the pickled state.

    For the user's own classes the attributes count, however they pickle. For objects of a
    library's class the pickled state counts, and for a dataclass with a base from a library its
    fields, because the other attributes are the library's bookkeeping.
    """
    cls = type(value)
    if cls is object:  # a sentinel, which has no content
        if (name := variable_of(value)) is None:
            raise look.unknown("is an object() that no variable of a module has")
        return digest("mark", *(part.encode() for part in name))
    if cls in _CONTAINERS:
        return digest(cls.__name__, _content(look, value))
    parts = [look.of(cls), _content(look, value)]
    libraries = [
        base
        for base in cls.__mro__
        if base not in (object, *_CONTAINERS) and version_of(base.__module__) is not None
    ]
    if libraries and dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        return digest("object", *parts, _attributes(look, value, fields))
    if libraries:
        parts.append(_pickled(look, value))
    if cls not in libraries:
        parts.append(_attributes(look, value, attributes(value)))
    return digest("object", *parts)


def _content(look: Fingerprinter, value: Any) -> bytes:
    """Digest the elements of a container, or the value of a subclass of a number or text."""
    if isinstance(value, dict):
        return of_mapping(look, value)
    if isinstance(value, set | frozenset):
        return digest("set", *sorted(look.of(inner) for inner in value))
    for kind, inner in _INNER.items():
        if isinstance(value, kind):
            return look.all("sequence", inner(value))
    for kind, inner in _EXACT.items():
        if isinstance(value, kind):
            return look.of(inner(value))
    return b""


def of_mapping(look: Fingerprinter, mapping: Mapping[Any, Any]) -> bytes:
    """Digest keys and values in their order, on which a function may depend."""
    return digest("dict", *(look.of(part) for item in mapping.items() for part in item))


def _attributes(look: Fingerprinter, value: Any, state: Mapping[str, Any]) -> bytes:
    cls = type(value)
    counted = sorted(
        (name, inner)
        for name, inner in state.items()
        if name not in METADATA
        and not isinstance(getattr(cls, name, None), functools.cached_property)
    )
    return look.table("attributes", counted, f"the attribute {{}} of {cls.__name__}")


def _pickled(look: Fingerprinter, value: Any) -> bytes:
    cls = type(value)
    try:
        reduce = copyreg.dispatch_table.get(cls)
        reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Exception:
        raise look.unknown(f"is a {cls.__name__}, whose content cannot be read") from None
    if isinstance(reduced, str):
        if (name := variable_of(value)) is None:
            raise look.unknown(f"is the {cls.__name__} {reduced}, of no known library")
        return digest("library", *(part.encode() for part in name))
    make, arguments, state, items, pairs, *_ = [*reduced, None, None, None]
    if isinstance(state, dict) and all(isinstance(name, str) for name in state):
        content = _attributes(look, value, state)
    else:
        content = look.of(state)
    more = [look.of(None if part is None else list(part)) for part in (items, pairs)]
    return digest("pickled", look.of(make), look.all("arguments", arguments), content, *more)


def of_array(look: Fingerprinter, value: np.ndarray | np.generic) -> bytes:
    """Digest type, dtype, shape and elements of a NumPy array or scalar."""
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        return digest("array", look.of(type(value)), _pickled(look, value))
    array = np.asarray(value)
    if array.dtype.hasobject:
        return look.all("objects", (array.shape, array.ravel().tolist()))
    kind = "scalar" if isinstance(value, np.generic) else "array"
    return _elements(f"{kind} {array.dtype.descr}", array)


def of_jax_array(look: Fingerprinter, value: jax.Array) -> bytes:
    """Digest dtype, shape and elements of a JAX array."""
    if isinstance(value, jax.core.Tracer):
        raise look.unknown("is a traced array, which has no value yet")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        kind = f"key {jax.random.key_impl(value)}"
        return _elements(kind, np.asarray(jax.random.key_data(value)))
    return _elements(f"jax {value.dtype} {value.weak_type}", np.asarray(value))


def _elements(kind: str, array: np.ndarray) -> bytes:
    return digest(f"{kind} {array.shape}", np.ascontiguousarray(array).tobytes())
