"""`jaxnet gradcheck`: prove the whole catalogue, or check a function of the user's."""

import contextlib
import fnmatch
import importlib
import inspect
import json
import pkgutil
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnet.errors import ConfigurationError, JaxnetError, RunFolderError, unknown
from jaxnet.gradcheck.catalogue import Row, catalogue, without_row
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.report import FAIL, KINK, PASS, Report

_CONFIG: Any = jax.config


# The catalogue

_IN_FULL = 3  # reports of failed rows that are printed


def prove(*, only: str | None = None, seed: int = 0, json_file: Path | None = None) -> int:
    """Check the rows of the catalogue, print a line for each; return 0 if all hold, else 1.

    `only` selects the rows whose kind, name and options contain it; `*` and `?` are wildcards.
    """
    _demand_writable(json_file)
    everything = catalogue()
    rows = everything if only is None else _select(everything, only)
    missing = without_row(rows) if only is None else []
    print(f"{'verdict':<12}{'what':<27}{'autodiff':<10}{'numeric':<10}{'bound':<9}options")
    started, results, bad = time.perf_counter(), [], []
    with _quick_compilation():
        for row in rows:
            report = _checked(row, seed)
            print(_line(row, report), flush=True)
            results.append({"kind": row.kind, "name": row.name, "options": row.options})
            results[-1] |= {"verdict": report.verdict, "report": report.to_dict()}
            if not report:
                bad.append((row, report))
    seconds = time.perf_counter() - started
    for row, report in bad[:_IN_FULL]:
        print(f"\n{row.kind} {row.name}, {row.options}:\n{report}")
    if len(bad) > _IN_FULL:
        print(f"\n{len(bad) - _IN_FULL} more reports: --json FILE writes all, --only selects")
    for name in missing:
        print(f"no row proves the {name}: add it to jaxnet/gradcheck/catalogue.py")
    kinks = sum(result["verdict"] == KINK for result in results)
    held = len(rows) - len(bad)
    text = f"{held} of {len(rows)} hold" + (f", {kinks} of them at a kink" if kinks else "")
    again = f"; seed {seed}" if not bad else f"; to run these again: --seed {seed} --only NAME"
    print(f"{text}; {seconds:.0f} s{again}")
    if json_file is not None:
        summary = {"seed": seed, "seconds": seconds, "missing": missing, "rows": results}
        _write(json_file, json.dumps(_finite(summary), indent=1))
    return 1 if bad or missing else 0


def _select(rows: Sequence[Row], pattern: str) -> list[Row]:
    selected = [row for row in rows if fnmatch.fnmatchcase(_words(row), f"*{pattern}*")]
    if not selected:
        names = dict.fromkeys(row.name for row in rows)
        raise ConfigurationError(f"--only selects no row: {unknown('row', pattern, names)}")
    return selected


def _words(row: Row) -> str:
    return f"{row.kind} {row.name}, {row.options}"


def _checked(row: Row, seed: int) -> Report:
    """Check a row; one that raises fails, and the others go on."""
    try:
        return row.check(seed)
    except Exception as error:
        return Report(FAIL, (), notes=(f"raised {_first_line(error)}",), seed=seed)


def _line(row: Row, report: Report) -> str:
    what = f"{row.kind} {row.name}"
    numbers = [_worst(report, name) for name in ("versus_autodiff", "versus_numeric", "bound")]
    cells = ["-" if number is None else f"{number:.0e}" for number in numbers]
    line = f"{report.verdict:<12}{what:<27}{cells[0]:<10}{cells[1]:<10}{cells[2]:<9}{row.options}"
    return line + ("" if report else f": {_why(report)}")


def _why(report: Report) -> str:
    """Say in a few words what is wrong with a row."""
    bad = [leaf for leaf in report.leaves if leaf.verdict not in (PASS, KINK)]
    texts = [f"{leaf.path}: {leaf.hint or leaf.reason}" for leaf in bad]
    texts += [f"{c.name} failed: {c.detail}" for c in report.exact if c.outcome == "failed"]
    return next(iter([*texts, *report.notes]), report.verdict)


def _worst(report: Report, name: str) -> float | None:
    """Return the worst of the leaves that a relative number can describe.

    A gradient that vanishes (of a bias before batchnorm) consists of rounding only.
    """
    leaves = [
        leaf for leaf in report.leaves if leaf.verdict != PASS or leaf.unresolved < leaf.lines
    ]
    numbers = [getattr(leaf, name) for leaf in leaves or report.leaves]
    return max((number for number in numbers if number is not None), default=None)


