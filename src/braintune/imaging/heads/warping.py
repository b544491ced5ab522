"""A smooth warp of the template onto a head, by which its brain mask becomes the head's.

Thirion's demons (Medical Image Analysis 2, 1998), driven by both images' gradients, within the
brain and a shell around it: there the skull-stripped template is as dark as fluid and bone are, and
further out, where it is empty and a head is not, nothing pulls.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from braintune.imaging.grid import Grid, resample
from braintune.imaging.heads.template import Template, template_at
from braintune.imaging.nifti import Affine, FloatArray, Volume


@dataclass(frozen=True)
class Stage:
    """One stretch of the warp.

    Attributes:
        steps: Steps of the demons.
        fluid: Blur of each step, in voxels.
        elastic: Blur of the whole warp after each step, in voxels.
    """

    steps: int
    fluid: float
    elastic: float


_SPACING = 4.0
_SHELL = 8.0
_STAGES = (Stage(25, 1.0, 1.5), Stage(30, 0.7, 1.0))
_LONGEST_STEP = 0.5
# Intensities, white matter near 0.9, beyond which nothing is brain.
_RANGE = (-0.1, 1.25)
_REFIT = 5
# Differences beyond this are not of one tissue: marrow and fat near the brain pull little.
_FOREIGN = 0.45
_INVERSIONS = 12


def warped_brain(scan: Volume, map_: Affine, grid: Grid) -> FloatArray:
    """The share of each voxel of a grid in the scan's space that is brain.

    Args:
        scan: The scan, without bias field.
        map_: From the template's millimetres to the scan's.
        grid: Where the mask is wanted.
    """
    template = template_at(_SPACING)
    moved = resample(
        Volume(scan.data, np.asarray(np.linalg.inv(map_) @ scan.affine)), template.grid
    )
    warp = _warp(template, moved)
    own = Volume(_inversely(warp, template.share), np.asarray(map_ @ template.grid.affine))
    return resample(own, grid)


def _warp(template: Template, moved: FloatArray) -> FloatArray:
    """Displacement, in voxels, that brings a linearly registered scan onto the template."""
    places = np.indices(moved.shape, dtype=np.float32)
    weight = (template.outside <= _SHELL).astype(np.float32)
    own_gradient = _gradient(template.t1)
    warp = np.zeros((3, *moved.shape), dtype=np.float32)
    number = 0
    for stage in _STAGES:
        for _ in range(stage.steps):
            values = ndimage.map_coordinates(moved, places + warp, order=1, mode="nearest")
            if number % _REFIT == 0:
                factor, constant = _matched(values[template.brain], template.t1[template.brain])
            number += 1
            matched = np.clip(factor * values + constant, *_RANGE)
            difference = template.t1 - matched
            gradient = (own_gradient + _gradient(matched)) / 2
            size = (gradient**2).sum(axis=0) + 0.36 * difference**2 + 1e-4
            trust = 1 / (1 + (difference / _FOREIGN) ** 2)
            step = weight * trust * difference * gradient / size
            length = np.sqrt((step**2).sum(axis=0))
            step *= np.minimum(1, _LONGEST_STEP / np.maximum(length, 1e-6))
            warp = _blurred(warp + _blurred(step, stage.fluid), stage.elastic)
    return warp


def _gradient(values: FloatArray) -> FloatArray:
    return np.stack([np.gradient(values, axis=axis) for axis in range(3)])


def _matched(values: FloatArray, wanted: FloatArray) -> tuple[float, float]:
    """Factor and constant that bring most values near the wanted ones."""
    kept = np.ones(values.shape, dtype=bool)
    factor, constant = 1.0, 0.0
    for _ in range(3):
        factor, constant = np.polyfit(values[kept], wanted[kept], 1)
        left = np.abs(wanted - factor * values - constant)
        kept = left < 2.5 * 1.4826 * np.median(left) + 1e-6
    return float(factor), float(constant)


def _blurred(field: FloatArray, sigma: float) -> FloatArray:
    return np.stack([ndimage.gaussian_filter(part, sigma, truncate=3.0) for part in field])


def _inversely(warp: FloatArray, values: FloatArray) -> FloatArray:
    """What lies at the other end of a warp, which is inverted by fixed points."""
    places = np.indices(values.shape, dtype=np.float32)
    back = np.zeros_like(warp)
    for _ in range(_INVERSIONS):
        back = -np.stack(
            [ndimage.map_coordinates(part, places + back, order=1, mode="nearest") for part in warp]
        )
    moved = ndimage.map_coordinates(values, places + back, order=1, mode="constant", cval=0.0)
    return np.asarray(moved, dtype=np.float32)
