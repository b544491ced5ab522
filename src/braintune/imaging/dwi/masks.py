"""The brain of a diffusion series: a mask that lies beside it, or one made of its b = 0 images."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from braintune.extras import import_extra
from braintune.imaging.intensity import Mask
from braintune.imaging.nifti import FloatArray, ScanError, Volume, read_volume

# Voxels of the median filter around each voxel: enough to join the brain, thin bridges being lost.
_MEDIAN_RADIUS = 2
_SAME_GRID_MM = 0.1


def brain_mask(unweighted: Volume, given: Path | None) -> Mask:
    """The brain's voxels.

    Args:
        unweighted: The mean b = 0 image.
        given: A mask on its grid, if there is one.

    Returns:
        An array of shape (x, y, z).

    Raises:
        ScanError: If the given mask can't be read, is empty, or is on another grid.
        InputError: If DIPY is not installed.
    """
    return _made(unweighted.data) if given is None else _read(given, unweighted)


def _made(unweighted: FloatArray) -> Mask:
    """DIPY's median and Otsu's threshold; of what is above, the largest piece, without holes."""
    segment = import_extra("dipy.segment.mask", "diffusion")
    # Fluid is several times as bright as tissue; without the root the threshold falls between them.
    root = np.sqrt(np.clip(unweighted, 0, None))
    if root.max() == root.min():
        return np.zeros(root.shape, dtype=bool)
    _, above = segment.median_otsu(root, median_radius=_MEDIAN_RADIUS, numpass=1)
    pieces, count = ndimage.label(above)
    if not count:
        return np.zeros(unweighted.shape, dtype=bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(ndimage.binary_fill_holes(pieces == sizes.argmax()))


def _read(path: Path, unweighted: Volume) -> Mask:
    volume = read_volume(path)
    apart = np.abs(volume.affine - unweighted.affine).max()
    if volume.data.shape != unweighted.data.shape or apart > _SAME_GRID_MM:
        msg = (
            f"{path} is on another grid than the series beside it: {volume.data.shape} voxels"
            f" instead of {unweighted.data.shape}, or another affine. Remove or resample it."
        )
        raise ScanError("mask", msg)
    mask = volume.data > 0.5
    if not mask.any():
        raise ScanError("mask", f"{path} is an empty mask. Remove or make it again.")
    return mask
