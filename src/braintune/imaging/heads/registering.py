"""From a raw head to the template: bias field, brain mask and map, in the scan's own space.

All of it is found on a copy of the scan at 2 mm, whatever the scan's voxels are; the scan itself is
interpolated once, in the end.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from braintune.heads_recipe import HeadsRecipe, Registration
from braintune.imaging.grid import Grid, covering, ras_grid, resample
from braintune.imaging.heads.aligning import Level, align
from braintune.imaging.heads.bias import log_field, without_field
from braintune.imaging.heads.limits import native_grid
from braintune.imaging.heads.outline import outlined
from braintune.imaging.heads.searching import likely_poses
from braintune.imaging.heads.template import template_at
from braintune.imaging.heads.warping import warped_brain
from braintune.imaging.nifti import Affine, FloatArray, Volume

Mask = npt.NDArray[np.bool_]
_SPACING = 2.0
# Poses that are tried until one leaves so little unexplained that it must be right.
_POSES, _RIGHT = 6, 0.31
_FIRST = Level(8.0, margin=6.0, robust=False)
_SECOND = Level(4.0, margin=4.0)
# In the end only the brain is left, and the correlation itself is what counts.
_MASKED = Level(4.0, margin=6.0, robust=False)
_LAST = Level(2.0, margin=3.0, every=5, steps=6, robust=False)
# How far around the template's brain there may be tissue that the bias field is told by.
_TISSUE_MM = 6.0
# A scan without skull has nothing further from the template's brain than this, in millimetres,
# but for this share of what is not 0.
_SKULL_MM, _SKULL_SHARE = 14.0, 0.01
_CORNER_SHARE = 0.3


@dataclass(frozen=True)
class Found:
    """What was found of a head, on its copy at 2 mm.

    Attributes:
        scan: The copy, without bias field, white matter near 1.
        field: The logarithm of the bias field, or None if it was not looked for.
        share: The share of each voxel that is brain.
        map_: From the template's millimetres to the scan's.
        stripped: Whether the scan came without skull.
        seconds: What each step took.
    """

    scan: Volume
    field: Volume | None
    share: FloatArray
    map_: Affine
    stripped: bool
    seconds: dict[str, float]


def find_brain(scan: Volume, recipe: HeadsRecipe, mask: FloatArray | None = None) -> Found:
    """Find a head's bias field, brain and map to the template.

    Args:
        scan: The scan, RAS, its background near 0.
        recipe: What is wanted.
        mask: Its brain on its own grid, if that is known already.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "copy"):
        copy = _copy(scan)
        known = None if mask is None else resample(Volume(mask, scan.affine), native_grid(copy))
    with _timed(seconds, "search"):
        seen = copy if known is None else Volume(copy.data * (known > 0.5), copy.affine)
        map_ = _rough_map(seen, recipe.registration)
        template = template_at(_SPACING)
        outside = _on_scan(template.outside, map_, copy)
        stripped = recipe.brain == "none" or (known is None and is_stripped(copy.data, outside))
        if stripped:
            known = ndimage.binary_fill_holes(_nonzero(copy.data)).astype(np.float32)
    field = None
    if recipe.bias == "n4":
        with _timed(seconds, "bias"):
            tissue = outside <= _TISSUE_MM if known is None else known > 0.5
            field = log_field(copy, tissue & (copy.data > 0))
            copy = Volume(without_field(copy.data, native_grid(copy), field), copy.affine)
    with _timed(seconds, "brain"):
        if known is None:
            if recipe.registration != "none":
                map_, _ = align(copy, map_, "affine-12", _SECOND)
            known = outlined(warped_brain(copy, map_, native_grid(copy)), copy)
    with _timed(seconds, "registration"):
        if recipe.registration != "none":
            brain = Volume(copy.data * (known > 0.5), copy.affine)
            map_, _ = align(brain, map_, recipe.registration, _MASKED)
            map_, _ = align(brain, map_, recipe.registration, _LAST)
    return Found(copy, field, known, map_, stripped, seconds)


def _rough_map(copy: Volume, kind: Registration) -> Affine:
    if kind == "none":
        return np.eye(4)
    best, least = np.eye(4), np.inf
    for pose in likely_poses(copy, _POSES):
        turned, _ = align(copy, pose, "similarity", _FIRST)
        map_, loss = align(copy, turned, "affine-9", _FIRST)
        if loss < least:
            best, least = map_, loss
        if least < _RIGHT:
            break
    return align(copy, best, "affine-12", _SECOND)[0]


def _copy(scan: Volume) -> Volume:
    """The scan at 2 mm or its own coarser voxels, along its own axes, white matter near 1."""
    directions = scan.affine[:3, :3] / np.linalg.norm(scan.affine[:3, :3], axis=0)
    own = ras_grid((1, 1, 1), _SPACING, scan.affine[:3, 3])
    turned = own.affine.copy()
    turned[:3, :3] = directions * _SPACING
    grid = covering(Grid((1, 1, 1), turned), scan)
    data = resample(scan, grid)
    top = float(np.percentile(data[data > data.mean()], 90))
    return Volume(np.clip(data / max(top, 1e-6), 0, 2).astype(np.float32), grid.affine)


def is_stripped(data: FloatArray, outside: FloatArray) -> bool:
    """Whether a scan came without skull: nothing far from the brain, and a flat background.

    Args:
        data: Intensities, its background at 0.
        outside: Distance of each voxel to the brain, in millimetres.
    """
    there = _nonzero(data)
    if there.mean() > 1 - _CORNER_SHARE:
        return False
    return bool((there & (outside > _SKULL_MM)).sum() <= _SKULL_SHARE * there.sum())


def _nonzero(data: FloatArray) -> Mask:
    return data > 1e-3


def _on_scan(values: FloatArray, map_: Affine, scan: Volume) -> FloatArray:
    """A distance of the template's brain on the scan's voxels; far outside of the template."""
    template = template_at(_SPACING)
    far = float(values.max())
    own = Volume(values - far, np.asarray(map_ @ template.grid.affine))
    return resample(own, native_grid(scan)) + far


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start
