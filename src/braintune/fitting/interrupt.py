"""Stopping at the next step when the user or the scheduler asks to."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from braintune.console import say


class StopRequest:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.wanted = False


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note Ctrl-C and SIGTERM instead of dying of them; a second Ctrl-C ends the process at once.

    SIGTERM is what batch systems send before they take a machine away.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if request.wanted:
            raise KeyboardInterrupt
        request.wanted = True
        say(f"{signal.Signals(number).name}: stopping after this step; once more to stop at once.")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
