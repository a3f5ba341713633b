"""What a run tells while it goes: nothing, or a progress bar on standard error."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """Is told of work done and of what was found, and shows nothing; a context manager."""

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *exception: object) -> None:
        """Show nothing more."""

    def advance(self, work: float) -> None:
        """Note that much more work, in units of the total, as done."""

    def say(self, text: str) -> None:
        """Note a line on how far the run is."""


class Bar(Reporter):
    """A bar with the time left, estimated from the work of the last minute."""

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
        """Show a line behind the bar."""
        self._progress.update(self._task, description=text)
