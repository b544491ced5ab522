"""One diffusion series as a network sees it: a channel a map, on the recipe's grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from braintune.imaging.dwi.maps import TensorMaps, tensor_maps
from braintune.imaging.dwi.registration import to_template
from braintune.imaging.grid import (
    Grid,
    center_of_mass,
    ras_grid,
    resample,
    snapped,
    world_center,
)
from braintune.imaging.heads.template import MIDDLE
from braintune.imaging.intensity import RULES, Mask
from braintune.imaging.nifti import FloatArray, Volume
from braintune.imaging.preparation import PreparedScan, as_prepared, demand_brain
from braintune.recipe import PrepareRecipe


def prepare_dwi(path: Path, recipe: PrepareRecipe) -> PreparedScan:
    """Fit the tensors of a series, and bring each wanted map onto the grid in one interpolation.

    Raises:
        ScanError: If the series can't be used, or no brain lies within the grid.
        InputError: If DIPY is not installed.
    """
    assert recipe.dwi is not None
    found = tensor_maps(path, recipe.dwi)
    moved = to_template(found, recipe.dwi.registration, path)
    found = replace(found, affine=np.asarray(moved @ found.affine))
    grid = _grid(found, recipe)
    share = resample(Volume(found.mask.astype(np.float32), found.affine), grid)
    brain = share > 0.5
    demand_brain(brain, recipe, path)
    rule = RULES[recipe.intensity]
    channels = [rule(_within(found, name, grid, share, brain), brain) for name in recipe.dwi.maps]
    brain_ml = float(brain.sum()) * recipe.spacing**3 / 1000
    return as_prepared(channels, grid, brain_ml, path)


def _grid(found: TensorMaps, recipe: PrepareRecipe) -> Grid:
    """Where the prepared voxels lie: in the template's box, or where the brain lies."""
    assert recipe.dwi is not None
    if recipe.dwi.registration != "none" and recipe.center == "grid":
        return ras_grid(recipe.shape, recipe.spacing, np.array(MIDDLE))
    volume = Volume(found.unweighted, found.affine)
    at_brain = recipe.center == "brain"
    center = center_of_mass(volume, found.mask) if at_brain else world_center(volume)
    return snapped(ras_grid(recipe.shape, recipe.spacing, center), volume)


def _within(found: TensorMaps, name: str, grid: Grid, share: FloatArray, brain: Mask) -> FloatArray:
    """A map on the grid; at the brain's edge an average over the brain alone, not over air too."""
    moved = resample(Volume(found.maps[name], found.affine), grid)
    return np.where(brain, moved / np.maximum(share, 0.5), 0).astype(np.float32)
