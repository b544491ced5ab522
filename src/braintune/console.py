"""What long work shows: a live bar on a terminal, plain log lines elsewhere; all on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol


class Progress(Protocol):
    """Counts steps of long work for whoever watches."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps as done; the note is shown beside the bar, such as ``loss 0.31``."""
        ...

    def skip(self, steps: int) -> None:
        """Count steps that an earlier session did, which tell nothing of the time left."""
        ...


def say(message: str) -> None:
    """Tell the user something, on standard error."""
    sys.stderr.write(message.rstrip("\n") + "\n")
    sys.stderr.flush()


@contextmanager
def progress(title: str, total: int) -> Iterator[Progress]:
    """Show the progress of ``total`` steps with the time left.

    Example:
        >>> with progress("Reading", 2) as bar:
        ...     bar.advance(2)
    """
    if sys.stderr.isatty():
        with _live_bar(title, total) as bar:
            yield bar
    else:
        log = _LogLines(title, total)
        yield log
        log.finish()


@contextmanager
def _live_bar(title: str, total: int) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    # On a narrow terminal the note is cut, and the numbers stay whole.
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        TextColumn(
            "{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        ),
    )
    with Progress(*columns, console=Console(stderr=True), expand=True) as rich_progress:
        task = rich_progress.add_task(title, total=total, note="left")

        class Bar:
            def advance(self, steps: int = 1, note: str = "") -> None:
                if note:
                    rich_progress.update(task, note=f"left, {note}")
                rich_progress.advance(task, steps)
                if rich_progress.finished:
                    rich_progress.update(task, note="taken")

            def skip(self, steps: int) -> None:
                rich_progress.update(task, completed=rich_progress.tasks[task].completed + steps)

        yield Bar()


class _LogLines:
    """Plain lines, at most one each ten seconds, for logs and batch systems."""

    interval = 10.0

    def __init__(self, title: str, total: int) -> None:
        self._title = title
        self._total = total
        self._done = self._skipped = 0
        self._note = ""
        self._start = self._last = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = note or self._note
        now = time.monotonic()
        if now - self._last >= self.interval:
            self._last = now
            elapsed = now - self._start
            pace = elapsed / max(self._done - self._skipped, 1)
            left = pace * max(self._total - self._done, 0)
            say(f"{self._line()}, {_clock(left)} left")

    def skip(self, steps: int) -> None:
        self._done += steps
        self._skipped += steps

    def finish(self) -> None:
        say(f"{self._line()}, took {_clock(time.monotonic() - self._start)}")

    def _line(self) -> str:
        note = f" {self._note}" if self._note else ""
        return f"{self._title}: {self._done}/{self._total}{note}"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
