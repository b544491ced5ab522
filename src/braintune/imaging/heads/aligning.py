"""Linear registration of a scan to the template, by Gauss and Newton.

The template's intensities are explained by the scan's at the places that the map says, times a
factor, plus a constant; what is left over is made small, which is the same as making the
correlation large. All parameters move together, so a level takes about ten steps, without learning
rates, random samples or threads: the same scan gives the same map.

A map leads from the template's millimetres to the scan's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from braintune.heads_recipe import Registration
from braintune.imaging.heads.template import template_at
from braintune.imaging.nifti import Affine, Volume, spacing_of

Array = npt.NDArray[np.float64]
# Parameters are counted about the brain's middle, where turns and shifts are nearly independent.
_CENTER = np.array([0.0, -20.0, 10.0])
_FREEDOM = {"rigid": 6, "similarity": 7, "affine-9": 9, "affine-12": 12}
# Step of the numerical derivative of the map's entries, in each parameter's own unit.
_DIFFERENCE = 1e-4
_MOST_DAMPING = 1e4
# Left-over intensities beyond this, white matter near 0.9, count less and less (Cauchy's loss).
_OUTLIER = 0.2
# Share of the template's voxels that must lie within the scan.
_LEAST_SEEN = 0.3
_ENOUGH = 1e-4


@dataclass(frozen=True)
class Level:
    """One resolution of a registration.

    Attributes:
        spacing: The template's voxels, in millimetres; the scan is blurred to them.
        margin: How far around the template's brain is compared, in millimetres.
        every: One in so many of these voxels is looked at.
        steps: Most steps.
        robust: Whether voxels that do not fit count less, as those of the skull or a lesion.
    """

    spacing: float
    margin: float = 6.0
    every: int = 1
    steps: int = 20
    robust: bool = True


@dataclass(frozen=True)
class _State:
    error: float
    left: Array
    weight: Array
    values: Array
    factor: float
    places: Array


def align(scan: Volume, start: Affine, kind: Registration, level: Level) -> tuple[Affine, float]:
    """Improve a map from the template's millimetres to the scan's.

    Args:
        scan: The scan.
        start: A map near the right one; what ``kind`` can't express of it is dropped.
        kind: The degrees of freedom.
        level: The resolution.

    Returns:
        The map, of shape (4, 4), and the loss of the intensities that it leaves unexplained,
        infinite if the template lies outside of the scan.
    """
    problem = _Problem(scan, level)
    build, parameters = _parametrised(start, kind)
    state = problem.state(build(parameters))
    damping = 1e-3
    for _ in range(level.steps if np.isfinite(state.error) else 0):
        jacobian = problem.jacobian(state, _derivatives(build, parameters))
        better = None
        while better is None and damping < _MOST_DAMPING:
            step = _step(jacobian, state, damping)
            trial = problem.state(build(parameters + step))
            if trial.error < state.error:
                better, damping = trial, max(damping / 5, 1e-6)
            else:
                damping *= 8
        if better is None:
            break
        gain = 1 - better.error / state.error
        parameters, state = parameters + step, better
        if gain < _ENOUGH:
            break
    return build(parameters), state.error


class _Problem:
    """What does not change while a map is improved."""

    def __init__(self, scan: Volume, level: Level) -> None:
        template = template_at(level.spacing)
        index = np.argwhere(template.outside <= level.margin)[:: level.every]
        self._wanted = template.t1[tuple(index.T)].astype(np.float64)
        self._points = index @ template.grid.affine[:3, :3].T + template.grid.affine[:3, 3]
        self._to_index = np.linalg.inv(scan.affine)
        ratio = np.maximum(level.spacing / spacing_of(scan.affine), 1.0)
        self._scan = ndimage.gaussian_filter(scan.data, np.sqrt(ratio**2 - 1) / 2.355)
        self._robust = level.robust

    def state(self, map_: Affine) -> _State:
        """How well a map explains the template."""
        whole = self._to_index @ map_
        places = (self._points @ whole[:3, :3].T + whole[:3, 3]).T
        size = np.array(self._scan.shape)[:, None]
        seen = np.all((places >= 0) & (places <= size - 1), axis=0)
        values = self._sample(places)
        if seen.mean() < _LEAST_SEEN:
            return _State(np.inf, values, values, values, 1.0, places)
        weight = seen.astype(np.float64)
        design = np.stack([values, np.ones_like(values)], axis=1)
        for _ in range(3 if self._robust else 1):
            weighted = design * weight[:, None]
            # A scan that is constant there explains nothing, but is no reason to fail.
            normal = weighted.T @ weighted + np.diag([1e-9, 1e-9])
            factor, constant = np.linalg.solve(normal, weighted.T @ (weight * self._wanted))
            left = self._wanted - factor * values - constant
            if self._robust:
                weight = seen / np.sqrt(1 + (left / _OUTLIER) ** 2)
        squares = (left[seen] / _OUTLIER) ** 2
        error = float((np.log1p(squares) if self._robust else squares).mean())
        return _State(error, left, weight, values, float(factor), places)

    def jacobian(self, state: _State, derivatives: list[Affine]) -> Array:
        """How the left-over intensities change with each parameter, the factor, the constant."""
        slopes = []
        for axis in range(3):
            ahead = np.zeros((3, 1))
            ahead[axis] = 0.5
            slopes.append(self._sample(state.places + ahead) - self._sample(state.places - ahead))
        gradient = np.stack(slopes, axis=1) @ self._to_index[:3, :3]
        columns = [
            -state.factor * ((self._points @ d[:3, :3].T + d[:3, 3]) * gradient).sum(axis=1)
            for d in derivatives
        ]
        return np.stack([*columns, -state.values, -np.ones_like(state.values)], axis=1)

    def _sample(self, places: Array) -> Array:
        values = ndimage.map_coordinates(self._scan, places, order=1, mode="constant", cval=0.0)
        return np.asarray(values, dtype=np.float64)


def _step(jacobian: Array, state: _State, damping: float) -> Array:
    weighted = jacobian * state.weight[:, None]
    normal = weighted.T @ weighted
    normal += np.diag(damping * normal.diagonal() + 1e-12)
    step = -np.linalg.solve(normal, weighted.T @ (state.weight * state.left))
    return np.asarray(step[:-2])


def _derivatives(build: Callable[[Array], Affine], parameters: Array) -> list[Affine]:
    """The derivative of a map's entries by each parameter."""
    here = build(parameters)
    steps = _DIFFERENCE * np.eye(len(parameters))
    return [(build(parameters + step) - here) / _DIFFERENCE for step in steps]


