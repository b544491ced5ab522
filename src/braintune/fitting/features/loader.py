"""Batches of activations in the place of batches of scans: read, or computed and kept."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from braintune.fitting.features.shelf import Shelf
from braintune.imaging.loader import Rows
from braintune.imaging.store import PreparedStore

# Bytes of activations that a loader holds in memory; the rest is read anew each time.
_IN_MEMORY = 2**28
# Scans that are computed at once: one by one, small scans take more than three times as long on
# processors. Always as many, so that the algorithm, and with it the rounding, is the same whichever
# scans are missing.
_AT_ONCE = 8


class ActivationLoader:
    """Gives what a frozen prefix makes of scans, each computed once by whoever needs it first.

    Args:
        store: The prepared scans.
        scan_ids: The scans that rows number.
        shelf: Where activations are kept.
        key: What they depend on beside the scan.
        compute: From images of shape (batch, channels, x, y, z) to activations (batch, ...).
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
        flat = [int(row) for batch in rows for row in batch]
        # What was computed ahead of its turn: memory or disk may have no room for it.
        ahead: dict[int, torch.Tensor] = {}
        place = 0
        for batch in rows:
            found = []
            for row in map(int, batch):
                one = ahead.pop(row, None)
                if one is None:
                    one = self.kept(row)
                if one is None:
                    ahead |= self._made(flat, place)
                    one = ahead.pop(row)
                found.append(one)
                place += 1
            yield torch.stack(found)

    def kept(self, row: int) -> torch.Tensor | None:
        """The activations of a scan, if they were computed before, here or elsewhere."""
        if row in self._held:
            return self._held[row]
        found = self._shelf.read(self._name(row))
        if found is not None:
            self._hold(row, found)
        return found

    def _made(self, rows: list[int], place: int) -> dict[int, torch.Tensor]:
        """The row at a place, and the next that are missing, computed and kept."""
        missing = [rows[place]]
        while len(missing) < _AT_ONCE and (place := place + 1) < len(rows):
            if rows[place] not in missing and self.kept(rows[place]) is None:
                missing.append(rows[place])
        images = torch.cat([self.image(row) for row in np.resize(missing, _AT_ONCE).tolist()])
        made = self._compute(images)[: len(missing)].cpu()
        found = dict(zip(missing, (one.clone() for one in made), strict=True))
        for row, one in found.items():
            self._shelf.write(self._name(row), one)
            self._hold(row, one)
        return found

    def _hold(self, row: int, activations: torch.Tensor) -> None:
        if self._bytes + activations.nbytes <= _IN_MEMORY:
            self._held[row] = activations
            self._bytes += activations.nbytes

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
