"""Augmentation of whole batches on the device that trains.

Each scan draws from its own source of chance, so that a scan is changed in the same way whatever
batch, process or device it is in. All geometry is one interpolation: rotation, scale, shift, the
left–right flip, the crop and the elastic deformation only move a coarse lattice of control points,
which is spread over the voxels by three small matrix products. Blur, thick slices and ghosts are
one product an axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from braintune.imaging.acquisition import (
    Matrix,
    along_axes,
    blur_matrix,
    ghost_matrix,
    slice_matrix,
)
from braintune.training_recipe import AugmentRecipe

_CONTROL_VOXELS = 16
_BIAS_POINTS = 4
# Lines of k-space that a period of motion may span; two would add no phase.
_FEWEST_GHOSTS, _MOST_GHOSTS = 3, 10
# Each of these draws from a source of its own, so that one leaves the others' draws as they are.
_CROP, _BLUR, _SLICES, _GHOSTS, _CUTOUT = range(5)


@dataclass(frozen=True)
class Strength:
    """How far augmentation may go; every amount is the end of a range around no change.

    Attributes:
        flip: Probability of swapping left and right.
        rotate: Degrees about each axis.
        scale: Share of the size, along each axis.
        shift: Share of the image's extent, along each axis.
        elastic: Displacement of the control points, in voxels (standard deviation).
        gain: Share of the intensity.
        offset: Added to the intensity.
        gamma: Log of the exponent that bends intensities.
        bias: Log of a smooth field that multiplies intensities.
        noise: Standard deviation of white noise.
        crop: Share of each edge that is cut off at random ends; what is left fills the image.
        blur: Standard deviation of a Gaussian, in voxels.
        low_resolution: Voxels a slice along one axis; 1 is no change.
        ghosting: Phase of periodic motion along one axis, in radians; the two nearest ghosts have
            half so much of the intensity each.
        cutout: Edge of a box that is set to 0, as a share of each of the image's.
    """

    flip: float
    rotate: float
    scale: float
    shift: float
    elastic: float
    gain: float
    offset: float
    gamma: float
    bias: float
    noise: float
    crop: float = 0.0
    blur: float = 0.0
    low_resolution: float = 1.0
    ghosting: float = 0.0
    cutout: float = 0.0


_NOTHING = Strength(*[0.0] * 10)
STRENGTHS = {
    "none": None,
    "light": Strength(0.5, 3, 0.03, 0.03, 0.0, 0.05, 0.05, 0.0, 0.0, 0.02),
    "standard": Strength(0.5, 6, 0.06, 0.04, 0.5, 0.10, 0.10, 0.1, 0.1, 0.05),
    "heavy": Strength(
        *(0.5, 12, 0.12, 0.08, 1.0, 0.20, 0.20, 0.3, 0.3, 0.10),
        crop=0.1,
        blur=0.8,
        low_resolution=2.0,
        ghosting=0.3,
        cutout=0.2,
    ),
}


def strength_of(recipe: AugmentRecipe) -> Strength | None:
    """The amounts that a recipe means; None if nothing changes.

    Example:
        >>> strength_of(AugmentRecipe.model_validate({"strength": "none", "blur": 1})).blur
        1.0
    """
    strength = STRENGTHS[recipe.strength]
    if not recipe.amounts:
        return strength
    return replace(strength or _NOTHING, **recipe.amounts)


def augment(images: torch.Tensor, seeds: Sequence[int], strength: Strength) -> torch.Tensor:
    """Change every image of a batch at random.

    Args:
        images: Of shape (batch, channels, x, y, z), with 0 outside the brain.
        seeds: One a scan; the same seed changes a scan in the same way.
        strength: How far to go.

    Returns:
        New images of the same shape, on the same device.

    Example:
        >>> images = torch.rand(2, 1, 16, 16, 16)
        >>> once, twice = (augment(images, [1, 2], STRENGTHS["standard"]) for _ in range(2))
        >>> torch.equal(once, twice), torch.equal(once[0], images[0])
        (True, False)
    """
    draws = draws_of(seeds)
    shape = (images.shape[2], images.shape[3], images.shape[4])
    positions = positions_of(shape, seeds, draws, strength, images.device)
    images = F.grid_sample(images, positions, mode="bilinear", align_corners=True)
    return changed_intensities(images, seeds, draws, strength)


def draws_of(seeds: Sequence[int]) -> list[torch.Generator]:
    """The sources of chance of scans; geometry draws from them first, intensities after it."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def changed_intensities(
    images: torch.Tensor, seeds: Sequence[int], draws: list[torch.Generator], strength: Strength
) -> torch.Tensor:
    """Change the intensities of images that nobody else needs, but not where they are 0.

    Args:
        images: Of shape (batch, channels, x, y, z), moved already.
        seeds: One a scan.
        draws: Of the same seeds, after `positions_of`.
        strength: How far to go.
    """
    brain = images != 0
    images = _acquired(images, seeds, strength)
    images = _bent(images, draws, strength)
    # The interpolated images are ours alone, so they are changed in place.
    images.mul_(_field(images, draws, strength)).add_(_uniform(images, draws, strength.offset))
    if strength.noise:
        images.add_(_white(images, draws), alpha=strength.noise)
    images.mul_(brain)
    return _without_boxes(images, seeds, strength.cutout)


