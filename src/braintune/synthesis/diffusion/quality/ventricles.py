"""Volume of the ventricles of a T1-like brain in MNI space, without a network."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, resample
from braintune.imaging.nifti import Affine, FloatArray, Volume, spacing_of
from braintune.synthesis.anatomy import mni152

# How far ventricles may have grown beyond the template's, and how thick the tissue around is that
# their darkness is compared with, in millimetres.
_GROWN_MM, _SHELL_MM = 6.0, 6.0
# The places are drawn on a grid of this many millimetres; a coarser one ranks brains worse.
_DRAWN_MM = 2
Mask = npt.NDArray[np.bool_]


def ventricular_ml(image: FloatArray, affine: Affine) -> float:
    """Volume of dark fluid near the template's ventricles, in millilitres.

    Within a widened mask of the template's ventricles, a voxel counts by how much nearer its
    intensity is to 0, which fluid has, than to half of that of the tissue around; so voxels that
    are partly fluid count partly. It ranks brains that are aligned with MNI152; it is no
    segmentation, and knows nothing of the volumes that a table holds.

    Args:
        image: T1-weighted intensities, 0 in fluid and outside the brain, of shape (x, y, z).
        affine: From voxels to MNI millimetres, of shape (4, 4).

    Returns:
        NaN where the scan does not cover the place.
    """
    near, around = _places(image.shape, tuple(np.asarray(affine).ravel().tolist()))
    if not near.any() or not around.any():
        return float("nan")
    tissue = max(float(np.median(image[around])), 1e-6)
    fluid = np.clip(1 - 2 * image[near] / tissue, 0, 1)
    return float(fluid.sum() * np.prod(spacing_of(np.asarray(affine))) / 1000)


@lru_cache(maxsize=4)
def _places(shape: tuple[int, int, int], affine: tuple[float, ...]) -> tuple[Mask, Mask]:
    """Where ventricles may be, and where tissue is around, on a grid."""
    anatomy = mni152(_DRAWN_MM)
    distance = ndimage.distance_transform_edt(anatomy.regions["ventricles"] < 0.5) * _DRAWN_MM
    near = distance <= _GROWN_MM
    around = ~near & (distance <= _GROWN_MM + _SHELL_MM)
    grid = Grid(shape, np.array(affine).reshape(4, 4))
    first, second = (
        resample(Volume(mask.astype(np.float32), anatomy.affine), grid) > 0.5
        for mask in (near, around)
    )
    return first, second