def _parametrised(start: Affine, kind: Registration) -> tuple[Callable[[Array], Affine], Array]:
    """Maps of a kind as a function of parameters, and the parameters next to a start.

    Scales are along the template's axes, then comes the turn: 9 degrees of freedom have no shear.
    """
    parameters = np.zeros(_FREEDOM[kind])
    if kind == "affine-12":

        def build_any(p: Array) -> Affine:
            return np.asarray(start @ _about_center(np.eye(3) + p[3:].reshape(3, 3), p[:3]))

        return build_any, parameters
    left, _, right = np.linalg.svd(start[:3, :3])
    turn = left @ right
    base = np.eye(4)
    base[:3, :3] = turn
    base[:3, 3] = start[:3, :3] @ _CENTER + start[:3, 3] - turn @ _CENTER
    stretch = np.log(np.diag(turn.T @ start[:3, :3]).clip(0.5, 2.0))
    if kind == "similarity":
        parameters[6] = stretch.mean()
    elif kind == "affine-9":
        parameters[6:] = stretch

    def build(p: Array) -> Affine:
        scales = np.exp(p[6:]) if len(p) > 6 else np.ones(1)
        linear = Rotation.from_rotvec(p[3:6]).as_matrix() * scales
        return np.asarray(base @ _about_center(linear, p[:3]))

    return build, parameters


def _about_center(linear: Array, shift: Array) -> Affine:
    map_ = np.eye(4)
    map_[:3, :3] = linear
    map_[:3, 3] = _CENTER + shift - linear @ _CENTER
    return map_