@contextlib.contextmanager
def _quick_compilation() -> Iterator[None]:
    """Compile with few optimizations: many small programs run once, and none of them long."""
    name = "jax_disable_most_optimizations"
    before = _CONFIG.read(name)
    _CONFIG.update(name, True)
    try:
        yield
    finally:
        _CONFIG.update(name, before)


# A function of the user's


def check_function(
    target: str, *, spec: str | None = None, seed: int = 0, json_file: Path | None = None
) -> int:
    """Check the function named "module:function", print the report; return 0 if it holds, else 1.

    Its arguments are drawn by `build_arguments` from `spec`, or come from the module's
    `check_args()`: a tuple, or a dict with "args" and options of `check_grads`, such as "grad".
    """
    _demand_writable(json_file)
    module, function, name = _find(target)
    options: dict[str, Any] = {"seed": seed}
    if spec is not None:
        function, args = build_arguments(function, spec, seed, name)
    elif callable(getattr(module, "check_args", None)):
        args, given = _from_module(module)
        options |= given
    else:
        raise ConfigurationError(
            f'{module.__name__} has no check_args: give --args "x=f64[3,4] y=i32[3]<10 key", or '
            f"write a function check_args() in it that returns the tuple of arguments"
        )
    try:
        report = check_grads(function, args, **options)
    except JaxnetError:
        raise
    except Exception as error:
        raise ConfigurationError(f"the check of {target} raised {_first_line(error)}") from error
    print(report)
    if json_file is not None:
        _write(json_file, report.to_json(indent=1))
    return 0 if report else 1


def _find(target: str) -> tuple[Any, Callable, str]:
    """Return module, function and the function's name."""
    path, colon, name = target.partition(":")
    if not (path and colon and name):
        near = f": write {'.'.join(path.split('.')[:-1])}:{path.split('.')[-1]}"
        raise ConfigurationError(
            f"expected MODULE:FUNCTION, such as package.module:loss, got {target!r}"
            + (near if "." in path and not colon else "")
        )
    if path.endswith(".py"):
        dotted = path.removesuffix(".py").replace("/", ".")
        raise ConfigurationError(f"expected a module, got the file {path}: write {dotted}:{name}")
    module = _import(path)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [n for n, value in vars(found).items() if callable(value) and n[0] != "_"]
            raise ConfigurationError(unknown(f"function in {path}", part, known))
        found = getattr(found, part)
    if not callable(found):
        raise ConfigurationError(f"{target} expects a function, got {type(found).__name__}")
    return module, found, name


def _import(path: str) -> Any:
    """Import a module, those of the current directory too."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"{path} raised {_first_line(error)}") from error
        known = _modules(error.name.rpartition(".")[0])
        text = unknown("module", error.name, known) if known else f"no module {error.name!r} here"
        raise ConfigurationError(text) from None
    except Exception as error:
        raise ConfigurationError(f"importing {path} raised {_first_line(error)}") from error
    finally:
        sys.path.remove(here)


def _modules(parent: str) -> list[str]:
    """Return the modules of a package, or of the current directory."""
    if not parent:
        return [module.name for module in pkgutil.iter_modules([str(Path.cwd())])]
    places = getattr(sys.modules.get(parent), "__path__", [])
    return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(places)]


def _from_module(module: Any) -> tuple[tuple, dict[str, Any]]:
    """Return the arguments and options that the module's check_args gives."""
    where = f"{module.__name__}.check_args()"
    try:
        result = module.check_args()
    except Exception as error:
        raise ConfigurationError(f"{where} raised {_first_line(error)}") from error
    if isinstance(result, tuple):
        return result, {}
    if not (isinstance(result, dict) and isinstance(result.get("args"), tuple)):
        raise ConfigurationError(
            f"{where} expects to return a tuple of arguments, or a dict with the tuple as "
            f'"args" and options of check_grads, got {_kind(result)}'
        )
    options = {name: value for name, value in result.items() if name != "args"}
    known = list(inspect.signature(check_grads).parameters)[2:]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{where}: {unknown('option', str(name), ['args', *known])}")
    return result["args"], options


def _kind(result: Any) -> str:
    return f"a dict of {', '.join(map(str, result))}" if isinstance(result, dict) else repr(result)


# Arguments from a text

