"""Batches of prepared scans, read ahead by a thread.

Reading is a copy out of the page cache, so processes would only add the cost of sending arrays
between them. One thread keeps the next batches ready; what it reads never depends on timing.
"""

import queue
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from braintune.imaging.store import PreparedStore

_AHEAD = 3
Rows = Sequence[int] | npt.NDArray[np.intp]


class ScanLoader:
    """Reads batches of scans from a store.

    Args:
        store: The prepared scans.
        scan_ids: The scans that rows number.
        pin: Whether to read into memory that a GPU can copy from by itself.
    """

    def __init__(self, store: PreparedStore, scan_ids: Sequence[str], pin: bool = False) -> None:
        self._store = store
        self.scan_ids = list(scan_ids)
        self._pin = pin

    def read(self, rows: Rows) -> torch.Tensor:
        """One batch, of shape (batch, channels, x, y, z), float16."""
        batch = torch.empty(
            (len(rows), *self._store.shape), dtype=torch.float16, pin_memory=self._pin
        )
        for into, row in zip(batch.numpy(), rows, strict=True):
            np.copyto(into, self._store.read(self.scan_ids[row]))
        return batch

    def batches(self, rows: Sequence[Rows]) -> Iterator[torch.Tensor]:
        """The batches of the given rows, in order, read ahead by a thread."""
        ready: queue.Queue[torch.Tensor | BaseException] = queue.Queue(_AHEAD)
        stop = threading.Event()

        def put(item: torch.Tensor | BaseException) -> bool:
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        def work() -> None:
            try:
                for batch in rows:
                    if not put(self.read(batch)):
                        return
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=work, daemon=True, name="scan-loader")
        thread.start()
        try:
            for _ in rows:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()