def positions_of(
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    draws: list[torch.Generator],
    strength: Strength,
    device: torch.device,
) -> torch.Tensor:
    """Where each voxel is taken from: control points, spread over all voxels on a device.

    Returns:
        Of shape (batch, x, y, z, 3), in the coordinates of `grid_sample`.
    """
    points = torch.stack(
        [
            _control_points(_lattice(shape, seed, strength.crop), shape, draw, strength)
            for seed, draw in zip(seeds, draws, strict=True)
        ]
    )
    points = points.to(device)
    # One axis after the other, the largest last, so that few numbers are touched twice.
    for axis, n in enumerate(shape):
        spread = _interpolation(points.shape[1 + axis], n).to(device)
        points = torch.tensordot(spread, points, dims=([1], [1 + axis])).movedim(0, 1 + axis)
    return points


def flipped(seeds: Sequence[int], strength: Strength) -> list[bool]:
    """Whether `positions_of` swaps left and right, for each scan."""
    found = []
    for draw in draws_of(seeds):
        _pose_numbers(draw)
        found.append(_is_flipped(draw, strength))
    return found


def _lattice(shape: tuple[int, int, int], seed: int, crop: float) -> torch.Tensor:
    """A coarse lattice over the image, or over a box within it, from -1 to 1; (x, y, z, 3)."""
    counts = [max(2, round(n / _CONTROL_VOXELS) + 1) for n in shape]
    axes = [torch.linspace(-1, 1, count) for count in counts]
    lattice = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    if not crop:
        return lattice
    random = np.random.default_rng((seed, _CROP))
    edge = 1 - crop * random.random()
    middle = (1 - edge) * random.uniform(-1, 1, 3)
    return edge * lattice + torch.from_numpy(middle).float()


def _control_points(
    lattice: torch.Tensor, shape: tuple[int, int, int], draw: torch.Generator, strength: Strength
) -> torch.Tensor:
    """The lattice moved, (x, y, z, 3), in the coordinates of grid_sample."""
    half = torch.tensor([(n - 1) / 2 for n in shape])
    u = _pose_numbers(draw)
    angles = torch.deg2rad(u[:3] * strength.rotate)
    zoom = torch.exp(u[3:6] * strength.scale)
    if _is_flipped(draw, strength):
        zoom[0] = -zoom[0]
    matrix = _rotation(angles) * zoom
    lattice = (lattice * half) @ matrix.T + 2 * half * strength.shift * u[6:]
    if strength.elastic:
        lattice = lattice + strength.elastic * torch.randn(lattice.shape, generator=draw)
    # grid_sample wants the last axis first.
    return (lattice / half).flip(-1)


def _pose_numbers(draw: torch.Generator) -> torch.Tensor:
    """Angles, sizes and shifts, each evenly from -1 to 1."""
    return 2 * torch.rand(9, generator=draw) - 1


def _is_flipped(draw: torch.Generator, strength: Strength) -> bool:
    return bool(torch.rand(1, generator=draw) < strength.flip)


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    x, y, z = angles
    skew = torch.zeros(3, 3)
    skew[0, 1], skew[0, 2], skew[1, 2] = -z, y, -x
    return torch.linalg.matrix_exp(skew - skew.T)


@lru_cache(maxsize=32)
def _interpolation(count: int, n: int) -> torch.Tensor:
    """The matrix that interpolates n values linearly from count evenly spaced ones."""
    position = np.linspace(0, count - 1, n)
    lower = np.minimum(position.astype(int), count - 2)
    matrix = np.zeros((n, count), dtype=np.float32)
    matrix[np.arange(n), lower] = 1 - (position - lower)
    matrix[np.arange(n), lower + 1] += position - lower
    return torch.from_numpy(matrix)


