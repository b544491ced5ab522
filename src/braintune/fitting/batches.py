"""Which scans make up each training step: a pure function of seed and epoch."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


def derive_seed(*parts: int | str) -> int:
    """A seed that depends on all parts, and on their order.

    Example:
        >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
        (True, False)
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in a pass over the scans; one where there are fewer scans than that."""
    return max(1, count // batch_size)


def epoch_rows(rows: Rows, strata: npt.NDArray[np.int64], balanced: bool, seed: int) -> Rows:
    """The order of the scans in an epoch.

    Args:
        rows: The training rows.
        strata: The stratum of each of them.
        balanced: Draw every stratum as often as the others, with replacement, instead of a
            permutation.
        seed: Of the epoch.
    """
    random = np.random.default_rng(seed)
    if not balanced:
        return random.permutation(rows)
    present, index, counts = np.unique(strata, return_inverse=True, return_counts=True)
    chance = 1 / (len(present) * counts[index])
    return random.choice(rows, size=len(rows), replace=True, p=chance)


def stratum_weights(strata: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """A weight a stratum, inversely to its size, 1 on average over the scans.

    Example:
        >>> stratum_weights(np.array([0, 0, 0, 1])).round(2).tolist()
        [0.67, 2.0]
    """
    counts = np.bincount(strata)
    present = (counts > 0).sum()
    return np.where(counts > 0, len(strata) / (present * np.maximum(counts, 1)), 0.0)


@dataclass(frozen=True)
class Share:
    """What one process takes of a batch.

    Attributes:
        rows: The scans.
        partners: The scan that each may be mixed with, of the same batch.
    """

    rows: Rows
    partners: Rows

    @property
    def loaded(self) -> Rows:
        """All scans that are needed, each once, those of `rows` first.

        Example:
            >>> Share(np.array([3, 5]), np.array([8, 3])).loaded.tolist()
            [3, 5, 8]
        """
        known = set(self.rows.tolist())
        new = dict.fromkeys(row for row in self.partners.tolist() if row not in known)
        return np.concatenate([self.rows, np.array(list(new), dtype=self.rows.dtype)])

    @property
    def own(self) -> list[int]:
        """Where the scans are among `loaded`."""
        return list(range(len(self.rows)))

    @property
    def others(self) -> list[int]:
        """Where their partners are among `loaded`."""
        place = {row: index for index, row in enumerate(self.loaded.tolist())}
        return [place[row] for row in self.partners.tolist()]


def share_batch(batch: Rows, seed: int | None, rank: int, world: int) -> Share:
    """What a process takes of a batch.

    Partners are dealt over the whole batch, so that several processes mix what one would.

    Args:
        batch: All scans of the batch.
        seed: Of the partners; None gives each scan itself.
        rank: The process.
        world: How many processes there are.

    Example:
        >>> share_batch(np.array([3, 5, 8, 9]), None, 1, 2).rows.tolist()
        [5, 9]
    """
    partners = batch if seed is None else np.random.default_rng(seed).permutation(batch)
    return Share(batch[rank::world], partners[rank::world])
