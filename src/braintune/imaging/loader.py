"""Batches of prepared scans, read ahead by a thread.

Reading is a copy out of the page cache, so processes would only add the cost of sending arrays
between them. One thread keeps the next batches ready; what it reads never depends on timing. The
batches' memory goes round: asking the system for fresh pages would take longer than the copy.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

_AHEAD = 3
# Copies of a batch that run at once: one core does not fill the memory bus.
_AT_ONCE = 2
Rows = Sequence[int] | npt.NDArray[np.intp]


class ScanSource(Protocol):
    """What scans are read from: a store, or the labelled scans of one."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of every scan: (channels, x, y, z)."""
        ...

    def read_into(self, scan_id: str, image: npt.NDArray[np.float16]) -> None:
        """Read a whole scan into memory that is there."""
        ...


class BatchLoader(Protocol):
    """Gives batches of scans, or of what was made of them, by row."""

    scan_ids: list[str]

    def batches(self, rows: Sequence[Rows], held: int = 1) -> Iterator[torch.Tensor]:
        """The batches of the given rows, in order; so many of them are looked at together."""
        ...


class ScanLoader:
    """Reads batches of scans from a store.

    Args:
        store: The prepared scans.
        scan_ids: The scans that rows number.
        pin: Whether to read into memory that a GPU can copy from by itself.

    Attributes:
        source: The prepared scans.
    """

    def __init__(self, store: ScanSource, scan_ids: Sequence[str], pin: bool = False) -> None:
        self.source = store
        self.scan_ids = list(scan_ids)
        self._pin = pin
        self._spare: list[torch.Tensor] = []

    def batches(self, rows: Sequence[Rows], held: int = 1) -> Iterator[torch.Tensor]:
        """The batches of the given rows, in order, read ahead by a thread.

        Args:
            rows: The rows of each batch.
            held: How many batches are looked at together. The memory of older ones is used again.

        Yields:
            Of shape (batch, channels, x, y, z), float16.
        """
        buffers = self._take(
            min(len(rows), _AHEAD + held), size=max((len(batch) for batch in rows), default=0)
        )
        free: queue.SimpleQueue[torch.Tensor | None] = queue.SimpleQueue()
        ready: queue.SimpleQueue[torch.Tensor | BaseException] = queue.SimpleQueue()
        for buffer in buffers:
            free.put(buffer)
        thread = threading.Thread(
            target=self._fill, args=(rows, free, ready), daemon=True, name="scan-loader"
        )
        thread.start()
        in_use: deque[torch.Tensor] = deque()
        try:
            for batch in rows:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                in_use.append(item)
                yield item[: len(batch)]
                if len(in_use) >= held:
                    free.put(in_use.popleft())
        finally:
            free.put(None)
            thread.join()
            self._spare += buffers

    def _fill(
        self,
        rows: Sequence[Rows],
        free: "queue.SimpleQueue[torch.Tensor | None]",
        ready: "queue.SimpleQueue[torch.Tensor | BaseException]",
    ) -> None:
        """What the thread does: read each batch into the next free memory, until told to stop."""
        try:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="scan-reader") as readers:
                for batch in rows:
                    buffer = free.get()
                    if buffer is None:
                        return
                    names = [self.scan_ids[row] for row in batch]
                    list(readers.map(self.source.read_into, names, buffer.numpy()))
                    ready.put(buffer)
        except BaseException as error:
            ready.put(error)

    def _take(self, count: int, size: int) -> list[torch.Tensor]:
        """Memory for some batches, from earlier ones where it is large enough."""
        fitting = [buffer for buffer in self._spare if len(buffer) >= size]
        self._spare = []
        shape = (size, *self.source.shape)
        while len(fitting) < count:
            fitting.append(torch.empty(shape, dtype=torch.float16, pin_memory=self._pin))
        return fitting[:count]
