"""The MNI152 brain that heads are brought to, at any voxel size; it comes with nilearn."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, ras_grid, resample
from braintune.imaging.nifti import FloatArray, Volume

Mask = npt.NDArray[np.bool_]
# The middle of the box of 182 x 218 x 182 mm that is in use for MNI152, in its own millimetres.
MIDDLE = (0.0, -18.0, 18.0)
# What the maps reach over, in millimetres: the brain and all that registration looks at around it.
_EXTENT, _EXTENT_MIDDLE = (176.0, 216.0, 192.0), (0.0, -18.0, 7.0)
_SURE = 0.8


@dataclass(frozen=True)
class Template:
    """The template on one grid.

    Attributes:
        grid: Where its voxels lie, in MNI millimetres.
        t1: T1-weighted intensities, 0 outside the brain and white matter near 0.9, of shape
            (x, y, z).
        share: How much of each voxel is brain, from 0 to 1.
        brain: Voxels that are brain for the larger part.
        outside: Distance to the brain in millimetres, 0 within it.
        white: Voxels that are white matter for sure.
    """

    grid: Grid
    t1: FloatArray
    share: FloatArray
    brain: Mask
    outside: FloatArray
    white: Mask


@lru_cache(maxsize=1)
def _whole() -> tuple[Volume, Volume, Volume]:
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    affine = np.asarray(image.affine, dtype=np.float64)
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    t1 = np.where(brain, np.asarray(image.dataobj, dtype=np.float32), 0).astype(np.float32)
    white = np.asarray(datasets.load_mni152_wm_template(resolution=1).dataobj, dtype=np.float32)
    return Volume(t1, affine), Volume(brain.astype(np.float32), affine), Volume(white, affine)


@lru_cache(maxsize=4)
def template_at(spacing: float) -> Template:
    """The template on a grid of cubes.

    Args:
        spacing: Their edge in millimetres, 1 or more.
    """
    x, y, z = (int(np.ceil(length / spacing)) for length in _EXTENT)
    grid = ras_grid((x, y, z), spacing, np.array(_EXTENT_MIDDLE))
    t1, share, white = (resample(volume, grid) for volume in _whole())
    brain = share > 0.5
    outside = ndimage.distance_transform_edt(~brain) * spacing
    return Template(grid, t1, share, brain, outside.astype(np.float32), brain & (white > _SURE))


def template_on(grid: Grid) -> tuple[FloatArray, FloatArray]:
    """Intensities of the template, and the share of each voxel that is brain, on another grid."""
    t1, share, _ = _whole()
    return resample(t1, grid), resample(share, grid)
