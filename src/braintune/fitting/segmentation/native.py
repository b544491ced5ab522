"""From probabilities on the network's lattice to a clean label map on the scan's own voxels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, resample
from braintune.imaging.label_maps import Labels
from braintune.imaging.nifti import FloatArray, Volume, spacing_of

Chances = npt.NDArray[np.float32]
_HALF = np.float32(0.5)
# Voxels that touch by a corner are connected.
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class CleanUp:
    """What is taken away from a label map, of each label for itself.

    Attributes:
        largest: Whether only the largest connected part stays.
        smallest: Parts below this volume go, in mm³.
    """

    largest: bool
    smallest: float


def to_native(chances: Chances, grid: Grid, native: Grid) -> Chances:
    """Bring probabilities to a scan's own voxels.

    Args:
        chances: Of shape (classes, x, y, z) on ``grid``; class 0 is the background.
        grid: The network's lattice.
        native: The scan's own grid.

    Returns:
        Of shape (classes, x, y, z) on the scan's grid; what lies outside of ``grid`` is background.
    """
    result = np.empty((len(chances), *native.shape), dtype=np.float32)
    for number, moved in _structures(chances, grid, native):
        result[number] = moved
    result[0] = 1 - result[1:].sum(axis=0)
    return result


def decide(chances: Chances, grid: Grid, native: Grid) -> Labels:
    """The likeliest class of each of a scan's own voxels, one class at a time.

    The same as deciding on what `to_native` gives, without memory for all classes at once.

    Args:
        chances: Of shape (classes, x, y, z) on ``grid``; class 0 is the background.
        grid: The network's lattice.
        native: The scan's own grid.
    """
    labels = np.zeros(native.shape, dtype=np.uint8)
    best = np.zeros(native.shape, dtype=np.float32)
    total = np.zeros(native.shape, dtype=np.float32)
    for number, moved in _structures(chances, grid, native):
        total += moved
        labels[moved > best] = number
        np.maximum(best, moved, out=best)
    labels[1 - total >= best] = 0
    return labels


def _structures(chances: Chances, grid: Grid, native: Grid) -> Iterator[tuple[int, FloatArray]]:
    """Each class but the background on a scan's own voxels."""
    # Resampling to thicker voxels loses a little at the edges, of everything alike.
    inside = resample(Volume(np.ones(grid.shape, dtype=np.float32), grid.affine), native)
    np.maximum(inside, _HALF, out=inside)
    for number in range(1, len(chances)):
        yield number, resample(Volume(chances[number], grid.affine), native) / inside


def cleaned(labels: Labels, affine: npt.NDArray[np.float64], clean_up: CleanUp) -> Labels:
    """A label map without small or stray parts.

    Args:
        labels: Of shape (x, y, z).
        affine: From its voxels to millimetres.
        clean_up: What is taken away.

    Example:
        >>> labels = np.zeros((9, 3, 3), dtype=np.uint8)
        >>> labels[0:3, 1, 1], labels[6:8, 1, 1], labels[8, 0, 0] = 1, 1, 2
        >>> cleaned(labels, np.eye(4), CleanUp(largest=True, smallest=2.0)).sum()
        np.uint64(3)
    """
    if not clean_up.largest and not clean_up.smallest:
        return labels
    voxel = float(np.prod(spacing_of(affine)))
    result = labels.copy()
    boxes = ndimage.find_objects(labels)
    for label, box in enumerate(boxes, start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == label, structure=_NEIGHBOURS)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        kept = sizes * voxel >= clean_up.smallest
        if clean_up.largest:
            kept &= np.arange(count) == sizes.argmax()
        gone = ~np.concatenate([[True], kept])[parts]
        result[box][gone] = 0
    return result
