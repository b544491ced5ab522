"""Batches of activations in the place of batches of scans: read, or computed and kept."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from braintune.fitting.features.shelf import Shelf
from braintune.imaging.loader import Rows
from braintune.imaging.store import PreparedStore

# Bytes of activations that a loader holds in memory; the rest is read anew each time.
_IN_MEMORY = 2**28


class ActivationLoader:
    """Gives what a frozen prefix makes of scans, each computed once by whoever needs it first.

    A scan is computed alone, so that its activations do not depend on which others are missing.

    Args:
        store: The prepared scans.
        scan_ids: The scans that rows number.
        shelf: Where activations are kept.
        key: What they depend on beside the scan.
        compute: From images of shape (1, channels, x, y, z) to activations of shape (1, ...).
        mirrored: Whether the scans are mirrored, left to right.

    Attributes:
        key: As given.
    """

    def __init__(
        self,
        store: PreparedStore,
        scan_ids: Sequence[str],
        shelf: Shelf,
        key: str,
        compute: Callable[[torch.Tensor], torch.Tensor],
        *,
        mirrored: bool = False,
    ) -> None:
        self._store, self.scan_ids = store, list(scan_ids)
        self._shelf, self.key, self._compute = shelf, key, compute
        self._mirrored = mirrored
        self._names: dict[int, str] = {}
        self._held: dict[int, torch.Tensor] = {}
        self._bytes = 0

    def batches(self, rows: Sequence[Rows], held: int = 1) -> Iterator[torch.Tensor]:
        """The activations of the given rows, in order.

        Args:
            rows: The rows of each batch.
            held: How many batches are looked at together; each has memory of its own here.

        Yields:
            Of shape (batch, ...), in the number format that they were computed in.
        """
        del held
        for batch in rows:
            yield torch.stack([self.one(int(row)) for row in batch])

    def one(self, row: int) -> torch.Tensor:
        """The activations of one scan."""
        if row in self._held:
            return self._held[row]
        name = self._name(row)
        found = self._shelf.read(name)
        if found is None:
            found = self._compute(self.image(row)).detach()[0].cpu()
            self._shelf.write(name, found)
        if self._bytes + found.nbytes <= _IN_MEMORY:
            self._held[row] = found
            self._bytes += found.nbytes
        return found

    def is_kept(self, row: int) -> bool:
        """Whether a scan's activations were computed before, here or elsewhere."""
        return self._shelf.read(self._name(row)) is not None

    def image(self, row: int) -> torch.Tensor:
        """A scan, of shape (1, channels, x, y, z), float16."""
        image = np.empty(self._store.shape, dtype=np.float16)
        self._store.read_into(self.scan_ids[row], image)
        scan = torch.from_numpy(image)[None]
        return scan.flip(2) if self._mirrored else scan

    def _name(self, row: int) -> str:
        if row not in self._names:
            voxels = self._store.facts(self.scan_ids[row]).voxels
            self._names[row] = f"{self.key}/{voxels[:32]}{'-mirrored' if self._mirrored else ''}"
        return self._names[row]
