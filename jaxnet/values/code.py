"""What a function's code does and refers to, wherever it stands in a file.

Code is compared as instructions, for they are there where the text is not: in an interpreter, in a
notebook, for several lambdas on one line. Line numbers, comments, docstrings and names of files
are no part of them; the version of Python is.
"""

import dis
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from jaxnet.values.library import version_of

KINDS = (
    *(inspect.CO_VARARGS, inspect.CO_VARKEYWORDS, inspect.CO_GENERATOR, inspect.CO_COROUTINE),
    inspect.CO_ASYNC_GENERATOR,
)
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_OF_MODULES = (  # where the code stands, not what it does
    *("__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__"),
    *("__builtins__", "__annotations__", "__conditional_annotations__"),
)
_NOTED = ("__firstlineno__", "__static_attributes__")  # of classes, from Python 3.13 on

# They reach what no look at the code can name.
UNBOUNDED = ("globals", "eval", "exec", "__import__")


class Import(NamedTuple):
    """One import within a function: of a whole module, or of some of its names."""

    module: str
    level: int
    names: tuple[str, ...]


class Use(NamedTuple):
    """A global variable and the attributes that are looked up in it, one after another."""

    name: str
    attributes: tuple[str, ...]


@lru_cache(maxsize=4096)
def instructions(code: CodeType) -> tuple[tuple[str, Any], ...]:
    """Return the instructions with what each is applied to; functions within are code objects."""
    steps = [(found.opname, found.argval) for found in dis.get_instructions(code)]
    noted = {i for i, (name, at) in enumerate(steps) if name == "STORE_NAME" and at in _NOTED}
    return tuple(step for i, step in enumerate(steps) if i + 1 not in noted)


def signature(code: CodeType) -> tuple[Any, ...]:
    """Return what a call of the code depends on beside its instructions."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    named = sum(counts) - code.co_posonlyargcount
    kinds = sum(kind for kind in KINDS if code.co_flags & kind)
    names = code.co_varnames[:named]
    return (*counts, kinds, names, code.co_freevars, code.co_exceptiontable)


@lru_cache(maxsize=4096)
def references(code: CodeType) -> tuple[Use | Import, ...]:
    """Return the globals and imports of a code and of the functions within, sorted."""
    return tuple(sorted(set(_references(code)), key=repr))


def _references(code: CodeType) -> Iterator[Use | Import]:
    steps = instructions(code)
    for i, (name, argument) in enumerate(steps):
        if isinstance(argument, CodeType):
            yield from _references(argument)
        elif name in _GLOBAL and argument not in _OF_MODULES:
            yield Use(argument, _run(steps, i + 1, _ATTRIBUTE))
        elif name == "IMPORT_NAME":
            level = steps[i - 2][1]
            names = steps[i - 1][1] or ()
            yield Import(argument, level if isinstance(level, int) else 0, tuple(names))


def _run(steps: tuple[tuple[str, Any], ...], start: int, kinds: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for name, argument in steps[start:]:
        if name not in kinds:
            break
        found.append(argument)
    return tuple(found)


def followed(value: Any, attributes: tuple[str, ...]) -> Any:
    """Return what attributes of a module lead to; the value itself if it is none.

    What they lead to in a library is the library's, unless the user has put a function there.
    """
    found = value
    for name in attributes:
        if not isinstance(found, ModuleType) or not hasattr(found, name):
            break
        found = getattr(found, name)
    if not isinstance(value, ModuleType) or version_of(value.__name__) is None:
        return found
    put_there = isinstance(found, FunctionType) and version_of(found.__module__) is None
    return found if put_there else value


def imported(found: Import, package: str | None) -> list[tuple[str, Any]]:
    """Return what an import within a function brings in, by name; the name alone if it fails."""
    try:
        module = importlib.import_module("." * found.level + found.module, package)
    except Exception:  # it fails for the function, too
        return [(found.module, None)]
    names = [name for name in found.names if hasattr(module, name)]
    return [(name, getattr(module, name)) for name in names] or [(found.module, module)]
