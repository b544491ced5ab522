"""Where fits run: processes of this machine, each doing one fit at a time.

Each process has a pipe of its own, so that it is known which fit a killed process was at.
"""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from braintune.errors import InterruptedFitError
from braintune.fitting.interrupt import StopRequest, stop_on_signals
from braintune.studies.work import Order, processor_threads, run_order

INTERRUPTED = "interrupted"
KILLED = "killed"


@dataclass(frozen=True)
class Ended:
    """How a fit came back.

    Attributes:
        order: The fit.
        how: ``"done"``, ``"failed"``, ``"interrupted"`` or ``"killed"``.
        reason: What went wrong, if something did.
    """

    order: Order
    how: str
    reason: str | None = None


class Workers(Protocol):
    """Processes, here or elsewhere, that do fits."""

    @property
    def slots(self) -> int:
        """Fits that may be under way or waiting at once."""
        ...

    def submit(self, order: Order) -> None:
        """Have a fit done."""
        ...

    def wait(self) -> Sequence[Ended]:
        """The next fits that came back, after at most a second."""
        ...

    def stop(self) -> None:
        """Ask all fits to end where they can go on."""
        ...

    def close(self) -> None:
        """Give the processes back."""
        ...


class InlineWorker:
    """This very process, where one fit at a time is enough."""

    slots = 1

    def __init__(self) -> None:
        self._orders: list[Order] = []

    def submit(self, order: Order) -> None:
        """Note a fit, which `wait` does."""
        self._orders.append(order)

    def wait(self) -> Sequence[Ended]:
        """Do a fit.

        Raises:
            InterruptedFitError: If someone asked to stop.
        """
        order = self._orders.pop()
        with stop_on_signals() as stop:
            reason = run_order(order, stop)
        return [Ended(order, "failed" if reason else "done", reason)]

    def stop(self) -> None:
        """A fit that runs here was asked already."""

    def close(self) -> None:
        """There is nothing to give back."""


class LocalWorkers:
    """Processes of this machine.

    Args:
        count: How many.
        threads: Of each.
        gpus: How many GPUs the processes share, each using one.
    """

    def __init__(self, count: int, threads: int = 1, gpus: int = 0) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._threads, self._gpus = threads, gpus
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Order]] = {}
        self._count = count
        self._started = 0

    @property
    def slots(self) -> int:
        """As many as there are processes."""
        return self._count

    def submit(self, order: Order) -> None:
        """Give a fit to an idle process, or to a new one."""
        process = self._idle.pop() if self._idle else self._start()
        process.pipe.send(order)
        self._busy[process.pipe] = (process, order)

    def wait(self) -> Sequence[Ended]:
        """The fits that came back, or whose process died."""
        ended = []
        for pipe in wait(list(self._busy), timeout=1.0):
            assert isinstance(pipe, Connection)
            process, order = self._busy.pop(pipe)
            try:
                how, reason = pipe.recv()
            except (EOFError, ConnectionResetError):
                process.worker.join()
                ended.append(Ended(order, KILLED, f"its process ended with {process.exit}"))
                continue
            self._idle.append(process)
            ended.append(Ended(order, how, reason))
        return ended

    def stop(self) -> None:
        """Ask all fits to write a checkpoint and end."""
        self._stop.set()

    def close(self) -> None:
        """End the idle processes, and those that are still at a fit."""
        for process in self._idle:
            process.pipe.close()
        for process, _ in self._busy.values():
            process.worker.terminate()
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.worker.join()

    def _start(self) -> "_Process":
        ours, theirs = self._context.Pipe()
        gpu = self._started % self._gpus if self._gpus else None
        self._started += 1
        worker = self._context.Process(
            target=serve, args=(theirs, self._stop, self._threads, gpu), daemon=True
        )
        worker.start()
        theirs.close()
        return _Process(worker, ours)


@dataclass(frozen=True)
class _Process:
    worker: Any
    pipe: Connection

    @property
    def exit(self) -> str:
        code = self.worker.exitcode
        return signal.Signals(-code).name if code < 0 else f"status {code}"


class _Watch(StopRequest):
    """Stops a fit when the study says so, or is no longer there."""

    def __init__(self, stop: Any) -> None:
        self._stop, self._parent = stop, os.getppid()

    @property
    def wanted(self) -> bool:  # type: ignore[override]
        """Whether to stop."""
        return bool(self._stop.is_set()) or os.getppid() != self._parent


def serve(pipe: Connection, stop: Any, threads: int, gpu: int | None) -> None:
    """Do the fits that come through a pipe, until it is closed."""
    # Ctrl-C reaches every process of the terminal; the study tells its own to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    processor_threads(threads)
    watch = _Watch(stop)
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        try:
            reason = run_order(order, watch)
            answer = ("failed" if reason else "done", reason)
        except InterruptedFitError:
            answer = (INTERRUPTED, None)
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
