"""From one scan file to one array: the whole of `prepare:` in a recipe, as a pure function."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.errors import InputError
from braintune.files import digest
from braintune.imaging.grid import (
    Grid,
    center_of_mass,
    ras_grid,
    resample,
    snapped,
    world_center,
)
from braintune.imaging.intensity import MASKS, RULES, Mask
from braintune.imaging.nifti import Affine, FloatArray, ScanError, Volume, read_volume
from braintune.recipe import PrepareRecipe

# Raised when preparation changes what it computes, so that older stores are not mistaken for new.
PREPARATION_VERSION = 1
FEWEST_BRAIN_VOXELS = 50
# The largest number of float16.
_LARGEST_HALF = 65_504


@dataclass(frozen=True)
class PreparedScan:
    """A scan, ready for a network.

    Attributes:
        image: Of shape (channels, x, y, z), RAS+, float16.
        affine: From voxel indices to world millimetres, of shape (4, 4).
        brain_ml: Volume of the mask that intensities were scaled in, in millilitres.
        voxels: SHA-256 of the image, by which equal scans under two ids are found.
    """

    image: npt.NDArray[np.float16]
    affine: Affine
    brain_ml: float
    voxels: str


def fingerprint(recipe: PrepareRecipe) -> str:
    """A short hash of a preparation, which stores and models carry.

    Raises:
        InputError: If the preparation is still to be taken from weights.
    """
    if recipe.like is not None:
        msg = "'prepare: {like: weights}' needs the weights of a recipe. Give one with --recipe."
        raise InputError(msg)
    # Parts that a preparation does without are left out, so that older stores stay what they are.
    values = recipe.model_dump(mode="json", exclude={"like"}, exclude_none=True)
    return digest({"version": PREPARATION_VERSION, **values})


def prepare_scan(path: Path, recipe: PrepareRecipe) -> PreparedScan:
    """Reorient, resample, crop or pad, and scale the intensity of one scan.

    With ``dwi:`` in the recipe the scan is a diffusion series, of which maps are made first; with
    ``heads:`` it is a raw head, which is registered first.

    Raises:
        ScanError: If the file can't be read or holds nothing to learn from.
    """
    if recipe.dwi is not None:
        # It ends in what this file is about, and so imports it.
        from braintune.imaging.dwi.preparing import prepare_dwi

        return prepare_dwi(path, recipe)
    if recipe.heads is not None:
        from braintune.imaging.head_scan import prepared_of, registered_head

        return prepared_of(registered_head(path, recipe), recipe, path)
    volume = read_volume(path)
    refuse_unfit(volume, path)
    grid = grid_of(volume, recipe)
    data = resample(volume, grid)
    brain = MASKS[recipe.brain](data)
    demand_brain(brain, recipe, path)
    brain_ml = float(brain.sum()) * recipe.spacing**3 / 1000
    return as_prepared([RULES[recipe.intensity](data, brain)], grid, brain_ml, path)


def demand_brain(brain: Mask, recipe: PrepareRecipe, path: Path) -> None:
    """Refuse a scan of which no brain lies on the grid.

    Raises:
        ScanError: If there is none.
    """
    if brain.sum() < FEWEST_BRAIN_VOXELS:
        msg = (
            f"{path} has no brain within {recipe.shape} voxels of {recipe.spacing} mm."
            " Check the affine, or set 'prepare: {center: brain}' or a larger shape."
        )
        raise ScanError("outside the grid", msg)


def as_prepared(
    channels: Sequence[FloatArray], grid: Grid, brain_ml: float, path: Path
) -> PreparedScan:
    """Scaled channels as a store keeps them.

    Raises:
        ScanError: If intensities are too large for that.
    """
    image = as_halves(np.stack(channels), path)
    voxels = hashlib.sha256(image.tobytes()).hexdigest()
    return PreparedScan(image, grid.affine, brain_ml, voxels)


def grid_of(volume: Volume, recipe: PrepareRecipe) -> Grid:
    """Where the prepared voxels of a scan lie."""
    if recipe.center == "brain":
        center = center_of_mass(volume, MASKS[recipe.brain](volume.data))
    else:
        center = world_center(volume)
    return snapped(ras_grid(recipe.shape, recipe.spacing, center), volume)


def as_halves(image: FloatArray, path: Path) -> npt.NDArray[np.float16]:
    """Scaled intensities as a store keeps them.

    Raises:
        ScanError: If they are too large for that.
    """
    if np.abs(image).max() > _LARGEST_HALF:
        msg = (
            f"{path} has intensities up to {np.abs(image).max():.4g}; a store holds numbers up to"
            f" {_LARGEST_HALF}. Set 'prepare: {{intensity: zscore}}' or another rule that scales."
        )
        raise ScanError("intensities too large", msg)
    return image.astype(np.float16)


def refuse_unfit(volume: Volume, path: Path) -> None:
    """Refuse what `braintune check` calls broken, so that it can't be trained on."""
    if not np.isfinite(volume.data).all():
        count = int((~np.isfinite(volume.data)).sum())
        raise ScanError("NaN", f"{path} has {count:,} voxels that are NaN or infinite.")
    if volume.data.min() == volume.data.max():
        raise ScanError("constant", f"{path} has the same value in every voxel.")
