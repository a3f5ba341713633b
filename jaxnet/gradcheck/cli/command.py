"""`jaxnet gradcheck`: prove the whole catalogue, or check a function of the user's."""

import contextlib
import fnmatch
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxnet.errors import ConfigurationError, JaxnetError, RunFolderError, unknown
from jaxnet.gradcheck.catalogue import Row, catalogue, without_row
from jaxnet.gradcheck.check import check_grads
from jaxnet.gradcheck.cli.argument_sources import arguments_for, functions_with_arguments
from jaxnet.gradcheck.cli.import_target import find_functions, find_in, find_named, first_line
from jaxnet.gradcheck.report import FAIL, KINK, PASS, GradientReport
from jaxnet.host.texts import to_json

_CONFIG: Any = jax.config

_MAX_FULL_REPORTS = 3  # of so many failed rows the whole report is printed


def prove(*, only: str | None = None, seed: int = 0, json_file: Path | None = None) -> int:
    """Check the rows of the catalogue and print a line for each; return 0 if all hold, else 1.

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
            report = _check_row(row, seed)
            print(_line(row, report), flush=True)
            results.append({"kind": row.kind, "name": row.name, "options": row.options})
            results[-1] |= {"verdict": report.verdict, "report": report.to_dict()}
            if not report:
                bad.append((row, report))
    seconds = time.perf_counter() - started
    for row, report in bad[:_MAX_FULL_REPORTS]:
        print(f"\n{row.kind} {row.name}, {row.options}:\n{report}")
    if len(bad) > _MAX_FULL_REPORTS:
        print(
            f"\n{len(bad) - _MAX_FULL_REPORTS} more reports: --json FILE writes all, --only selects"
        )
    for name in missing:
        print(f"no row proves the {name}: add it to jaxnet/gradcheck/catalogue/")
    kinks = sum(result["verdict"] == KINK for result in results)
    held = len(rows) - len(bad)
    text = f"{held} of {len(rows)} hold" + (f", {kinks} of them at a kink" if kinks else "")
    again = f"; seed {seed}" if not bad else f"; to run these again: --seed {seed} --only NAME"
    print(f"{text}; {seconds:.0f} s{again}")
    if json_file is not None:
        summary = {"seed": seed, "seconds": seconds, "missing": missing, "rows": results}
        _write(json_file, to_json(summary, spelled=True, indent=1))
    return 1 if bad or missing else 0


def _select(rows: Sequence[Row], pattern: str) -> list[Row]:
    selected = [row for row in rows if fnmatch.fnmatchcase(_words(row), f"*{pattern}*")]
    if not selected:
        names = dict.fromkeys(row.name for row in rows)
        raise ConfigurationError(f"--only selects no row: {unknown('row', pattern, names)}")
    return selected


def _words(row: Row) -> str:
    return f"{row.kind} {row.name}, {row.options}"


def _check_row(row: Row, seed: int) -> GradientReport:
    """Check a row; a row that raises an error fails, and the others go on."""
    try:
        return row.check(seed)
    except Exception as error:
        notes = (f"raised {first_line(error)}",)
        return GradientReport(verdict=FAIL, leaves=(), notes=notes, seed=seed)


def _line(row: Row, report: GradientReport) -> str:
    what = f"{row.kind} {row.name}"
    numbers = [_worst(report, name) for name in ("versus_autodiff", "versus_numeric", "bound")]
    cells = ["-" if number is None else f"{number:.0e}" for number in numbers]
    line = f"{report.verdict:<12}{what:<27}{cells[0]:<10}{cells[1]:<10}{cells[2]:<9}{row.options}"
    return line + ("" if report else f": {report.cause()}")


def _worst(report: GradientReport, name: str) -> float | None:
    """Return the worst relative number of the leaves that have one.

    A gradient that vanishes (a bias before batchnorm) consists of rounding only.
    """
    leaves = [
        leaf for leaf in report.leaves if leaf.verdict != PASS or leaf.unresolved < leaf.lines
    ]
    numbers = [getattr(leaf, name) for leaf in leaves or report.leaves]
    return max((number for number in numbers if number is not None), default=None)


@contextlib.contextmanager
def _quick_compilation() -> Iterator[None]:
    """Compile with few optimizations: the many small programs run once, and take no time."""
    name = "jax_disable_most_optimizations"
    before = _CONFIG.read(name)
    _CONFIG.update(name, True)
    try:
        yield
    finally:
        _CONFIG.update(name, before)


def check_functions(
    target: str,
    *,
    args: str | None = None,
    by_hand: Mapping[str, str | None] | None = None,
    seed: int = 0,
    json_file: Path | None = None,
) -> int:
    """Check what "module:function,function" or a module names; return 0 if all hold, else 1.

    `args` is a text for `arguments_for`. `by_hand` names a function, in the module or as
    MODULE:NAME, for the options "grad", "backward" and "reference" of `check_grads`.
    """
    _demand_writable(json_file)
    if ":" not in target and args is not None:
        near = ".".join(target.split(".")[:-1])
        raise ConfigurationError(
            f"expected MODULE:FUNCTION beside --args, got {target!r}"
            + (f": write {near}:{target.split('.')[-1]}" if near else "")
        )
    module, names = find_functions(target)
    names = names or functions_with_arguments(module)
    chosen = {name: text for name, text in (by_hand or {}).items() if text is not None}
    if chosen and len(names) > 1:
        raise ConfigurationError(
            f"--{next(iter(chosen))} belongs to one function, got {', '.join(names)}: name one, or "
            f"return it from check_args() with its arguments"
        )
    functions = {o: _function(find_named(t, module, f"--{o}"), t) for o, t in chosen.items()}
    reports = {}
    for name in names:
        function = _function(find_in(module, name), f"{module.__name__}:{name}")
        function, values, options = arguments_for(module, name, function, args, seed)
        report = _report(name, function, values, {"seed": seed} | options | functions)
        print(f"{name}: {report}" if len(names) > 1 else report, flush=True)
        reports[name] = report
    if json_file is not None:
        written: Any = {name: report.to_dict() for name, report in reports.items()}
        written = written if len(names) > 1 else written[names[0]]
        _write(json_file, to_json(written, spelled=True, indent=1))
    return 0 if all(reports.values()) else 1


def _report(
    name: str, function: Callable, values: tuple, options: dict[str, Any]
) -> GradientReport:
    try:
        return check_grads(function, values, **options)
    except JaxnetError:
        raise
    except Exception as error:
        raise ConfigurationError(f"the check of {name} raised {first_line(error)}") from error


def _function(value: Any, name: str) -> Callable:
    if not callable(value):
        raise ConfigurationError(f"{name} expects a function, got {type(value).__name__}")
    return value


def _demand_writable(path: Path | None) -> None:
    """Refuse a file that cannot be written before the work is done."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise RunFolderError(f"cannot write {path}: expected a file in a directory that exists")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error}") from error
