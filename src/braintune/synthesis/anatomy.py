"""The anatomy that simulated cohorts start from: the MNI152 T1 that nilearn ships, and its regions.

Regions are drawn from the template's own tissue maps and from landmarks in MNI coordinates. They
are good enough to plant an effect in a known place; they are no atlas.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.imaging.grid import ras_grid, resample, world_center
from braintune.imaging.nifti import Affine, FloatArray, Volume

# Axis of the right hippocampus from head to tail, in MNI millimetres; the left one is its mirror.
_HIPPOCAMPUS_AXIS = ((22, -10, -21), (27, -17, -18), (30, -25, -13), (29, -32, -7), (24, -37, -2))
_HIPPOCAMPUS_RADIUS = 7.0
# The box, in MNI millimetres, that holds the lateral and third ventricles.
_VENTRICLE_BOX = ((-38, 38), (-48, 36), (-14, 32))
_DRAWN_MM = 2
_DEEP_MM = 17.0
_CORTEX_MM = 22.0
_SHELL_MM = 8.0
_BANK_MM, _BANK_SHARE = 4.0, 0.5


@dataclass(frozen=True)
class Anatomy:
    """A template brain and its regions on one grid.

    Attributes:
        t1: T1-weighted intensities, white matter near 1, 0 outside the brain, of shape (x, y, z).
        affine: From voxel indices to MNI millimetres, of shape (4, 4).
        regions: Membership, in [0, 1], of each region that effects are planted in.
    """

    t1: FloatArray
    affine: Affine
    regions: dict[str, FloatArray]


@lru_cache(maxsize=2)
def mni152(spacing: int = 2) -> Anatomy:
    """The MNI152 2009a template with its regions, at a whole number of millimetres.

    Regions are drawn at 2 mm or finer, and averaged over larger voxels.
    """
    fine = _drawn(min(spacing, _DRAWN_MM))
    if spacing <= _DRAWN_MM:
        return fine
    whole = Volume(fine.t1, fine.affine)
    extent = np.array(fine.t1.shape) * _DRAWN_MM
    x, y, z = (int(n) for n in -(-extent // spacing))
    grid = ras_grid((x, y, z), float(spacing), world_center(whole))

    def coarse(data: FloatArray) -> FloatArray:
        return resample(Volume(data, fine.affine), grid)

    regions = {name: coarse(region) for name, region in fine.regions.items()}
    return Anatomy(coarse(fine.t1), grid.affine, regions)


def _drawn(spacing: int) -> Anatomy:
    from nilearn import datasets

    template = datasets.load_mni152_template(resolution=spacing)
    gray, white = (
        np.asarray(load(resolution=spacing).dataobj, dtype=np.float32)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    t1 = np.asarray(template.dataobj, dtype=np.float32)
    brain = _largest_part(t1 > 0.15)
    t1 = np.where(brain, t1 / np.percentile(t1[brain], 95), 0).astype(np.float32)
    gray, white = gray * brain, white * brain
    fluid = np.clip(brain - gray - white, 0, 1).astype(np.float32)
    depth = ndimage.distance_transform_edt(brain) * spacing
    world = _world(t1.shape, template.affine)
    ventricles = fluid * _is_ventricle(fluid, depth, world)
    right, left = _hippocampi(gray, world)
    cortex = gray * (depth < _CORTEX_MM) * (right + left == 0)
    # Sulci lie between banks of cortex; the wide cisterns at the base of the brain do not.
    banks = ndimage.gaussian_filter(cortex, _BANK_MM / spacing)
    outside = ndimage.distance_transform_edt(~brain) * spacing
    regions = {
        "brain": brain.astype(np.float32),
        "surroundings": (outside > 0) & (outside < _SHELL_MM),
        "ventricles": ventricles,
        "sulci": fluid * (banks > _BANK_SHARE) * (ventricles == 0),
        "cortex": cortex,
        "hippocampus_left": left,
        "hippocampus_right": right,
    }
    return Anatomy(
        t1=t1,
        affine=np.asarray(template.affine, dtype=np.float64),
        regions={name: region.astype(np.float32) for name, region in regions.items()},
    )


def _world(shape: tuple[int, ...], affine: Affine) -> npt.NDArray[np.float32]:
    """World coordinates of every voxel, of shape (x, y, z, 3)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)


def _largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, labels, range(1, count + 1))
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes))))


def _is_ventricle(
    fluid: FloatArray, depth: npt.NDArray[np.float64], world: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    inside = depth > _DEEP_MM
    for axis, (low, high) in enumerate(_VENTRICLE_BOX):
        inside &= (world[..., axis] > low) & (world[..., axis] < high)
    x, y, z = (world[..., axis] for axis in range(3))
    # The cisterns behind the midbrain are fluid too, but no ventricle.
    cistern = (np.abs(x) < 15) & (y < -22) & (z < 18)
    return np.asarray(inside & ~cistern & (fluid > 0.2))


def _hippocampi(gray: FloatArray, world: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Grey matter near the axis, on the right (x > 0) and on the left."""
    axis = np.array(_HIPPOCAMPUS_AXIS, dtype=np.float32)
    sides = []
    for sign in (1, -1):
        near = np.full(gray.shape, np.inf, dtype=np.float32)
        for start, end in pairwise(axis):
            flip = np.array([sign, 1, 1], dtype=np.float32)
            near = np.minimum(near, _distance(world, start * flip, end * flip))
        sides.append(gray * (near < _HIPPOCAMPUS_RADIUS))
    return sides[0], sides[1]


def _distance(
    points: npt.NDArray[np.float32], start: npt.NDArray[np.float32], end: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Distance of points to a line segment."""
    direction = end - start
    along = np.clip((points - start) @ direction / (direction @ direction), 0, 1)
    return np.asarray(np.linalg.norm(points - start - along[..., None] * direction, axis=-1))
