"""Fits on other machines: a Dask scheduler that is there, or jobs of SLURM, PBS or SGE.

One fit is one task. A worker that dies has its fits done elsewhere, from their last checkpoint.
What is done is known by the files of the study alone, so nothing is scored twice.
"""

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from braintune.errors import BraintuneError, InputError, InterruptedFitError
from braintune.extras import import_extra
from braintune.studies.recipe import ClusterRecipe
from braintune.studies.work import Order, processor_threads, run_order
from braintune.studies.workers import INTERRUPTED, KILLED, Ended

_CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
_alone = threading.Lock()


class DaskWorkers:
    """Workers of a Dask scheduler.

    Args:
        client: Connected to it.
        cluster: What the study started itself and ends with it, if anything.
        threads: Of a fit; 0 leaves them to the worker's own settings.
    """

    def __init__(self, client: Any, cluster: Any = None, threads: int = 0) -> None:
        self._client, self._cluster, self._threads = client, cluster, threads
        self._orders: dict[str, tuple[Order, Any]] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sent = 0
        self._is_stopping = False

    @property
    def slots(self) -> int:
        """Twice what the workers can do at once, so that none waits for its next fit."""
        with _connected():
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return max(8, 2 * len(workers))

    def submit(self, order: Order) -> None:
        """Send a fit to the scheduler."""
        self._sent += 1
        key = f"fit-{order.fit.id}-{self._sent}"
        with _connected():
            future = self._client.submit(run_alone, order, self._threads, key=key, pure=False)
        self._orders[key] = (order, future)
        future.add_done_callback(self._ended.put)

    def wait(self) -> Sequence[Ended]:
        """The next fit that came back.

        Raises:
            BraintuneError: If the scheduler is gone.
        """
        try:
            future = self._ended.get(timeout=1.0)
        except queue.Empty:
            if self._client.status != "running":
                raise _gone() from None
            return []
        if future.key not in self._orders:  # it ended while it was taken back
            return []
        order, _ = self._orders.pop(future.key)
        if future.status == "finished":
            with _connected():
                reason = future.result()
            return [Ended(order, "failed" if reason else "done", reason)]
        if future.status != "error":
            raise _gone()
        with _connected():
            error = future.exception()
        if isinstance(error, InterruptedFitError):
            return [Ended(order, INTERRUPTED)]
        return [Ended(order, KILLED, f"its worker died ({type(error).__name__})")]

    def stop(self) -> None:
        """Take back what waits; what runs writes its last checkpoint by itself."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for key, (_, future) in self._orders.items():
            self._client.cancel(future, force=True)
            self._ended.put(_Stopped(key))

    def close(self) -> None:
        """Part from the scheduler, and end what the study started."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def run_alone(order: Order, threads: int) -> str | None:
    """Do a fit as the only one of its process, which may have threads for several."""
    with _alone:
        if threads:
            processor_threads(threads)
        return run_order(order)


def connected_workers(address: str) -> DaskWorkers:
    """The workers of a scheduler that is there.

    Raises:
        InputError: If nothing answers.
    """
    distributed = import_extra("distributed", "cluster")
    try:
        client = distributed.Client(address, timeout="10s", set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        msg = f"No Dask scheduler answers at {address} ({error}). Start one with 'dask scheduler'."
        raise InputError(msg) from None
    return DaskWorkers(client)


def batch_workers(system: str, recipe: ClusterRecipe, jobs: int | None = None) -> DaskWorkers:
    """Workers that are jobs of a batch system, as many as there is work for."""
    cluster = batch_cluster(system, recipe)
    distributed = import_extra("distributed", "cluster")
    cluster.adapt(minimum_jobs=0, maximum_jobs=jobs or recipe.jobs)
    client = distributed.Client(cluster, set_as_default=False)
    return DaskWorkers(client, cluster, recipe.cores)


def batch_cluster(system: str, recipe: ClusterRecipe) -> Any:
    """What submits the jobs; ``job_script()`` shows what it submits."""
    jobqueue = import_extra("dask_jobqueue", "cluster")
    folder = recipe.folder
    return getattr(jobqueue, _CLASSES[system])(
        queue=recipe.queue,
        **{"project" if system == "sge" else "account": recipe.account},
        cores=recipe.cores,
        processes=1,
        memory=recipe.memory,
        walltime=recipe.walltime,
        job_extra_directives=recipe.directives,
        job_script_prologue=recipe.prologue,
        local_directory=folder,
        log_directory=None if folder is None else str(Path(folder) / "logs"),
        # One fit at a time: the cores of a job are the fit's.
        worker_extra_args=["--nthreads", "1"],
    )


class _Stopped:
    """Stands for a future that was taken back."""

    status = "error"

    def __init__(self, key: str) -> None:
        self.key = key

    def exception(self) -> BaseException:
        """As a fit says it."""
        return InterruptedFitError("stopped")


@contextmanager
def _connected() -> Iterator[None]:
    """Say in words that a scheduler went away in the middle of a call.

    Raises:
        BraintuneError: If it did.
    """
    try:
        yield
    except (OSError, asyncio.CancelledError) as error:
        raise _gone() from error


def _gone() -> BraintuneError:
    return BraintuneError("The Dask scheduler is gone. The same command goes on from here.")
