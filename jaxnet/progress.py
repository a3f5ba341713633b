"""The progress bar of a run, on standard error."""

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter(Protocol):
    """What a run tells while it goes: work done, and what it found."""

    def advance(self, work: float) -> None:
        """Note that much more work (in units of the total) as done."""

    def say(self, text: str) -> None:
        """Show a short text beside the bar."""


class Silent:
    """A reporter that shows nothing."""

    def advance(self, work: float) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""


class Bar:
    """A bar with the time left, estimated from the work done; a context manager."""

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
        """Move the bar on."""
        self._progress.advance(self._task, work)

    def say(self, text: str) -> None:
        """Show a short text behind the bar."""
        self._progress.update(self._task, description=text)
