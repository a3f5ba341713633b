"""Write what the table of settings says: `docs/settings.md`, and the options of `jaxnet train`.

Run `python -m jaxnet.cli.settings_page` after a change of the table, or of the tables of
optimizers, schedules and architectures. The options are a file, so that `--help` loads no JAX.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import jaxnet
from jaxnet.arguments.setting import Setting
from jaxnet.optimizers import OPTIMIZERS
from jaxnet.schedules import SCHEDULES
from jaxnet.training.architectures import ARCHITECTURES
from jaxnet.training.settings import all_settings, architectures_with, users_of

PAGE = Path(jaxnet.__file__).parent.parent / "docs" / "settings.md"
OPTIONS = Path(__file__).with_name("train_options.json")

_HEAD = """# Settings of a run

<!-- `python -m jaxnet.cli.settings_page` writes this page. -->

These are the keywords of `jaxnet.train`, `jaxnet.sweep` and the axes of a space, and, but for
`model`, the options of `jaxnet train` (`--batch-size` for `batch_size`). A setting that is used by
some optimizers, schedules, losses or architectures only is refused with others.

| setting | takes | default | what it does | used by |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the page of the docs."""
    rows = [
        (f"`{name}`", _takes(row), _default(name, row), row.help, _listed(_users(name, row)))
        for name, row in all_settings().items()
    ]
    return _HEAD + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def options() -> str:
    """Return the name, kind and help of each option of `jaxnet train`, as JSON."""
    rows = (
        [name, row.kind.__name__, _help(row, _users(name, row))]
        for name, row in all_settings().items()
        if row.kind is not object and name != "seed"  # which `sweep` has as well
    )
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"[{lines}]\n"


FILES: dict[Path, Callable[[], str]] = {PAGE: page, OPTIONS: options}


def _takes(row: Setting) -> str:
    if row.choices:
        return _listed(row.choices, "or")
    if row.kind is float:
        return "a number above 0 up to 1" if 0 < row.low < 1 else f"a number in {row.range}"
    whole = f"a whole number from {row.low:g} up" if row.kind is int else ""
    words = {bool: "true or false", tuple: "whole numbers from 1 up", object: "an object"}
    return words.get(row.kind, whole)


def _default(name: str, row: Setting) -> str:
    """Return the default, or each where rules have their own."""
    tables = (OPTIMIZERS, SCHEDULES, ARCHITECTURES)
    rules = {user: rule for table in tables for user, rule in table.items()}
    own = {user: rules[user].hyperparameters[name] for user in users_of(name)}
    if len(set(own.values())) > 1:
        return ", ".join(f"{value:g} ({user})" for user, value in own.items())
    value = next(iter(own.values()), row.default)
    return f"{value:g}" if isinstance(value, float) else str(value).strip("(,)").lower()


def _users(name: str, row: Setting) -> list[str]:
    """Return who uses a setting; nobody by name where every run does."""
    users = [*row.applies_to, *architectures_with(name), *users_of(name)]
    return [] if set(SCHEDULES) <= set(users) else users


def _help(row: Setting, users: Iterable[str]) -> str:
    parts = [row.help, _listed(row.choices, "or")]
    users = _listed(users)
    return ": ".join(filter(None, parts)) + (f"; of {users}" if users else "")


def _listed(names: Iterable[str], last: str = "and") -> str:
    *most, end = names or [""]
    return f"{', '.join(most)} {last} {end}" if most else end


def main() -> None:
    """Write the files."""
    for path, content in FILES.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content(), encoding="utf-8")


if __name__ == "__main__":
    main()
