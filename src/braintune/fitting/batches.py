"""Which scans make up each training step: a pure function of seed and epoch."""

import hashlib

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
