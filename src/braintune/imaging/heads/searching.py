"""Where a head lies and how it is turned, found without a first guess.

Every turn out of a coarse lattice is tried at every place at once: the correlation of the turned
template with the scan beneath it, at all shifts, is a handful of Fourier transforms. So a head may
be turned, off the middle, cut off, or sit on a long neck, and no descent can go astray.
"""

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from braintune.imaging.grid import Grid, covering, ras_grid, resample
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import Affine, FloatArray, Volume

_SPACING = 10.0
# Voxels along an edge of the turned template: all of the brain, however it is turned.
_PATCH = 23
_TEMPLATE_SPACING = 4.0
# What must be dark around the brain, in millimetres.
_SHELL = 6.0
_PITCHES = (-48, -24, 0, 24, 48)
_TURNS = (-24, 0, 24)
# Adults' brains are smaller than the template's, which grew as it was averaged.
_SIZE = 0.93
# The brain's middle in MNI millimetres, about which it is turned.
_CENTER = np.array([0.0, -20.0, 10.0])
# Middles of brains that are further from each other than this are two places, in millimetres.
_APART_MM = 50.0
# Variance under the template below which there is nothing to compare with, in squared intensity.
_LEAST_VARIANCE = 0.01


def likely_poses(head: Volume, count: int) -> list[Affine]:
    """The likeliest maps from the template's millimetres to the scan's, likely ones first.

    They turn, shift and shrink to a usual size.

    Args:
        head: The scan; white matter near 1, background near 0.
        count: How many.
    """
    grid = covering(ras_grid((1, 1, 1), _SPACING, np.zeros(3)), head)
    scan = resample(head, grid)
    shape = [fft.next_fast_len(n + _PATCH - 1, real=True) for n in scan.shape]
    plain, squared = (fft.rfftn(values, shape) for values in (scan, scan * scan))
    found = []
    for pitch, roll, yaw in product(_PITCHES, _TURNS, _TURNS):
        turn = Rotation.from_euler("xyz", [pitch, roll, yaw], degrees=True).as_matrix()
        for value, place in _best_places(plain, squared, shape, *_turned(turn)):
            # Shifts to the left of the scan have wrapped around.
            shift = [
                p if p < n else p - s for p, n, s in zip(place, scan.shape, shape, strict=True)
            ]
            found.append((value, _pose(turn, np.array(shift), grid)))
    found.sort(key=lambda pair: -pair[0])
    return _several_places([pose for _, pose in found])[:count]


def _several_places(poses: list[Affine]) -> list[Affine]:
    """Poses in turn from each place: a neck may look more like a brain than the brain does."""
    ranked = []
    middles = [pose[:3, :3] @ _CENTER + pose[:3, 3] for pose in poses]
    places: list[npt.NDArray[np.float64]] = []
    counts: list[int] = []
    for order, middle in enumerate(middles):
        near = [i for i, p in enumerate(places) if np.linalg.norm(p - middle) < _APART_MM]
        if not near:
            places.append(middle)
            counts.append(0)
            near = [len(places) - 1]
        ranked.append((counts[near[0]], order))
        counts[near[0]] += 1
    return [poses[order] for _, order in sorted(ranked)]


def _turned(turn: npt.NDArray[np.float64]) -> tuple[FloatArray, FloatArray]:
    """The turned template, and 1 where it is compared, on a cube around its middle."""
    template = template_at(_TEMPLATE_SPACING)
    blur = _SPACING / _TEMPLATE_SPACING / 2.355
    near = (template.outside <= _SHELL).astype(np.float32)
    cube = ras_grid((_PATCH,) * 3, _SPACING, np.zeros(3))
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turn.T / _SIZE, _CENTER
    index = np.linalg.inv(template.grid.affine) @ move @ cube.affine
    t1, weight = (
        ndimage.affine_transform(
            ndimage.gaussian_filter(values, blur), index[:3, :3], index[:3, 3], cube.shape, order=1
        )
        for values in (template.t1, near)
    )
    return t1, (weight > 0.5).astype(np.float32)


def _best_places(
    plain: npt.NDArray[np.complex64],
    squared: npt.NDArray[np.complex64],
    shape: list[int],
    t1: FloatArray,
    weight: FloatArray,
) -> list[tuple[float, tuple[int, ...]]]:
    """The largest correlations at two places far from each other, and the template's shifts."""
    count = weight.sum()
    centered = (t1 - (t1 * weight).sum() / count) * weight
    over = np.conj(fft.rfftn(weight, shape))
    total, squares = (fft.irfftn(values * over, shape) for values in (plain, squared))
    variance = np.maximum(squares / count - (total / count) ** 2, _LEAST_VARIANCE)
    product_ = fft.irfftn(plain * np.conj(fft.rfftn(centered, shape)), shape)
    values = product_ / np.sqrt(variance * count) / np.linalg.norm(centered)
    found = []
    reach = int(_APART_MM / _SPACING)
    for _ in range(2):
        place = tuple(int(p) for p in np.unravel_index(int(values.argmax()), values.shape))
        found.append((float(values[place]), place))
        box = tuple(slice(max(p - reach, 0), p + reach + 1) for p in place)
        values[box] = -1
    return found


def _pose(turn: npt.NDArray[np.float64], shift: npt.NDArray[np.int_], grid: Grid) -> Affine:
    middle = grid.affine[:3, :3] @ (shift + (_PATCH - 1) / 2) + grid.affine[:3, 3]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn * _SIZE, middle - turn @ _CENTER * _SIZE
    return pose
