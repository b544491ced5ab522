"""Where each voxel of a scan is taken from in its anatomy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from braintune.synthesis.deformation import sample
from braintune.synthesis.labelmaps.options import GeometryOptions


@dataclass(frozen=True)
class Pose:
    """An affine map from millimetres in the scan to millimetres in the anatomy, from the middle.

    Attributes:
        matrix: Of shape (3, 3).
        shift: Of shape (3,).
        flipped: Whether left and right are swapped.
    """

    matrix: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    flipped: bool


def draw_pose(
    chance: np.random.Generator, options: GeometryOptions, head: float, may_flip: bool
) -> Pose:
    """Draw how a head lies in the scanner, and how large it is.

    Args:
        chance: Where it is drawn from.
        options: How far each may go.
        head: Log of how many times larger the head is made.
        may_flip: Whether the labels allow to swap left and right.

    Example:
        >>> pose = draw_pose(np.random.default_rng(0), GeometryOptions(flip=0), 0.3, False)
        >>> round(float(np.log(np.linalg.det(np.linalg.inv(pose.matrix)))), 6)
        0.3
    """
    u = chance.uniform(-1, 1, 12)
    zoom = options.scale * u[3:6]
    sheared = np.eye(3)
    sheared[np.triu_indices(3, 1)] = options.shear * u[6:9]
    # The anatomy's scale keeps its volume, so that the planted head size is exact.
    zoom = np.exp(zoom - zoom.mean() - head / 3)
    matrix = _rotation(np.deg2rad(options.rotation * u[:3])) @ np.diag(zoom) @ sheared
    flipped = bool(chance.random() < options.flip) and may_flip
    if flipped:
        matrix[0] *= -1
    return Pose(matrix, options.shift * u[9:], flipped)


def _rotation(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


@dataclass(frozen=True)
class View:
    """The grids of a scan, of its anatomy and of the anatomy's lattice, all with one middle.

    Attributes:
        shape: Voxels of the scan.
        spacing: Voxel size of the scan, in millimetres.
        source: Voxels of the anatomy.
        source_spacing: Voxel size of the anatomy, in millimetres.
        factor: Voxels of the anatomy between two points of its lattice.
    """

    shape: tuple[int, int, int]
    spacing: float
    source: tuple[int, int, int]
    source_spacing: float
    factor: int


def source_positions(view: View, pose: Pose, displacement: torch.Tensor) -> torch.Tensor:
    """Positions in the anatomy of all voxels of the scan.

    They are computed at every few voxels, and in between by linear interpolation.

    Args:
        view: The grids.
        pose: The affine map.
        displacement: On the anatomy's lattice, in lattice points, of shape (1, 3, x, y, z).

    Returns:
        In voxels of the anatomy, of shape (3, x, y, z).
    """
    device = displacement.device
    step = max(1, round(view.factor * view.source_spacing / view.spacing))
    axes = [torch.arange(0, n - 1 + step, step, dtype=torch.float32) for n in view.shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    points = points.to(device)
    middle = _middle(view.shape, device)
    matrix = torch.from_numpy(pose.matrix).to(device, torch.float32)
    shift = torch.from_numpy(pose.shift).to(device, torch.float32)
    millimetres = (points.flatten(1) - middle) * view.spacing
    inside = matrix @ millimetres + shift[:, None]
    lattice = inside / (view.source_spacing * view.factor)
    half = _middle(displacement.shape[2:], device).clamp_min(0.5)
    where = (lattice / half).flip(0).T.view(1, *points.shape[1:], 3)
    moved = sample(displacement, where)[0].flatten(1) * view.factor
    source = inside / view.source_spacing + _middle(view.source, device) + moved
    return _spread(source.view(points.shape), view.shape, step)


def _middle(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor([(n - 1) / 2 for n in shape], device=device)[:, None]


def _spread(points: torch.Tensor, shape: tuple[int, int, int], step: int) -> torch.Tensor:
    """Values at every few voxels, spread over all of them, one axis after the other."""
    if step == 1:
        return points
    x, y, z = (_interpolation(n, step).to(points.device) for n in shape)
    spread = y @ (points @ z.T)
    return (x @ spread.flatten(2)).unflatten(2, spread.shape[2:])


@lru_cache(maxsize=32)
def _interpolation(n: int, step: int) -> torch.Tensor:
    """The matrix that interpolates n voxels linearly from every few."""
    position = np.arange(n) / step
    count = len(range(0, n - 1 + step, step))
    lower = np.minimum(position.astype(int), max(count - 2, 0))
    matrix = np.zeros((n, count), dtype=np.float32)
    matrix[np.arange(n), lower] = 1 - (position - lower)
    matrix[np.arange(n), np.minimum(lower + 1, count - 1)] += position - lower
    return torch.from_numpy(matrix)


def gathered(labels: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """The nearest labels.

    Args:
        labels: Of one anatomy, of shape (x, y, z), with a border of background.
        where: From `source_positions`.

    Returns:
        Of the shape of a scan.
    """
    x, y, z = (
        axis.round().clamp_(0, n - 1).int() for axis, n in zip(where, labels.shape, strict=True)
    )
    flat = x.mul_(labels.shape[1]).add_(y).mul_(labels.shape[2]).add_(z)
    return labels.flatten().index_select(0, flat.flatten()).view(flat.shape)


def interpolated(image: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Intensities in between voxels, by linear interpolation.

    Args:
        image: Of one anatomy, of shape (x, y, z).
        where: From `source_positions`.
    """
    half = torch.tensor([max(n - 1, 1) / 2 for n in image.shape], device=image.device)
    grid = (where.movedim(0, 3) / half - 1).flip(3)
    return torch.nn.functional.grid_sample(
        image[None, None], grid[None], padding_mode="border", align_corners=True
    )[0, 0]
