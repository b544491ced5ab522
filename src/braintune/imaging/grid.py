"""Where voxels lie: target grids, and resampling onto them in one interpolation."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.nifti import Affine, FloatArray, Volume, spacing_of

# Two grids whose voxels agree to this share of a voxel are one lattice: no interpolation is needed.
_SAME = 1e-3
# Standard deviation, in voxels, of a Gaussian whose full width at half maximum is one voxel.
_FWHM = 1 / 2.355


@dataclass(frozen=True)
class Grid:
    """A lattice of voxels.

    Attributes:
        shape: Voxels along the three axes.
        affine: From voxel indices to world millimetres, of shape (4, 4).
    """

    shape: tuple[int, int, int]
    affine: Affine


def ras_grid(shape: tuple[int, int, int], spacing: float, center: npt.NDArray[np.float64]) -> Grid:
    """An RAS+ grid, aligned with the world's axes, whose middle lies at a world point.

    Args:
        shape: Voxels along right, anterior and superior.
        spacing: Voxel size in millimetres, the same along all axes.
        center: World coordinates, in millimetres, of the grid's middle.

    Example:
        >>> ras_grid((3, 3, 3), 2.0, np.zeros(3)).affine[:3, 3].tolist()
        [-2.0, -2.0, -2.0]
    """
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = center - spacing * (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def world_center(volume: Volume) -> npt.NDArray[np.float64]:
    """World coordinates of the middle of a volume's grid."""
    middle = (np.array(volume.data.shape) - 1) / 2
    return np.asarray(volume.affine[:3, :3] @ middle + volume.affine[:3, 3])


def center_of_mass(volume: Volume, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """World coordinates of the centre of a mask on the volume's grid, its middle if it is empty."""
    if not mask.any():
        return world_center(volume)
    # One sum along each axis finds the centre without a list of all the mask's voxels.
    totals = [mask.sum(axis=tuple(j for j in range(3) if j != i)) for i in range(3)]
    index = np.array([np.average(np.arange(len(t)), weights=t) for t in totals])
    return np.asarray(volume.affine[:3, :3] @ index + volume.affine[:3, 3])


def snapped(grid: Grid, volume: Volume) -> Grid:
    """Shift a grid by less than a voxel onto the volume's lattice, if both can share one.

    A scan that is already at the wanted spacing is then cropped or padded, not interpolated.
    """
    index = np.linalg.inv(volume.affine) @ grid.affine
    if not _is_signed_permutation(index[:3, :3]):
        return grid
    index[:3, :3] = np.round(index[:3, :3])
    index[:3, 3] = np.round(index[:3, 3] - _SAME)
    return Grid(grid.shape, np.asarray(volume.affine @ index))


def covering(grid: Grid, volume: Volume) -> Grid:
    """Extend a grid, or cut it, by whole voxels until it just holds all of a volume's voxels.

    Example:
        >>> volume = Volume(np.zeros((3, 4, 5), np.float32), np.eye(4))
        >>> covering(Grid((9, 9, 9), np.diag([2.0, 2, 2, 1])), volume).shape
        (2, 3, 3)
    """
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in volume.data.shape])).reshape(3, 8)
    index = np.linalg.inv(grid.affine) @ volume.affine @ np.vstack([corners, np.ones(8)])
    low = np.floor(index[:3].min(axis=1) + _SAME).astype(int)
    high = np.ceil(index[:3].max(axis=1) - _SAME).astype(int)
    shift = np.eye(4)
    shift[:3, 3] = low
    x, y, z = (high - low + 1).tolist()
    return Grid((x, y, z), np.asarray(grid.affine @ shift))


def resample_labels(labels: npt.NDArray[np.uint8], own: Grid, grid: Grid) -> npt.NDArray[np.uint8]:
    """Bring a label map onto a grid: each voxel takes the label of the nearest one.

    Args:
        labels: Of the shape of ``own``.
        own: Where they lie.
        grid: Where they are wanted.

    Returns:
        An array of the grid's shape; outside of the label map is 0.
    """
    index = np.linalg.inv(own.affine) @ grid.affine
    if _is_signed_permutation(index[:3, :3]) and _is_whole(index[:3, 3]):
        whole = np.round(index).astype(int)
        return _rearranged(labels.astype(np.float32), whole, grid.shape).astype(np.uint8)
    moved = ndimage.affine_transform(
        labels, index[:3, :3], index[:3, 3], grid.shape, order=0, mode="grid-constant", cval=0
    )
    return np.asarray(moved, dtype=np.uint8)


def resample(volume: Volume, grid: Grid) -> FloatArray:
    """Bring a volume onto a grid: reorient, resample, crop and pad at once.

    Linear interpolation; where the grid is coarser than the volume, a Gaussian first takes away
    the detail that the grid can't hold. Outside the volume is 0.

    Returns:
        An array of the grid's shape.
    """
    index = np.linalg.inv(volume.affine) @ grid.affine
    if _is_signed_permutation(index[:3, :3]) and _is_whole(index[:3, 3]):
        return _rearranged(volume.data, np.round(index).astype(int), grid.shape)
    data = _smoothed(volume, grid)
    moved = ndimage.affine_transform(
        data, index[:3, :3], index[:3, 3], grid.shape, order=1, mode="constant", cval=0.0
    )
    return np.asarray(moved, dtype=np.float32)


def _is_signed_permutation(matrix: npt.NDArray[np.float64]) -> bool:
    whole = np.abs(np.round(matrix))
    return bool(
        np.abs(np.abs(matrix) - whole).max() < _SAME
        and (whole.sum(axis=0) == 1).all()
        and (whole.sum(axis=1) == 1).all()
    )


def _is_whole(values: npt.NDArray[np.float64]) -> bool:
    return bool(np.abs(values - np.round(values)).max() < 10 * _SAME)


def _rearranged(
    data: FloatArray, index: npt.NDArray[np.int_], shape: tuple[int, int, int]
) -> FloatArray:
    """Permute, flip, crop and pad without touching a value.

    Voxel ``t`` of the result is voxel ``index @ t`` of the data.
    """
    source_axes = np.abs(index[:3, :3]).argmax(axis=0)
    signs = index[source_axes, range(3)]
    moved = data.transpose(*source_axes)
    result = np.zeros(shape, dtype=np.float32)
    into, outof = [], []
    for axis in range(3):
        positions = index[source_axes[axis], 3] + signs[axis] * np.arange(shape[axis])
        inside = np.flatnonzero((positions >= 0) & (positions < moved.shape[axis]))
        into.append(inside)
        outof.append(positions[inside])
    result[np.ix_(*into)] = moved[np.ix_(*outof)]
    return result


def _smoothed(volume: Volume, grid: Grid) -> FloatArray:
    """Blur along the axes where the grid's voxels are larger than the volume's."""
    fine = spacing_of(volume.affine)
    # The grid's voxel size as seen along each axis of the volume.
    directions = np.abs(np.linalg.inv(volume.affine[:3, :3] / fine) @ grid.affine[:3, :3])
    coarse = directions.max(axis=1)
    ratio = np.maximum(coarse / fine, 1.0)
    sigma = _FWHM * np.sqrt(ratio**2 - 1)
    if not (sigma > 0.05).any():
        return volume.data
    return np.asarray(ndimage.gaussian_filter(volume.data, sigma, mode="constant", truncate=3.0))
