"""How far two masks' surfaces are apart, in millimetres, whatever the voxels' form.

A mask's surface are its voxels that touch, by a face, a voxel outside of it; what is beyond the
image is outside. Distances go from the centres of one surface's voxels to the nearest of the
other's. So do MONAI's, with which the numbers agree.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
PERCENTILE = 95.0


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances of two surfaces.

    Attributes:
        there: From each voxel of the first surface to the second, in millimetres.
        back: From each voxel of the second to the first.
    """

    there: npt.NDArray[np.float64]
    back: npt.NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """The 95th percentile of the distances each way, the larger of the two.

        The robust Hausdorff distance, not the maximum. Infinite if one mask is empty, NaN if both.
        """
        if not len(self.there) + len(self.back):
            return float("nan")
        if not len(self.there) or not len(self.back):
            return float("inf")
        return float(max(np.percentile(way, PERCENTILE) for way in (self.there, self.back)))

    @property
    def average(self) -> float:
        """The average symmetric surface distance: the mean over both surfaces' voxels.

        Infinite if one mask is empty, NaN if both.
        """
        if not len(self.there) + len(self.back):
            return float("nan")
        return float(np.concatenate([self.there, self.back]).mean())

    def within(self, tolerance: float) -> float:
        """The normalised surface Dice (Nikolov et al. 2018, arXiv 1809.04430), by counting voxels.

        Args:
            tolerance: The distance, in millimetres, that counts as no difference.

        Returns:
            The share of both surfaces' voxels that lie so near to the other; 1 if both masks are
            empty, 0 if one is.
        """
        both = np.concatenate([self.there, self.back])
        return float((both <= tolerance).mean()) if len(both) else 1.0


def surface_distances(first: Mask, second: Mask, spacing: Spacing) -> SurfaceDistances:
    """The distances between the surfaces of two masks on one grid.

    Args:
        first: Of shape (x, y, z).
        second: Of the same shape.
        spacing: Voxel size along each axis, in millimetres.

    Example:
        >>> first, second = np.zeros((2, 1, 9, 3), dtype=bool)
        >>> first[0, 2, 1] = second[0, 6, 1] = True
        >>> surface_distances(first, second, (1.0, 0.5, 1.0)).hd95
        2.0
    """
    ours, theirs = surface(first) * np.array(spacing), surface(second) * np.array(spacing)
    return SurfaceDistances(_nearest(ours, theirs), _nearest(theirs, ours))


def surface(mask: Mask) -> npt.NDArray[np.intp]:
    """Indices of the voxels of a mask's surface, of shape (voxels, 3)."""
    if not mask.any():
        return np.empty((0, 3), dtype=np.intp)
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    inner = mask[box]
    found = np.argwhere(inner & ~ndimage.binary_erosion(inner))
    return found + np.array([part.start for part in box])


def _nearest(
    points: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """From each point to the nearest of the others; infinity if there is none."""
    if not len(others) or not len(points):
        return np.full(len(points), np.inf)
    return np.asarray(KDTree(others).query(points)[0], dtype=np.float64)