def _acquired(images: torch.Tensor, seeds: Sequence[int], strength: Strength) -> torch.Tensor:
    """Blur, thick slices and ghosts."""
    if not (strength.blur or strength.low_resolution > 1 or strength.ghosting):
        return images
    shape = images.shape[2:]
    return along_axes(images, [_acquisition(shape, seed, strength) for seed in seeds])


def _acquisition(shape: Sequence[int], seed: int, strength: Strength) -> list[Matrix | None]:
    """What one scan is multiplied by along each axis."""
    found: list[Matrix | None] = [None] * 3
    if strength.blur:
        sigma = strength.blur * np.random.default_rng((seed, _BLUR)).random()
        found = [blur_matrix(n, sigma) for n in shape]
    if strength.low_resolution > 1:
        random = np.random.default_rng((seed, _SLICES))
        axis, factor = int(random.integers(3)), random.uniform(1, strength.low_resolution)
        thick = slice_matrix(shape[axis], max(1, round(shape[axis] / factor)))
        found[axis] = _product(thick, found[axis])
    if strength.ghosting:
        random = np.random.default_rng((seed, _GHOSTS))
        axis, phase = int(random.integers(3)), strength.ghosting * random.random()
        ghosts = int(random.integers(_FEWEST_GHOSTS, _MOST_GHOSTS + 1))
        found[axis] = _product(ghost_matrix(shape[axis], ghosts, phase), found[axis])
    return found


def _product(after: Matrix, before: Matrix | None) -> Matrix:
    return after if before is None else after @ before


def _without_boxes(images: torch.Tensor, seeds: Sequence[int], cutout: float) -> torch.Tensor:
    """Cutout (DeVries and Taylor 2017, arXiv 1708.04552): set a box of each image to 0, in place.

    The box is of the image's form and lies within it.
    """
    if not cutout:
        return images
    for image, seed in zip(images, seeds, strict=True):
        random = np.random.default_rng((seed, _CUTOUT))
        share = cutout * random.random()
        edges = [round(share * n) for n in images.shape[2:]]
        starts = [
            int(random.integers(n - e + 1)) for n, e in zip(image.shape[1:], edges, strict=True)
        ]
        image[(slice(None), *(slice(s, s + e) for s, e in zip(starts, edges, strict=True)))] = 0
    return images


def _bent(images: torch.Tensor, draws: list[torch.Generator], strength: Strength) -> torch.Tensor:
    """Gamma: bend the intensities between the least and the largest of each image."""
    if not strength.gamma:
        return images
    exponents = torch.exp(_uniform(images, draws, strength.gamma))
    low = images.amin(dim=(1, 2, 3, 4), keepdim=True)
    width = (images.amax(dim=(1, 2, 3, 4), keepdim=True) - low).clamp_min(1e-6)
    return ((images - low) / width) ** exponents * width + low


def _field(images: torch.Tensor, draws: list[torch.Generator], strength: Strength) -> torch.Tensor:
    """What intensities are multiplied by: one gain, and a smooth bias field."""
    gain = 1 + _uniform(images, draws, strength.gain)
    if not strength.bias:
        return gain
    coarse = torch.stack([torch.randn([_BIAS_POINTS] * 3, generator=draw) for draw in draws]).to(
        images.device
    )
    for axis, n in enumerate(images.shape[2:]):
        spread = _interpolation(_BIAS_POINTS, n).to(images.device)
        coarse = torch.tensordot(spread, coarse, dims=([1], [1 + axis])).movedim(0, 1 + axis)
    return gain * torch.exp(strength.bias * coarse)[:, None]


def _uniform(images: torch.Tensor, draws: list[torch.Generator], reach: float) -> torch.Tensor:
    """One number a scan, evenly from -reach to reach, of shape (batch, 1, 1, 1, 1)."""
    values = torch.stack([torch.rand(1, generator=draw) for draw in draws])
    return ((2 * values - 1) * reach).view(-1, 1, 1, 1, 1).to(images.device)


def _white(images: torch.Tensor, draws: list[torch.Generator]) -> torch.Tensor:
    """White noise of unit variance, drawn on the images' device."""
    noise = torch.empty_like(images, memory_format=torch.contiguous_format)
    for row, draw in zip(noise, draws, strict=True):
        seed = int(torch.randint(2**62, (1,), generator=draw))
        row.normal_(generator=torch.Generator(images.device).manual_seed(seed))
    return noise
