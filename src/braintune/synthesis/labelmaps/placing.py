"""Bringing label maps onto a grid, by the nearest label."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import Grid
from braintune.imaging.nifti import Affine
from braintune.synthesis.labelmaps.reading import IntArray, LabelMap

_ALIGNED = 1e-4
# Share of a mask's voxels that stray ones may be, on either side, and not move its middle.
_STRAY = 0.002


def middle_of(found: LabelMap, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """World coordinates, in millimetres, of the middle of a mask's extent.

    Args:
        found: The label map, whose affine holds.
        mask: Of its shape, with at least one voxel.
    """
    index = []
    for axis in range(3):
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        share = np.cumsum(counts) / counts.sum()
        index.append(np.searchsorted(share, [_STRAY, 1 - _STRAY]).mean())
    return np.asarray(found.affine[:3, :3] @ np.array(index) + found.affine[:3, 3])


def placed(found: LabelMap, grid: Grid) -> IntArray:
    """The nearest label at each voxel of a grid, 0 outside the map.

    Returns:
        Of the grid's shape.
    """
    index = np.linalg.inv(found.affine) @ grid.affine
    axes = _aligned_axes(index)
    if axes is None:
        return np.asarray(
            ndimage.affine_transform(
                found.data, index[:3, :3], index[:3, 3], grid.shape, order=0, cval=0
            )
        )
    # Along the axes of the map each position is found alone, which is many times faster.
    moved = found.data.transpose(axes)
    result = np.zeros(grid.shape, dtype=found.data.dtype)
    into, outof = [], []
    for axis, n in enumerate(grid.shape):
        step, start = index[axes[axis], axis], index[axes[axis], 3]
        position = np.floor(start + step * np.arange(n) + 0.5).astype(int)
        inside = np.flatnonzero((position >= 0) & (position < moved.shape[axis]))
        into.append(inside)
        outof.append(position[inside])
    result[np.ix_(*into)] = moved[np.ix_(*outof)]
    return result


def _aligned_axes(index: Affine) -> tuple[int, int, int] | None:
    """Which axis of the map runs along each axis of the grid, None for oblique maps."""
    size = np.abs(index[:3, :3])
    axes = size.argmax(axis=0)
    rest = size.copy()
    rest[axes, range(3)] = 0
    if sorted(axes) != [0, 1, 2] or rest.max() > _ALIGNED * size.max():
        return None
    return int(axes[0]), int(axes[1]), int(axes[2])
