"""Digests of callables: functions, methods, and the wrappers that libraries make of functions."""

import functools
import sys
import types
from typing import Any

from jaxnet.values.code import (
    UNBOUNDED,
    Import,
    followed,
    imported,
    instructions,
    references,
    signature,
)
from jaxnet.values.fingerprint import Fingerprinter, Unidentifiable, digest
from jaxnet.values.library import version_of

PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"  # instructions depend on it

# Attributes that describe the source of a function, not what it does.
METADATA = {
    *functools.WRAPPER_ASSIGNMENTS,
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    "__type_params__",
}


def of_function(look: Fingerprinter, function: types.FunctionType) -> bytes:
    """Digest instructions, closure, defaults and attributes, and globals of the user's own."""
    what = "a lambda" if function.__name__ == "<lambda>" else function.__name__
    version = _library_of(function)
    if version is None:
        around = _globals(look, function, what)
    else:
        around = digest(version, function.__module__.encode(), function.__qualname__.encode())
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = [(name, cell.cell_contents) for name, cell in cells if not _is_empty(cell)]
    defaults = [("defaults", function.__defaults__), ("defaults", function.__kwdefaults__)]
    attributes = sorted((n, v) for n, v in vars(function).items() if n not in METADATA)
    return digest(
        "function",
        look.of(function.__code__),
        around,
        look.table("closure", closure, f"the closure variable {{}} of {what}"),
        look.table("defaults", defaults, f"one of the {{}} of {what}"),
        look.table("attributes", attributes, f"the attribute {{}} of {what}"),
    )


def _library_of(function: types.FunctionType) -> str | None:
    """Return the library of a function; None if it only claims the name of a library's module."""
    version = version_of(function.__module__)
    if version is None or vars(sys.modules[function.__module__]) is not function.__globals__:
        return None
    return version


def _is_empty(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def of_code(look: Fingerprinter, code: types.CodeType) -> bytes:
    """Digest instructions, but neither their position nor the name of the function."""
    steps = [digest(name, look.of(argument)) for name, argument in instructions(code)]
    return digest(PYTHON, look.of(signature(code)), *steps)


def _globals(look: Fingerprinter, function: types.FunctionType, what: str) -> bytes:
    used: list[tuple[str, Any]] = []
    own = function.__globals__
    builtins = own.get("__builtins__", {})
    builtins = builtins if isinstance(builtins, dict) else vars(builtins)
    for one in references(function.__code__):
        if isinstance(one, Import):
            used += imported(one, own.get("__package__"))
        elif one.name in own:
            used.append((one.name, followed(own[one.name], one.attributes)))
        elif one.name in builtins:
            if one.name in UNBOUNDED:
                raise Unidentifiable(f"{what} calls {one.name}, which may read anything")
            used.append((one.name, builtins[one.name]))
    return look.table("globals", used, f"the global {{}} of {what}")


def of_method(look: Fingerprinter, method: types.MethodType) -> bytes:
    """Digest the function and the object that it is bound to."""
    return look.all("method", (method.__func__, method.__self__))


def of_builtin(look: Fingerprinter, method: Any) -> bytes:
    """Digest a compiled method of an object; library names identify all compiled functions."""
    owner = getattr(method, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        raise look.unknown(f"is {method.__name__}, compiled code of no known library")
    return digest("builtin", method.__name__.encode(), look.of(owner))


def of_descriptor(look: Fingerprinter, method: Any) -> bytes:
    """Digest a compiled method of a type."""
    return digest("of a type", method.__name__.encode(), look.of(method.__objclass__))


def of_partial(look: Fingerprinter, partial: functools.partial) -> bytes:
    """Digest the function and its bound arguments; the order of named ones does not matter."""
    return digest(
        "partial",
        look.all("partial", (type(partial), partial.func, *partial.args)),
        look.table("keywords", sorted(partial.keywords.items()), "the argument {} of a partial"),
        look.table("attributes", sorted(vars(partial).items()), "the attribute {} of a partial"),
    )


def of_wrapper(look: Fingerprinter, wrapper: Any) -> bytes:
    """Digest a function wrapped by jax.jit or functools.lru_cache, with its options."""
    options = getattr(wrapper, "_jit_info", None)
    names = ("static_argnums", "static_argnames", "compiler_options_kvs")
    given = [getattr(options, name, None) for name in names]
    return look.all("wrapper", (type(wrapper), wrapper.__wrapped__, *given))


def of_class_member(look: Fingerprinter, member: Any) -> bytes:
    """Digest a static or a class method."""
    return look.all("member", (type(member), member.__func__))


def of_property(look: Fingerprinter, value: property) -> bytes:
    """Digest the functions of a property."""
    return look.all("property", (type(value), value.fget, value.fset, value.fdel))


def of_cached_property(look: Fingerprinter, value: functools.cached_property) -> bytes:
    """Digest the function of a property that is computed once."""
    return look.all("cached property", (value.func,))
