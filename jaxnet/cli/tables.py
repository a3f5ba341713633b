"""What a finished run prints: the best of it, as a table."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxnet.sweeps.results.sweep_result import SweepResult


def print_result(result: SweepResult, count: int) -> None:
    """Print the best ten of `count` configurations or their settings, and where the rest is."""
    replicated = any(len(setting.rows) > 1 for setting in result.replicates)
    headings, rows = (_settings_table if replicated else _rows_table)(result)
    what = f"{len(result.replicates)} settings" if replicated else str(count)
    title = f"best {len(rows)} of {what}" if count > 1 else None
    # Spaces let the headings wrap: 80 columns have room for five axes.
    headings = [name.replace("accuracy", "acc.").replace("_", " ") for name in headings]
    table = Table(*headings, title=title, box=box.SIMPLE_HEAD, collapse_padding=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if result.diverged:
        print(f"{len(result.diverged)} of {count} configurations diverged")
    if result.best is None:
        print("no configuration stayed finite: lower the learning rate")
    else:
        if result.noise is not None:
            print(result.noise)
        print(f"test accuracy of the best (id {result.best.id}): {result.test_accuracy:.4f}")
    print(f"{result.seconds:.1f} s; results in {result.folder}")
    assert result.folder is not None
    report = result.folder / "report.html"
    print(report if report.exists() else "pip install 'jaxnet[report]' for a report to look at")


def _rows_table(result: SweepResult) -> tuple[list[str], list[list[str]]]:
    columns = [*result.swept, "final_loss", "train_accuracy", "val_accuracy", "status"]
    cells = [row.to_dict() for row in result.ranked[:10]]
    rows = [[str(row["id"]), *(_cell(name, row.get(name)) for name in columns)] for row in cells]
    return ["id", *columns], rows


def _settings_table(result: SweepResult) -> tuple[list[str], list[list[str]]]:
    columns = [name for name in result.swept if name != "seed"]
    rows = []
    for setting in result.replicates[:10]:
        first, (low, high) = setting.rows[0].to_dict(), setting.interval
        rows.append(
            [
                *(_cell(name, first.get(name)) for name in columns),
                f"{setting.mean:.3f} ± {setting.std:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{setting.median:.3f}",
                str(len(setting.rows)),
                str(setting.diverged),
            ]
        )
    measured = ["val_accuracy mean ± std", "95 % interval", "median", "seeds", "diverged"]
    return [*columns, *measured], rows


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if name.endswith(("accuracy", "loss")):
        return f"{value:.4g}" if name.endswith("loss") else f"{value:.3f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
