"""Whether samples are copies of training scans."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Distances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Nearest:
    """The training scan that is nearest to each of some scans.

    Attributes:
        row: Its row.
        distance: Root mean square difference to it.
        ratio: That distance over the distance to the second nearest: near 0 for a copy, near 1 for
            a scan that is like several.
    """

    row: npt.NDArray[np.intp]
    distance: Distances
    ratio: Distances


def nearest(
    scans: npt.NDArray[np.float32], training: npt.NDArray[np.float32], itself: bool = False
) -> Nearest:
    """Find the nearest training scan of each scan.

    Args:
        scans: From `coarse_rows`.
        training: From `coarse_rows`, at least two, or three with ``itself``.
        itself: Whether the scans are the training scans, none of which is its own neighbour.
    """
    squares = (
        (scans.astype(np.float64) ** 2).mean(1)[:, None]
        + (training.astype(np.float64) ** 2).mean(1)[None]
        - 2 * scans.astype(np.float64) @ training.T.astype(np.float64) / scans.shape[1]
    )
    distances = np.sqrt(squares.clip(0))
    if itself:
        np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1)[:, :2]
    two = np.take_along_axis(distances, order, axis=1)
    return Nearest(order[:, 0], two[:, 0], two[:, 0] / np.maximum(two[:, 1], 1e-12))


def copied(samples: Nearest, reference: Nearest) -> npt.NDArray[np.bool_]:
    """Which samples are suspiciously near to one training scan.

    A sample is, if its ratio is below that of every real scan of the reference.
    """
    return np.asarray(samples.ratio < reference.ratio.min())
