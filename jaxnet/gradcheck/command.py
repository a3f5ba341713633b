"""`jaxnet gradcheck`: prove the whole catalogue, or check a function of the user's."""

import contextlib
import fnmatch
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnet.errors import ConfigurationError, JaxnetError, RunFolderError, unknown
from jaxnet.gradcheck.catalogue import Row, catalogue, without_row
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.find import find_function, first_line, from_module
from jaxnet.gradcheck.report import FAIL, KINK, PASS, Report
from jaxnet.gradcheck.spec import build_arguments as build_arguments

_CONFIG: Any = jax.config

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
        print(f"no row proves the {name}: add it to jaxnet/gradcheck/catalogue/")
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
        return Report(FAIL, (), notes=(f"raised {first_line(error)}",), seed=seed)


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


def check_function(
    target: str, *, spec: str | None = None, seed: int = 0, json_file: Path | None = None
) -> int:
    """Check the function named "module:function", print the report; return 0 if it holds, else 1.

    Its arguments are drawn by `build_arguments` from `spec`, or come from the module's
    `check_args()`: a tuple, or a dict with "args" and options of `check_grads`, such as "grad".
    """
    _demand_writable(json_file)
    module, function, name = find_function(target)
    options: dict[str, Any] = {"seed": seed}
    if spec is not None:
        function, args = build_arguments(function, spec, seed, name)
    elif callable(getattr(module, "check_args", None)):
        args, given = from_module(module)
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
        raise ConfigurationError(f"the check of {target} raised {first_line(error)}") from error
    print(report)
    if json_file is not None:
        _write(json_file, report.to_json(indent=1))
    return 0 if report else 1


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
