"""How a scan, its mask and the template fit each other and the field of view."""

import numpy as np
import numpy.typing as npt

from braintune.imaging.nifti import Affine, spacing_of

Mask = npt.NDArray[np.bool_]


def dice(first: Mask, second: Mask) -> float:
    """Dice's overlap: twice what two masks share, for each voxel of both.

    Args:
        first: Of any shape.
        second: Of the same shape.

    Returns:
        1 for equal masks, 0 for masks that share nothing; NaN for two empty ones.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def similarity(scan: npt.NDArray[np.floating], template: npt.NDArray[np.floating]) -> float:
    """Normalised cross-correlation of intensities, whatever their levels and scales.

    Args:
        scan: The registered scan's intensities within the template's brain, of shape (voxels,).
        template: The template's at the same places.

    Returns:
        From −1 to 1; 0 where one of them is constant.

    Example:
        >>> similarity(np.array([1.0, 2, 3]), np.array([10.0, 20, 30]))
        1.0
    """
    if np.ptp(scan) == 0 or np.ptp(template) == 0:
        return 0.0
    a = scan.astype(np.float64) - scan.mean(dtype=np.float64)
    b = template.astype(np.float64) - template.mean(dtype=np.float64)
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def border_area(mask: Mask, affine: Affine) -> float:
    """How much of a mask lies on the faces of its grid: brain that the field of view cuts off.

    Args:
        mask: Of shape (x, y, z).
        affine: From its voxels to world millimetres, of shape (4, 4).

    Returns:
        Square centimetres.

    Example:
        >>> round(border_area(np.ones((10, 10, 10), bool), np.diag([10.0, 10, 10, 1])))
        600
    """
    spacing = spacing_of(affine)
    area = 0.0
    for axis in range(3):
        pixel = float(np.prod(np.delete(spacing, axis)))
        ends = {0, mask.shape[axis] - 1}
        # A grid of one slice has a face on either side of it.
        sides = 2 if len(ends) == 1 else 1
        area += sides * pixel * sum(int(np.take(mask, end, axis=axis).sum()) for end in ends)
    return area / 100
