"""What scans are measured against: the MNI152 brain of nilearn, its mask and its tissues."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from braintune.imaging.grid import Grid
from braintune.imaging.nifti import FloatArray

Mask = npt.NDArray[np.bool_]
SPACING = 2
# A voxel is of a tissue for sure where the template's map says so in four of five people.
_SURE = 0.8


@dataclass(frozen=True)
class Template:
    """A brain in MNI152 space, all maps on one grid of 2 mm.

    Attributes:
        grid: Where the voxels lie, in MNI millimetres.
        t1: T1-weighted intensities, 0 outside the brain, of shape (x, y, z).
        brain: The brain.
        gray: Voxels that are grey matter for sure.
        white: Voxels that are white matter for sure.
    """

    grid: Grid
    t1: FloatArray
    brain: Mask
    gray: Mask
    white: Mask


@lru_cache(maxsize=1)
def quality_template() -> Template:
    """The template; it comes with nilearn, so nothing is downloaded."""
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=SPACING)
    t1 = np.asarray(image.dataobj, dtype=np.float32)
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=SPACING).dataobj) > 0
    gray = np.asarray(datasets.load_mni152_gm_template(resolution=SPACING).dataobj)
    white = np.asarray(datasets.load_mni152_wm_template(resolution=SPACING).dataobj)
    x, y, z = t1.shape
    return Template(
        grid=Grid((x, y, z), np.asarray(image.affine, dtype=np.float64)),
        t1=np.where(brain, t1, 0),
        brain=brain,
        gray=brain & (gray > _SURE),
        white=brain & (white > _SURE),
    )
