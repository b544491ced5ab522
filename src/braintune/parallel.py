"""Many independent pieces of work over processes, in order of completion, with progress."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from braintune.console import progress
from braintune.errors import BraintuneError, InputError

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Processor cores that this process may use, which on a cluster are fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_parallel(
    title: str,
    work: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Apply a function to every item, several at once, and yield each result as it comes.

    Args:
        title: What the progress says.
        work: A function that can be pickled and that catches the errors it wants to report.
        items: What it is applied to.
        workers: Processes; by default as many as there are cores. With one, none is started.

    Raises:
        BraintuneError: If a process was killed, most often for want of memory.
    """
    workers = min(workers or available_cores(), len(items))
    with progress(title, len(items)) as bar:
        if workers <= 1:
            for item in items:
                yield item, work(item)
                bar.advance()
            return
        for item, result in _spread(work, items, workers):
            yield item, result
            bar.advance()


def _spread(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result]]:
    # A fresh interpreter a worker: forking a process that runs torch's threads can hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    waiting: dict[Future[Result], Item] = {}
    source = iter(items)
    try:
        # A bounded queue keeps memory flat however many items there are.
        for item in islice(source, 4 * workers):
            waiting[pool.submit(work, item)] = item
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                item = waiting.pop(future)
                yield item, future.result()
            for item in islice(source, len(done)):
                waiting[pool.submit(work, item)] = item
    except BrokenProcessPool:
        msg = "A worker process was killed, most often for want of memory. Try fewer --workers."
        raise BraintuneError(msg) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    """Keep numerical libraries to one thread a process, or they fight over the cores."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"


def check_workers(workers: int | None) -> None:
    """Refuse a number of workers that makes no sense.

    Raises:
        InputError: If it is below one.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, not {workers}.")
