"""Readable labels of values: "adam(0.1)", "with_beta(b1=0.99)", "Loss(scale=9.0)".

Different values may share a label (`jaxnet.values.fingerprint` distinguishes them), and no label
contains a memory address.
"""

import ast
import enum
import functools
import inspect
import linecache
import sys
import types
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnet.values.library import version_of
from jaxnet.values.named import Named
from jaxnet.values.state import attributes

MAX_LABEL_CHARACTERS = 80
_MAX_DEPTH = 3  # of values within values
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# Optimizers whose first step, in a chain, has another name: step -> optimizer, its arguments.
_RENAMED = {
    "trace": ("sgd", {"decay": "momentum"}),
    "scale_by_rms": ("rmsprop", {}),
    "scale_by_rss": ("adagrad", {}),
}
_RATE = "scale_by_learning_rate"


def label(value: Any) -> str:
    """Return a label of one line for a value.

    >>> import optax
    >>> label(optax.adam(0.1)), label(optax.sgd(0.1, momentum=0.9)), label(jax.nn.relu)
    ('adam(0.1)', 'sgd(0.1, momentum=0.9)', 'relu')
    >>> def with_beta(b1):
    ...     return lambda rate, numbers: optax.adam(rate, b1=b1)
    >>> label(with_beta(0.99))
    'with_beta(b1=0.99)'
    """
    text = value if isinstance(value, str) else _label(value, _MAX_DEPTH)
    text = text.replace("<lambda>", "lambda")
    return text if len(text) <= MAX_LABEL_CHARACTERS else text[: MAX_LABEL_CHARACTERS - 1] + "…"


def _label(value: Any, depth: int) -> str:
    if isinstance(value, Named):
        return value.name
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if value.ndim == 0 and jnp.issubdtype(value.dtype, np.number):
            return repr(value.item())
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, type | types.ModuleType):
        return value.__name__
    if depth == 0:
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, optax.GradientTransformation):
        return _optimizer(value, depth)
    if isinstance(value, types.FunctionType):
        return _function(value, depth)
    if isinstance(value, types.MethodType):
        return f"{_label(value.__self__, depth - 1)}.{value.__func__.__name__}"
    if isinstance(value, functools.partial):
        given = [_label(one, depth - 1) for one in value.args]
        given += _items(value.keywords, depth)
        return f"{_label(value.func, depth - 1)}({', '.join(given)})"
    if callable(value) and callable(inner := getattr(value, "__wrapped__", None)):
        return _label(inner, depth)
    if isinstance(value, tuple) and (fields := getattr(value, "_asdict", None)) is not None:
        return f"{type(value).__name__}({', '.join(_items(fields(), depth))})"
    if isinstance(value, list | tuple | set | frozenset):
        inner = [_label(one, depth - 1) for one in value]
        return f"({', '.join(sorted(inner) if isinstance(value, set | frozenset) else inner)})"
    if isinstance(value, Mapping):
        inner = [f"{_label(k, depth - 1)}: {_label(v, depth - 1)}" for k, v in value.items()]
        return f"{{{', '.join(inner)}}}"
    if isinstance(getattr(value, "__name__", None), str):
        return value.__name__.replace("<unnamed function>", "function")  # compiled code
    if version_of(type(value).__module__) is not None:
        text = repr(value)
        return type(value).__name__ if "0x" in text or "\n" in text else text
    return f"{type(value).__name__}({', '.join(_items(_public(value), depth))})"


def _items(values: Mapping[str, Any], depth: int) -> list[str]:
    return [f"{name}={_label(value, depth - 1)}" for name, value in values.items()]


def _public(value: Any) -> dict[str, Any]:
    return {name: inner for name, inner in attributes(value).items() if not name.startswith("_")}


def _function(function: types.FunctionType, depth: int) -> str:
    """Return a function's name, or for a closure the call that made it."""
    factory, _, name = function.__qualname__.rpartition(".<locals>.")
    closure = _closure(function)
    if factory and closure and not factory.endswith("<lambda>"):
        if version_of(function.__module__) is not None:
            closure = _unusual(function, closure)
        return f"{factory.rpartition('.')[2]}({', '.join(_items(closure, depth))})"
    if function.__name__ != "<lambda>":
        return name.rpartition(".")[2]
    held = f" ({', '.join(_items(closure, depth))})" if closure else ""
    return _lambda(function, depth) + held