_DTYPES = {
    **{f"f{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "bf16": "bfloat16",
    **{f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": "bool",
}
_ITEM = re.compile(r"(?:(?P<name>[^=\s]*)=)?(?P<value>[^=\s]+)")
_ARRAY = re.compile(r"(?P<dtype>[a-z]+\d*)(?:\[(?P<shape>[^\]]*)\])?(?:<(?P<below>\d+))?")
_LITERALS = {"true": True, "false": False, "none": None}


def build_arguments(
    function: Callable, spec: str, seed: int = 0, name: str = "the function"
) -> tuple[Callable, tuple]:
    """Draw arguments from a text; return a function of them all by position, and their tuple.

    The text has one item an argument, in order or as NAME=ITEM, separated by spaces:

        f64[3,4]    floats, standard normal: f16, bf16, f32, f64; f64[] or f64 is a scalar
        i32[3]<10   integers from 0 to 9, 0 or 1 without <10: i8 to i64, u8 to u64
        bool[3]     true or false
        key         a random key; `key` alone also goes to a parameter of that name
        0.5 7 true false none    the value itself; a number with a point is differentiated too

    >>> _, (x, y) = build_arguments(lambda x, y: x, "x=f32[3,4] y=i32[3]<10")
    >>> x.shape, str(x.dtype), y.shape, bool((y < 10).all())
    ((3, 4), 'float32', (3,), True)
    """
    rng = np.random.default_rng([seed, 8])
    positional, named = [], {}
    parameters = _parameters(function)
    for item in re.sub(r"\s*([,<=])\s*|(?<=\[)\s+|\s+(?=\])", r"\1", spec).split():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ConfigurationError(f"--args: expected NAME=ITEM or ITEM, got {item!r}")
        value = _value(item, match["value"], rng, seed)
        given = match["name"]
        if given is None and named and item == "key":
            given = "key"
        if given is None:
            if named:
                raise ConfigurationError(f"--args: {item} without a name follows one with a name")
            positional.append(value)
        elif given in named:
            raise ConfigurationError(f"--args: {given} is given twice")
        elif parameters is not None and given not in parameters:
            raise ConfigurationError(f"--args: {unknown(f'argument of {name}', given, parameters)}")
        else:
            named[given] = value
    if not positional and not named:
        raise ConfigurationError('--args is empty: give one item an argument, "x=f64[3,4] key"')
    _demand_fit(function, name, positional, named)
    return _by_position(function, len(positional), list(named)), (*positional, *named.values())


def _parameters(function: Callable) -> list[str] | None:
    """Return the names that can be given, None if any can."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _demand_fit(function: Callable, name: str, positional: list, named: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        raise ConfigurationError(f"--args does not fit {name}{signature}: {error}") from None


def _by_position(function: Callable, positional: int, names: list[str]) -> Callable:
    """Return the function with named arguments in the order they were given."""
    if not names:
        return function

    def call(*args):
        return function(*args[:positional], **dict(zip(names, args[positional:], strict=True)))

    kind = inspect.Parameter.POSITIONAL_ONLY
    own = _parameters(function) or []
    first = [own[i] if i < len(own) else f"args{i}" for i in range(positional)]
    parameters = [inspect.Parameter(name, kind) for name in [*first, *names]]
    call.__signature__ = inspect.Signature(parameters)  # names for the report
    return call


def _value(item: str, text: str, rng: np.random.Generator, seed: int) -> Any:
    if text == "key":
        return jax.random.key(seed)
    if text in _LITERALS:
        return _LITERALS[text]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    match = _ARRAY.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"--args: {item!r} is no argument: expected an array such as f64[3,4] or i32[3]<10, "
            f"key, a number, true, false or none"
        )
    if match["dtype"] not in _DTYPES:
        known = [*_DTYPES, "key", *_LITERALS]
        raise ConfigurationError(f"--args: {unknown('dtype', match['dtype'], known)}")
    dtype = jnp.dtype(_DTYPES[match["dtype"]])
    shape = _shape(item, match["shape"] or "")
    below = match["below"]
    if below is not None and (dtype.kind not in "iu" or int(below) < 1):
        raise ConfigurationError(f"--args: {item!r}: < expects integers and a number above 0")
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, int(below or 2), shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    return np.asarray(rng.normal(size=shape)).astype(dtype)


def _shape(item: str, text: str) -> tuple[int, ...]:
    sizes = [size for size in text.split(",") if size]
    if not all(size.isdecimal() for size in sizes):
        raise ConfigurationError(f"--args: {item!r}: expected a shape such as [3,4], got [{text}]")
    return tuple(map(int, sizes))


# Files and texts


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _demand_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before the work is done."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise RunFolderError(f"cannot write {path}: expected a file in a directory that exists")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}") from error


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities, which JSON lacks, as strings."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    finite = not isinstance(value, float) or np.isfinite(value)
    return value if finite else str(value)
