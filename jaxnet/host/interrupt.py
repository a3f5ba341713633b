"""Turn Ctrl-C into a request that takes effect at the next safe point.

An exception from the signal handler itself may come in the middle of anything, or be swallowed by
code that cannot raise, such as a callback of the runtime; the run would then go on as if nothing
had happened. Here the handler only sets a flag, and the exception is raised between two calls of
the compiled program, where the state is complete and can be saved.
"""

import signal
import threading
from types import FrameType


class Interrupt:
    """A context in which `check` raises the first Ctrl-C; a second Ctrl-C raises at once."""

    def __init__(self) -> None:
        self._requested = False

    def __enter__(self) -> "Interrupt":
        self._outer = signal.getsignal(signal.SIGINT)
        # Only the main thread may handle signals, and a program may have a handler of its own.
        self._handling = (
            threading.current_thread() is threading.main_thread()
            and self._outer is signal.default_int_handler
        )
        if self._handling:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handling:
            signal.signal(signal.SIGINT, self._outer)

    @property
    def requested(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._requested

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.requested:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
