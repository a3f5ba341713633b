"""Read the pickles in which CIFAR-10 is distributed, without Python's unpickler.

A pickle is a program that can call anything it can name, and NumPy's unpickling functions can be
made to read and free memory that they do not own. This module reads the opcodes one by one. It
executes only the opcodes that a dictionary of lists, texts, numbers and arrays needs, and builds
records of its own from them: it calls nothing that the pickle names, hashes nothing but texts, and
makes an array from its bytes at the end.
"""

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnet.errors import DataError

_LATIN = ("latin1", "latin-1")


@dataclass
class PickledArray:
    """An array as its pickle describes it: dtype, shape, order, and raw bytes."""

    dtype: str = "?"
    shape: tuple[int, ...] = ()
    fortran: bool = False
    content: bytes = b""

    def __str__(self) -> str:
        """Return dtype and shape, such as uint8 [2, 3072]."""
        known = re.fullmatch(r"[<>|=]?[biuf?][1248]?", self.dtype)
        return f"{np.dtype(self.dtype) if known else self.dtype[:20]} {list(self.shape)[:5]}"

    def to_bytes(self) -> np.ndarray:
        """Return the array of unsigned bytes; raise ValueError for any other dtype or length."""
        if self.dtype not in ("u1", "|u1", "uint8") or len(self.content) != math.prod(self.shape):
            raise ValueError(f"{self} of {len(self.content)} bytes")
        order = "F" if self.fortran else "C"
        return np.frombuffer(self.content, np.uint8).reshape(self.shape, order=order)


@dataclass(frozen=True)
class _Dtype:
    code: str


def _new_array(*_: Any) -> PickledArray:
    return PickledArray()


def _dtype(code: Any, *_: Any) -> _Dtype:
    return _Dtype(_text(code))


def _encode(text: Any, encoding: Any) -> bytes:
    """Decode bytes, which Python 3 writes as a text in protocols without an opcode for bytes."""
    if _text(encoding) not in _LATIN:
        raise ValueError(f"encoding {encoding!r}")
    return _text(text).encode("latin-1")


# The only names that a pickle may use, each replaced by a harmless function of this module.
ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,  # its name since NumPy 2
    ("numpy", "ndarray"): _new_array,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}

_PUSH_OPCODES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}
_MARK = object()


def read_pickle(content: bytes, where: str) -> dict[str, Any]:
    """Return a pickled dictionary of lists, texts, numbers and `PickledArray`s.

    Raises DataError, which starts with `where`, for a name that no CIFAR-10 batch needs, for
    anything but a dictionary, and for content that is cut short or corrupt.
    """
    try:
        found = _Machine(where).run(content)
    except DataError:
        raise
    except Exception as error:  # damaged opcodes can raise nearly any error
        raise DataError(
            f"{where}: cut short or corrupt ({type(error).__name__}: {str(error)[:200]}). "
            "Fetch the file again."
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{where}: expected a pickled dictionary, got {type(found).__name__}. "
            "This is not a CIFAR-10 batch; fetch it again."
        )
    return found


class _Machine:
    """The stack and the memo of a pickle's program; any error means that the pickle is damaged."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise EOFError("no end")

    def step(self, name: str, argument: Any) -> None:
        stack, memo = self.stack, self.memo
        if name in _PUSH_OPCODES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "APPEND":
            value = stack.pop()
            self.top(list).append(value)
        elif name == "APPENDS":
            values = self.marked()
            self.top(list).extend(values)
        elif name == "LIST":
            stack.append(self.marked())
        elif name == "TUPLE":
            stack.append(tuple(self.marked()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self.popped(int(name[-1]))))
        elif name == "SETITEM":
            values = self.popped(2)
            self.fill(self.top(dict), values)
        elif name == "SETITEMS":
            values = self.marked()
            self.fill(self.top(dict), values)
        elif name == "DICT":
            values = self.marked()
            stack.append({})
            self.fill(stack[-1], values)
        elif name == "GLOBAL":
            self.name(*argument.split(" ", 1))
        elif name == "STACK_GLOBAL":
            self.name(*map(_text, self.popped(2)))
        elif name == "REDUCE":
            function, arguments = self.popped(2)
            if function not in ADMITTED.values() or not isinstance(arguments, tuple):
                raise TypeError("a call without a function")
            stack.append(function(*arguments))
        elif name == "BUILD":
            state = stack.pop()
            self.build(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"opcode {name}, which no CIFAR-10 batch has")

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise TypeError(f"expected a {kind.__name__}")
        return self.stack[-1]

    def popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("an empty stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        if any(value is _MARK for value in values):
            raise TypeError("a mark in place of a value")
        return values

    def marked(self) -> list[Any]:
        values = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def fill(self, mapping: dict[str, Any], values: list[Any]) -> None:
        for key, value in zip(values[::2], values[1::2], strict=True):
            mapping[_text(key)] = value

    def name(self, module: str, name: str) -> None:
        if (module, name) not in ADMITTED:
            raise DataError(
                f"{self.where}: refused, this pickle asks for {module[:100]}.{name[:100]}, which "
                "no CIFAR-10 batch needs and which could run code. Do not trust the file; delete "
                "it and fetch the data set again."
            )
        self.stack.append(ADMITTED[module, name])

    def build(self, subject: Any, state: Any) -> None:
        if isinstance(subject, _Dtype):
            return  # the state is the byte order, which single bytes do not have
        if not isinstance(subject, PickledArray):
            raise TypeError("a state for a value without one")
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or any(type(n) is not int or n < 0 for n in shape):
            raise TypeError("an array without a dtype or shape")
        if isinstance(content, str):
            content = content.encode("latin-1")
        subject.dtype, subject.shape = dtype.code, tuple(shape)
        subject.fortran, subject.content = bool(fortran), bytes(content)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value