def _closure(function: types.FunctionType) -> dict[str, Any]:
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # not bound yet
            continue
        if value is not function and name != "__class__":
            values[name] = value
    return values


def _unusual(function: types.FunctionType, closure: dict[str, Any]) -> dict[str, Any]:
    """Return the variables that differ from the defaults of the library's factory."""
    factory: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split(".<locals>")[0].split("."):
        factory = getattr(factory, part, None)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return closure
    return {
        name: closure[name]
        for name, parameter in parameters.items()
        if name in closure
        and not (type(closure[name]) in _PLAIN and closure[name] == parameter.default)
    }


def _lambda(function: types.FunctionType, depth: int) -> str:
    """Return the text of this lambda, even if its line has several."""
    arguments = [
        parameter.name
        if parameter.default is parameter.empty
        else f"{parameter.name}={_label(parameter.default, depth - 1)}"
        for parameter in inspect.signature(function, follow_wrapped=False).parameters.values()
    ]
    head = f"lambda {', '.join(arguments)}".strip()
    text = _body(function.__code__, function.__globals__)
    return head if text is None else f"{head}: {text}"


def _body(code: types.CodeType, module: dict[str, Any]) -> str | None:
    """Return the text of the expression that a lambda returns, if the source is there."""
    # Empty positions belong to the lambda as a whole.
    spans = [
        (line, start, last, end)
        for line, last, start, end in code.co_positions()
        if line is not None and last is not None and start is not None and end is not None
        if (line, start) != (last, end)
    ]
    if not spans:
        return None
    line, start, last, end = min(spans)[0], min(spans)[1], *max(span[2:] for span in spans)
    lines = linecache.getlines(code.co_filename, module)[line - 1 : last]
    if len(lines) != last - line + 1:
        return None
    lines[-1] = lines[-1].encode()[:end].decode(errors="replace")
    lines[0] = lines[0].encode()[start:].decode(errors="replace")
    text = " ".join(" ".join(lines).split())
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):  # the file has changed since
        return None
    return text


def _optimizer(optimizer: optax.GradientTransformation, depth: int) -> str:
    """Return an optax optimizer as the call that made it, if its chain of steps shows that."""
    steps = [step for step in _steps(optimizer) if step[0] != "identity"] or [("identity", {})]
    (name, given), last = steps[0], steps[-1]
    known = len(steps) == 1 or name in _RENAMED or name.startswith("scale_by_")
    if last[0] != _RATE or len(steps) > 2 or not known:
        return " + ".join(_call(name, given, depth) for name, given in steps)
    rate = _label(last[1]["learning_rate"], depth - 1)
    if len(steps) == 1:
        return f"sgd({rate})"
    name, names = _RENAMED.get(name, (name, {}))
    given = {names.get(key, key): value for key, value in given.items()}
    return _call(name.removeprefix("scale_by_"), given, depth, rate)


def _call(name: str, given: Mapping[str, Any], depth: int, *first: str) -> str:
    return f"{name}({', '.join([*first, *_items(given, depth)])})"


def _steps(optimizer: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the optax functions in a chain of updates, each with its arguments."""
    init, update = optimizer if isinstance(optimizer, tuple) else (None, optimizer)
    if not isinstance(update, types.FunctionType):
        return [(_label(update, 1), {})]
    closure = _closure(update)
    name = update.__qualname__.split(".<locals>")[0]
    if name == "with_extra_args_support" and "tx" in closure:
        return _steps(closure["tx"])
    if name == "chain" and "update_fns" in closure:
        return [step for inner in closure["update_fns"] for step in _steps(inner)]
    if name == "scale" and isinstance(size := closure.get("step_size"), int | float):
        return [(_RATE, {"learning_rate": -size})]
    schedule = closure.get("step_size_fn")
    if isinstance(schedule, types.FunctionType) and schedule.__qualname__.startswith(_RATE):
        return [(_RATE, {"learning_rate": _closure(schedule).get("learning_rate")})]
    if isinstance(init, types.FunctionType):
        closure |= _closure(init)
    return [(name, _unusual(update, closure))]
