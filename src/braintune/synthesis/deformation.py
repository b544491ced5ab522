"""Smooth, invertible deformations that grow and shrink chosen regions by a planned amount.

A region is grown by a velocity field whose divergence is that region: the gradient of the solution
of Poisson's equation. A partner region gives way in return, so the head keeps its size. Fields add
up, and the exponential of a stationary velocity field is invertible (Arsigny et al., MICCAI 2006),
so effects of age, disease and chance combine without folding.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from braintune.imaging.nifti import FloatArray
from braintune.synthesis.anatomy import Anatomy

_SQUARINGS = 3
# A region's edge is softened by this much, in millimetres, so that the field can be sampled.
_SOFT_MM = 1.5


@dataclass(frozen=True)
class GrowthFields:
    """Velocity fields, one a region; with amplitude a, the region's volume grows about e^a-fold.

    Attributes:
        names: The regions, in the order of the fields.
        fields: In voxels, of shape (regions, 3, x, y, z).
        spacing: Voxel size in millimetres.
    """

    names: tuple[str, ...]
    fields: torch.Tensor
    spacing: float


def growth_fields(anatomy: Anatomy, gives_way: dict[str, str]) -> GrowthFields:
    """Solve for the velocity fields of some regions of an anatomy.

    Args:
        anatomy: The template.
        gives_way: For each region that grows, the region that shrinks in return.
    """
    spacing = float(abs(anatomy.affine[0, 0]))
    fields = [
        _field(anatomy.regions[name], anatomy.regions[partner], spacing)
        for name, partner in gives_way.items()
    ]
    return GrowthFields(tuple(gives_way), torch.from_numpy(np.stack(fields)), spacing)


def _field(region: FloatArray, partner: FloatArray, spacing: float) -> FloatArray:
    """The curl-free field whose divergence is the region, made up for in its partner."""
    divergence = ndimage.gaussian_filter(region, _SOFT_MM / spacing).astype(np.float64)
    rest = ndimage.gaussian_filter(partner * (1 - region), _SOFT_MM / spacing).astype(np.float64)
    divergence -= rest * divergence.sum() / rest.sum()
    spectrum = np.fft.rfftn(divergence)
    waves = np.meshgrid(
        *[np.fft.fftfreq(n) for n in divergence.shape[:2]],
        np.fft.rfftfreq(divergence.shape[2]),
        indexing="ij",
    )
    square = sum(wave**2 for wave in waves)
    square[0, 0, 0] = 1.0
    potential = -spectrum / (4 * np.pi**2 * square)
    potential[0, 0, 0] = 0.0
    field = [
        np.fft.irfftn(2j * np.pi * wave * potential, s=divergence.shape, axes=(0, 1, 2))
        for wave in waves
    ]
    gain = float((divergence * region).sum() / region.sum())
    return (np.stack(field) / gain).astype(np.float32)


def smooth_noise(
    shape: tuple[int, int, int], scale: float, generator: torch.Generator, channels: int = 3
) -> torch.Tensor:
    """Random fields of unit variance that vary over ``scale`` voxels.

    Returns:
        Of shape (channels, x, y, z).
    """
    coarse = [max(2, round(n / scale) + 1) for n in shape]
    noise = torch.randn(1, channels, *coarse, generator=generator)
    field = F.interpolate(noise, shape, mode="trilinear", align_corners=True)[0]
    return field / field.std().clamp_min(1e-6)


def exponential(velocity: torch.Tensor) -> torch.Tensor:
    """Displacements of the flow of stationary velocities after unit time, by scaling and squaring.

    Args:
        velocity: In voxels, of shape (batch, 3, x, y, z).

    Returns:
        Displacements in voxels, of the same shape.
    """
    displacement = velocity / 2**_SQUARINGS
    for _ in range(_SQUARINGS):
        displacement = displacement + sample(displacement, positions(displacement))
    return displacement


def positions(displacement: torch.Tensor, affine: torch.Tensor | None = None) -> torch.Tensor:
    """Where each voxel of a deformed image is taken from, for `sample`.

    Args:
        displacement: In voxels, of shape (batch, 3, x, y, z).
        affine: Where given, displaced positions are mapped by these, of shape (batch, 3, 4), in
            voxels from the middle of the grid.

    Returns:
        Of shape (batch, x, y, z, 3), in the coordinates of `torch.nn.functional.grid_sample`.
    """
    shape = displacement.shape[2:]
    device = displacement.device
    axes = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in shape]
    position = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement
    if affine is not None:
        moved = affine[:, :, :3] @ position.flatten(2) + affine[:, :, 3:]
        position = moved.unflatten(2, shape)
    half = torch.tensor([(n - 1) / 2 for n in shape], device=device).view(1, 3, 1, 1, 1)
    # grid_sample wants the last axis first.
    return (position / half).flip(1).permute(0, 2, 3, 4, 1)


def sample(images: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Images at the given positions, linearly interpolated, 0 outside.

    Args:
        images: Of shape (batch, channels, x, y, z).
        where: From `positions`.
    """
    return F.grid_sample(images, where, align_corners=True)
