"""Instructions and references of a function's code, independent of its place in a file.

Code is compared by its instructions, which exist even if the source text does not: in an
interpreter, in a notebook, for several lambdas on one line. They do not depend on line numbers,
comments, docstrings and names of files, but on the version of Python.
"""

import dis
import importlib
import importlib.util
import inspect
import itertools
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
_MODULE_NAMES = (  # of variables that describe the module, not what its code does
    *("__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__"),
    *("__builtins__", "__annotations__", "__conditional_annotations__"),
)
# Python stores these line numbers and names in every class from 3.13 on.
_CLASS_NOTES = ("__firstlineno__", "__static_attributes__")

# A call of these may use any variable, so references cannot be listed.
UNBOUNDED = ("globals", "eval", "exec", "__import__")


class Import(NamedTuple):
    """One import within a function, of a whole module or of some of its names."""

    module: str
    level: int
    names: tuple[str, ...]


class Use(NamedTuple):
    """A global variable, and the attributes that the code reads from it, one after another."""

    name: str
    attributes: tuple[str, ...]


@lru_cache(maxsize=4096)
def instructions(code: CodeType) -> tuple[tuple[str, Any], ...]:
    """Return the instructions with their arguments; inner functions are code objects."""
    steps = [(step.opname, step.argval) for step in dis.get_instructions(code)]
    stored = {
        i for i, (name, at) in enumerate(steps) if name == "STORE_NAME" and at in _CLASS_NOTES
    }
    return tuple(step for i, step in enumerate(steps) if i + 1 not in stored)


def signature(code: CodeType) -> tuple[Any, ...]:
    """Return the properties of the code, other than its instructions, that a call depends on."""
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    named = sum(counts) - code.co_posonlyargcount
    kinds = sum(kind for kind in KINDS if code.co_flags & kind)
    names = code.co_varnames[:named]
    return (*counts, kinds, names, code.co_freevars, code.co_exceptiontable)


@lru_cache(maxsize=4096)
def references(code: CodeType) -> tuple[Use | Import, ...]:
    """Return the globals and imports of the code and its inner functions, sorted."""
    return tuple(sorted(set(_references(code)), key=repr))


def _references(code: CodeType) -> Iterator[Use | Import]:
    steps = instructions(code)
    for i, (name, argument) in enumerate(steps):
        if isinstance(argument, CodeType):
            yield from _references(argument)
        elif name in _GLOBAL and argument not in _MODULE_NAMES:
            yield Use(argument, _run(steps, i + 1, _ATTRIBUTE))
        elif name == "IMPORT_NAME":
            level = steps[i - 2][1]
            names = steps[i - 1][1] or ()
            yield Import(argument, level if isinstance(level, int) else 0, tuple(names))


def _run(steps: tuple[tuple[str, Any], ...], start: int, kinds: tuple[str, ...]) -> tuple[str, ...]:
    run = itertools.takewhile(lambda step: step[0] in kinds, steps[start:])
    return tuple(argument for _, argument in run)


def followed(value: Any, attributes: tuple[str, ...]) -> Any:
    """Return the value that these attributes of a module reach; `value` itself if it is no module.

    For a library's module that is the module, unless the user replaced the function in it.
    """
    reached = value
    for name in attributes:
        if not isinstance(reached, ModuleType) or not hasattr(reached, name):
            break
        reached = getattr(reached, name)
    if not isinstance(value, ModuleType) or version_of(value.__name__) is None:
        return reached
    replaced = isinstance(reached, FunctionType) and version_of(reached.__module__) is None
    return reached if replaced else value


def imported(one: Import, package: str | None) -> list[tuple[str, Any]]:
    """Return name and value of everything that an import brings in; None if it fails."""
    try:
        module = importlib.import_module("." * one.level + one.module, package)
    except Exception:  # it fails for the function, too
        return [(one.module, None)]
    names = [name for name in one.names if hasattr(module, name)]
    return [(name, getattr(module, name)) for name in names] or [(one.module, module)]
