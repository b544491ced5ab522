"""The outline of a brain mask: one part, up to the skull, without bone, smooth."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.nifti import FloatArray, Volume, spacing_of

Mask = npt.NDArray[np.bool_]
# The template's edge was blurred as it was averaged, and lies this far within the skull.
_WIDER_MM, _SMOOTH_MM = 0.75, 1.4
# Bone is told by what lies around the mask to this distance: the dark part of it.
_AROUND_MM, _DARK_PERCENT = 6.0, 15
# What is darker than twice the bone is taken for bone, near the edge; fluid is brighter.
_TWICE = 2.0
_EDGE_MM, _DEEP_MM, _FLUID_PERCENT = 6.0, 10.0, 2
_GRAIN_MM = 1.0


def outlined(share: FloatArray, scan: Volume) -> FloatArray:
    """A better outline of a mask that a warp gave.

    Args:
        share: The share of each voxel that is brain, as the warp gave it.
        scan: The scan, without bias field.

    Returns:
        The share again.
    """
    wide = _widened(_largest(share), scan)
    mask = wide > 0.5
    bone = _bone(mask, scan)
    if not bone.any():
        return wide
    kept = mask & ~bone
    # Thin gaps and lone voxels are noise, not bone.
    closed = ndimage.binary_closing(np.pad(kept, 3), iterations=2)[3:-3, 3:-3, 3:-3]
    kept |= closed & mask
    smooth = ndimage.gaussian_filter(kept.astype(np.float32), 1.6 / spacing_of(scan.affine))
    return _largest(smooth)


def _bone(mask: Mask, scan: Volume) -> Mask:
    """Voxels near a mask's edge, and connected to its outside, that are as dark as bone."""
    voxel = spacing_of(scan.affine)
    within = ndimage.distance_transform_edt(mask, sampling=voxel)
    beyond = ndimage.distance_transform_edt(~mask, sampling=voxel)
    around = scan.data[(beyond > 0) & (beyond < _AROUND_MM)]
    deep = scan.data[within > _DEEP_MM]
    if not around.size or not deep.size:
        return np.zeros_like(mask)
    darkest = _TWICE * float(np.percentile(around, _DARK_PERCENT))
    if darkest >= float(np.percentile(deep, _FLUID_PERCENT)):
        return np.zeros_like(mask)
    calm = ndimage.gaussian_filter(scan.data, _GRAIN_MM / voxel)
    dark = mask & (calm < darkest) & (within < _EDGE_MM)
    labels, _ = ndimage.label(np.pad(dark | ~mask, 1, constant_values=True))
    return dark & (labels == labels[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _largest(share: FloatArray) -> FloatArray:
    """The largest part of a mask, its holes filled."""
    labels, count = ndimage.label(share > 0.5)
    if count == 0:
        return share
    largest = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    filled = ndimage.binary_fill_holes(largest)
    kept = np.where((labels > 0) & ~largest, 0, share)
    return np.where(filled & (kept <= 0.5), 1, kept).astype(np.float32)


def _widened(share: FloatArray, scan: Volume) -> FloatArray:
    """A mask that reaches a little further and has a smooth surface."""
    mask = share > 0.5
    voxel = spacing_of(scan.affine)
    beyond, within = (
        ndimage.distance_transform_edt(side, sampling=voxel) for side in (~mask, mask)
    )
    half = voxel.mean() / 2
    distance = np.where(mask, half - within, beyond - half)
    smooth = ndimage.gaussian_filter(distance, _SMOOTH_MM / voxel)
    return np.clip(0.5 + (_WIDER_MM - smooth) / (2 * half), 0, 1).astype(np.float32)
