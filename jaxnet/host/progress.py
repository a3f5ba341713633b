"""Report the progress of a run: not at all, or with a bar on standard error."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """A context manager that receives the progress of a run, and shows nothing."""

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop showing progress."""

    def advance(self, work: float) -> None:
        """Receive an amount of finished work, in units of the total."""

    def say(self, text: str) -> None:
        """Receive a line on the state of the run."""


class Bar(Reporter):
    """A bar with the remaining time, which it estimates from the last minute."""

    def __init__(self, total: float) -> None:
        self._progress = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            speed_estimate_period=60,
        )
        self._task = self._progress.add_task("compiling", total=total)

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def advance(self, work: float) -> None:
        """Advance the bar."""
        self._progress.advance(self._task, work)

    def say(self, text: str) -> None:
        """Show a line behind the bar."""
        self._progress.update(self._task, description=text)
