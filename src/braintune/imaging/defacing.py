"""Taking the face out of a whole head, before anything leaves the site.

The face is a region of the template's space, in front of and below a surface that runs over the
forehead, behind the eyes and down to the jaw. It is taken back to the scan's own space, and what is
near to the scan's own brain is spared, so that an odd registration can't cut into it.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import resample
from braintune.imaging.heads.result import RegisteredHead
from braintune.imaging.nifti import Affine, FloatArray, Volume, spacing_of

Mask = npt.NDArray[np.bool_]
# Nothing this near to the brain mask changes, in millimetres.
SPARED_MM = 5.0
# The surface, in MNI millimetres: at each height, what lies further to the front is face. Orbits
# lie at heights of -50 to -25; the frontal pole reaches to the front at 72, temporal poles at 22.
_HEIGHTS = (-220.0, -110.0, -62.0, -42.0, -22.0, 0.0, 25.0)
_FRONTS = (-5.0, 5.0, 26.0, 38.0, 58.0, 76.0, 88.0)


def deface(head: RegisteredHead, *, keep_skull: bool) -> RegisteredHead:
    """A registered head whose scan has no face, in its own space and in the template's.

    Args:
        head: The head.
        keep_skull: Whether its image on the target grid shows what is not brain.
    """
    if head.stripped:
        return head
    data = without_face(head.native, head.mask, head.to_template)
    native = Volume(data, head.native.affine)
    image = resample(Volume(data, head.moved), head.grid) if keep_skull else head.image
    return replace(head, native=native, image=image)


def without_face(scan: Volume, mask: Mask, to_template: Affine) -> FloatArray:
    """A scan's intensities with 0 for the face.

    Args:
        scan: A whole head.
        mask: Its brain, of the same shape.
        to_template: From the scan's world millimetres to the template's, of shape (4, 4).

    Returns:
        Of the scan's shape; equal to the scan within 5 mm of the mask.
    """
    face = _face(scan.data.shape, np.asarray(to_template @ scan.affine))
    return np.where(face & ~_near(mask, scan.affine), 0, scan.data).astype(np.float32)


def _face(shape: tuple[int, ...], affine: Affine) -> Mask:
    """Which voxels lie in the template's region of the face."""
    i, j, k = np.ogrid[: shape[0], : shape[1], : shape[2]]
    front, height = (
        (affine[row, 0] * i + affine[row, 1] * j + affine[row, 2] * k + affine[row, 3]).astype(
            np.float32
        )
        for row in (1, 2)
    )
    surface = np.interp(height, _HEIGHTS, _FRONTS, right=np.inf)
    return np.asarray(front > surface)


def _near(mask: Mask, affine: Affine) -> Mask:
    """The mask and what is near to it; distances are of voxels' middles."""
    near = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return near
    spacing = spacing_of(affine)
    margin = np.ceil(SPARED_MM / spacing).astype(int) + 1
    box = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low = max(int(there[0]) - int(margin[axis]), 0)
        box.append(slice(low, int(there[-1]) + int(margin[axis]) + 1))
    part = tuple(box)
    distance = ndimage.distance_transform_edt(~mask[part], sampling=spacing)
    near[part] = distance <= SPARED_MM
    return near
