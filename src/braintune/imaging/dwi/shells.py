"""b-values into shells, and the choice of volumes that a tensor is fitted to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from braintune.dwi_recipe import DwiRecipe
from braintune.errors import counted, listing
from braintune.imaging.dwi.gradients import FloatArray, Gradients
from braintune.imaging.nifti import ScanError

Indices = npt.NDArray[np.int_]

# A tensor has six numbers.
FEWEST_DIRECTIONS = 6
# Directions closer than about 1° to each other, or to each other's opposite, are one.
_SAME_DIRECTION = np.cos(np.radians(1.0))
# Least over largest singular value of the six directions' products; 0.3 and more for even schemes.
_WORST_CONDITION = 0.02


@dataclass(frozen=True)
class Shell:
    """Volumes of about the same b-value.

    Attributes:
        b: Their mean, in s/mm², to the nearest ten.
        volumes: Their indices.
    """

    b: float
    volumes: Indices


def group_shells(bvals: FloatArray, b0_threshold: float, tolerance: float) -> list[Shell]:
    """Group weighted volumes: b-values that follow each other within the tolerance are one shell.

    Example:
        >>> bvals = np.array([5.0, 995, 0, 1005, 2990, 3000])
        >>> [(shell.b, shell.volumes.tolist()) for shell in group_shells(bvals, 50, 100)]
        [(1000.0, [1, 3]), (3000.0, [4, 5])]
    """
    weighted = np.flatnonzero(bvals > b0_threshold)
    ordered = weighted[np.argsort(bvals[weighted], kind="stable")]
    if not len(ordered):
        return []
    breaks = np.flatnonzero(np.diff(bvals[ordered]) > tolerance) + 1
    return [
        Shell(float(np.round(bvals[part].mean(), -1)), np.sort(part))
        for part in np.split(ordered, breaks)
    ]


def choose_volumes(gradients: Gradients, recipe: DwiRecipe, path: Path) -> tuple[Indices, Indices]:
    """The volumes without weighting, and those that the tensor is fitted to beside them.

    Args:
        gradients: Of all volumes.
        recipe: Which shells are wanted.
        path: The series, for messages.

    Raises:
        ScanError: If there is no b = 0 volume, no wanted shell, or too few directions.
    """
    unweighted = np.flatnonzero(gradients.bvals <= recipe.b0_threshold)
    shells = group_shells(gradients.bvals, recipe.b0_threshold, recipe.shell_tolerance)
    if not len(unweighted):
        msg = (
            f"{path} has no b = 0 volume: the least b-value is {gradients.bvals.min():g} s/mm²."
            " Set 'prepare: {dwi: {b0_threshold: ...}}' above it if that is one."
        )
        raise ScanError("gradients", msg)
    if not shells:
        msg = (
            f"{path} has no weighted volume: all b-values are up to {gradients.bvals.max():g}."
            " They must be in s/mm², usually 700 to 3000."
        )
        raise ScanError("gradients", msg)
    chosen = _chosen(shells, recipe, path)
    volumes = np.sort(np.concatenate([shell.volumes for shell in chosen]))
    _demand_directions(gradients.bvecs[volumes], chosen, path)
    return unweighted, volumes


def _chosen(shells: list[Shell], recipe: DwiRecipe, path: Path) -> list[Shell]:
    there = listing(f"{shell.b:g}" for shell in shells)
    if recipe.shells is None:
        low = [shell for shell in shells if shell.b <= recipe.max_b + recipe.shell_tolerance / 2]
        if not low:
            msg = (
                f"{path} has shells of b = {there} s/mm², all above 'prepare: {{dwi: {{max_b:"
                f" {recipe.max_b:g}}}}}', up to which a tensor describes the signal. Name those to"
                " fit all the same with 'prepare: {dwi: {shells: [...]}}'."
            )
            raise ScanError("gradients", msg)
        return low
    chosen = []
    for wanted in recipe.shells:
        near = [shell for shell in shells if abs(shell.b - wanted) <= recipe.shell_tolerance / 2]
        if not near:
            msg = f"{path} has no shell of b = {wanted:g} s/mm²; there are {there}."
            raise ScanError("gradients", msg)
        chosen.append(min(near, key=lambda shell: abs(shell.b - wanted)))
    return chosen


def _demand_directions(bvecs: FloatArray, chosen: list[Shell], path: Path) -> None:
    """Refuse directions that leave a tensor's six numbers open."""
    shells = listing(f"{shell.b:g}" for shell in chosen)
    count = _count_directions(bvecs)
    if count < FEWEST_DIRECTIONS:
        msg = (
            f"{path} has {counted(count, 'direction')} at b = {shells} s/mm²; a tensor needs at"
            f" least {FEWEST_DIRECTIONS}."
        )
        raise ScanError("gradients", msg)
    x, y, z = bvecs.T
    products = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)
    values = np.linalg.svd(products, compute_uv=False)
    if values[-1] < _WORST_CONDITION * values[0]:
        msg = (
            f"{path} has {count} directions at b = {shells} s/mm², but they lie nearly in a plane"
            " or on a cone, which leaves the tensor open. Check the .bvec file."
        )
        raise ScanError("gradients", msg)


def _count_directions(bvecs: FloatArray) -> int:
    """How many different axes there are."""
    distinct: list[FloatArray] = []
    for vector in bvecs:
        if all(abs(float(vector @ other)) < _SAME_DIRECTION for other in distinct):
            distinct.append(vector)
    return len(distinct)
