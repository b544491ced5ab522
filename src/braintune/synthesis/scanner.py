"""Simulated scanners: sites differ in contrast, noise, bias field and resolution."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from braintune.synthesis.deformation import smooth_noise

# The standard deviation of a Gaussian in units of its full width at half maximum.
_SIGMA_PER_FWHM = 1 / 2.355


@dataclass(frozen=True)
class Scanner:
    """What a site does to every image.

    Attributes:
        gamma: Exponent of the intensities; grey matter grows darker as it rises.
        noise: Standard deviation of the Rician noise, white matter being 1.
        bias: Standard deviation of the log of the bias field.
        blur: Full width at half maximum of the blur, in millimetres.
        gain: The number that white matter gets.
    """

    gamma: float
    noise: float
    bias: float
    blur: float
    gain: float


def draw_scanner(seed: int, site: int) -> Scanner:
    """Draw the scanner of a site."""
    generator = np.random.default_rng([seed, 3, site])
    return Scanner(
        gamma=float(generator.uniform(0.8, 1.3)),
        noise=float(generator.uniform(0.02, 0.05)),
        bias=float(generator.uniform(0.04, 0.12)),
        blur=float(generator.uniform(1.0, 3.0)),
        gain=float(generator.uniform(400, 1600)),
    )


def acquire(
    image: torch.Tensor,
    brain: torch.Tensor,
    scanner: Scanner,
    spacing: float,
    generator: torch.Generator,
) -> torch.Tensor:
    """What a scanner makes of an ideal image.

    Args:
        image: Ideal intensities, white matter near 1, of shape (x, y, z).
        brain: The mask outside of which the result is 0, of shape (x, y, z).
        scanner: The site's properties.
        spacing: Voxel size in millimetres.
        generator: The source of noise.

    Returns:
        Intensities as a scanner would store them, of shape (x, y, z).
    """
    shape = (image.shape[0], image.shape[1], image.shape[2])
    seen = _blurred(image.clamp_min(0) ** scanner.gamma, scanner.blur / spacing)
    field = smooth_noise(shape, 70 / spacing, generator, channels=1)[0]
    seen = seen * torch.exp(scanner.bias * field)
    real = seen + scanner.noise * torch.randn(shape, generator=generator)
    imaginary = scanner.noise * torch.randn(shape, generator=generator)
    return scanner.gain * torch.hypot(real, imaginary) * brain


def _blurred(image: torch.Tensor, fwhm: float) -> torch.Tensor:
    """Gaussian blur, one axis after the other; the width is in voxels."""
    sigma = fwhm * _SIGMA_PER_FWHM
    reach = max(1, int(np.ceil(2.5 * sigma)))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    result = image[None, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(kernel)
        padding = [0, 0, 0]
        padding[axis] = reach
        result = F.conv3d(result, kernel.view(shape), padding=padding)
    return result[0, 0]
