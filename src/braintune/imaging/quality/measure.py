"""All measures of one scan, from the scan, its brain mask and its transform to the template."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid, resample, resample_labels
from braintune.imaging.nifti import Affine, FloatArray, Volume
from braintune.imaging.quality.agreement import border_area, dice, similarity
from braintune.imaging.quality.signal import cnr, fber, head_and_air, snr
from braintune.imaging.quality.template import Template

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Quality:
    """The measures of one scan; what could not be told is NaN.

    Attributes:
        snr: White matter's level for each standard deviation of it (`signal.snr`).
        cnr: Contrast between grey and white matter for each standard deviation (`signal.cnr`).
        fber: Energy in the head for each in the air (`signal.fber`).
        brain_ml: Volume of the brain mask in millilitres, in the scan's own space.
        template_dice: Overlap of the registered mask with the template's (`agreement.dice`).
        similarity: Correlation with the template within its brain (`agreement.similarity`).
        border_cm2: Area of the mask on the faces of the scan's grid (`agreement.border_area`).
    """

    snr: float
    cnr: float
    fber: float
    brain_ml: float
    template_dice: float
    similarity: float
    border_cm2: float


def measure(volume: Volume, mask: Mask, to_template: Affine, template: Template) -> Quality:
    """Measure one scan.

    Args:
        volume: The scan in its own space.
        mask: Its brain, of the same shape.
        to_template: From the scan's world millimetres to the template's, of shape (4, 4).
        template: What it is compared with.
    """
    moved = np.asarray(to_template @ volume.affine)
    # The nearest voxel, not a mean of eight, whose noise would depend on the voxel size.
    plain = _nearest(volume.data, moved, template.grid)
    found = resample_labels(mask.astype(np.uint8), _grid(mask.shape, moved), template.grid) > 0
    smooth = resample(Volume(volume.data, moved), template.grid)
    gray, white = plain[template.gray & found], plain[template.white & found]
    head, air = head_and_air(volume)
    voxel_ml = abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000
    return Quality(
        snr=snr(white),
        cnr=cnr(gray, white, air),
        fber=fber(head, air),
        brain_ml=float(mask.sum()) * voxel_ml,
        template_dice=dice(found, template.brain),
        similarity=similarity(smooth[template.brain], template.t1[template.brain]),
        border_cm2=border_area(mask, volume.affine),
    )


def _nearest(data: FloatArray, affine: Affine, grid: Grid) -> FloatArray:
    """The value of the nearest voxel at each point of a grid, 0 outside."""
    index = np.linalg.inv(affine) @ grid.affine
    moved = ndimage.affine_transform(
        data, index[:3, :3], index[:3, 3], grid.shape, order=0, mode="grid-constant", cval=0.0
    )
    return np.asarray(moved, dtype=np.float32)


def _grid(shape: tuple[int, ...], affine: Affine) -> Grid:
    return Grid((shape[0], shape[1], shape[2]), affine)
