"""What a scanner makes of ideal intensities: blur, thick slices, ghosts, bias field, noise, gamma.

Blur, thick slices and ghosts are linear and act along one axis, so each is a small matrix, and an
axis takes one product with all three. The bias field is a few cosines along each axis.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from braintune.synthesis.labelmaps.options import ScannerOptions

_SIGMA_PER_FWHM = 1 / 2.355
# Lines of k-space between two weakened ones.
_GHOST_PERIODS = (2, 3, 4, 6)
_BIAS_WAVES = 4

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Acquisition:
    """What is drawn for one scan.

    Attributes:
        matrices: What is done along each axis, of shape (n, n) for n voxels.
        bias: Weights of the bias field's cosines, of shape (waves, waves, waves).
        noise: Standard deviation of the noise in both channels.
        gamma: Exponent of the intensities.
    """

    matrices: tuple[Matrix, Matrix, Matrix]
    bias: Matrix
    noise: float
    gamma: float


def draw_acquisition(
    chance: np.random.Generator, shape: tuple[int, int, int], options: ScannerOptions
) -> Acquisition:
    """Draw what a scanner does to a scan of some shape."""
    blur, noise, thickness, ghosting = chance.random(4)
    thick = chance.random() < options.thick_share
    ghosts = chance.random() < options.ghosting_share
    slice_axis, phase_axis = chance.integers(0, 3, 2)
    period = int(chance.choice(_GHOST_PERIODS))
    matrices = []
    for axis, n in enumerate(shape):
        matrix = blurring(n, options.blur * blur)
        if thick and axis == slice_axis:
            matrix = thick_slices(n, 1 + (options.thick - 1) * thickness) @ matrix
        if ghosts and axis == phase_axis:
            matrix = ghosting_of(n, options.ghosting * ghosting, period) @ matrix
        matrices.append(matrix)
    return Acquisition(
        (matrices[0], matrices[1], matrices[2]),
        draw_bias(chance, options.bias * chance.random()),
        options.noise * noise,
        float(np.exp(options.gamma * chance.uniform(-1, 1))),
    )


def blurring(n: int, fwhm: float) -> Matrix:
    """The matrix that blurs n voxels with a Gaussian; a constant stays as it is.

    Args:
        n: How many voxels.
        fwhm: Full width at half maximum, in voxels.
    """
    sigma = fwhm * _SIGMA_PER_FWHM
    if sigma < 0.2:
        return np.eye(n)
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    kernel = np.exp(-0.5 * (distance / sigma) ** 2)
    # Numbers too small for float32 change nothing, and slow processors down.
    kernel[kernel < 1e-9] = 0
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True))


def thick_slices(n: int, thickness: float) -> Matrix:
    """The matrix that images n voxels in thicker slices, and interpolates them linearly.

    Args:
        n: How many voxels.
        thickness: Of a slice and from slice to slice, in voxels.

    Example:
        >>> (thick_slices(4, 2.0) @ [0.0, 0.0, 1.0, 1.0]).tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    count = max(2, round(n / thickness))
    edges = np.linspace(0, n, count + 1)
    voxels = np.arange(n)
    # The share of each slice that each voxel fills.
    upper = np.minimum(edges[1:, None], voxels + 1)
    lower = np.maximum(edges[:-1, None], voxels)
    averages = np.clip(upper - lower, 0, None) * (count / n)
    position = np.clip((voxels + 0.5) * count / n - 0.5, 0, count - 1)
    below = np.minimum(position.astype(int), count - 2)
    spread = np.zeros((n, count))
    spread[voxels, below] = 1 - (position - below)
    spread[voxels, below + 1] += position - below
    return spread @ averages


def ghosting_of(n: int, strength: float, period: int) -> Matrix:
    """The matrix that weakens every few lines of k-space, which repeats the image along the axis.

    The line in the middle, the mean, is kept.

    Args:
        n: How many voxels.
        strength: Share by which lines are weakened.
        period: Lines from one weakened line to the next.
    """
    line = np.abs(np.fft.fftfreq(n, 1 / n)).round().astype(int)
    weight = np.where((line % period == 0) & (line > 0), 1 - strength, 1.0)
    kernel = np.fft.ifft(weight).real
    return np.asarray(kernel[np.subtract.outer(np.arange(n), np.arange(n)) % n])


def draw_bias(chance: np.random.Generator, size: float) -> Matrix:
    """Draw the weights of a smooth field.

    Args:
        chance: Where they are drawn from.
        size: Standard deviation of the field over the volume.
    """
    wave = np.arange(_BIAS_WAVES)
    order = wave[:, None, None] + wave[:, None] + wave
    weights = np.where((order > 0) & (order < _BIAS_WAVES), chance.standard_normal(order.shape), 0)
    weights = weights / np.maximum(order, 1)
    # The mean square of a cosine is 1/2, that of the constant 1.
    power = np.where(wave > 0, 0.5, 1.0)
    total = (weights**2 * power[:, None, None] * power[:, None] * power).sum()
    return np.asarray(size * weights / np.sqrt(total))


def cosines(n: int) -> Matrix:
    """The first cosines along an axis, of shape (n, waves)."""
    place = (np.arange(n) + 0.5) / n
    return np.cos(np.pi * np.outer(place, np.arange(_BIAS_WAVES)))


def along_axes(image: torch.Tensor, matrices: tuple[Matrix, ...]) -> torch.Tensor:
    """Apply one matrix along each axis of an image of shape (x, y, z)."""
    x, y, z = (torch.from_numpy(m.astype(np.float32)).to(image.device) for m in matrices)
    seen = y @ (image @ z.T)
    return (x @ seen.flatten(1)).unflatten(1, seen.shape[1:])


def bias_field(shape: tuple[int, int, int], weights: torch.Tensor) -> torch.Tensor:
    """What intensities are multiplied by: the exponential of the weighted cosines."""
    return along_axes(weights, tuple(cosines(n) for n in shape)).exp_()


def acquire(image: torch.Tensor, drawn: Acquisition, chance: torch.Generator) -> torch.Tensor:
    """The image of a scanner.

    Args:
        image: Ideal intensities, of shape (x, y, z).
        drawn: What the scanner does.
        chance: The source of noise, on the image's device.

    Returns:
        Magnitudes, of the same shape: the noise is Rician.
    """
    weights = torch.from_numpy(drawn.bias.astype(np.float32)).to(image.device)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    seen = along_axes(image * bias_field(shape, weights), drawn.matrices)
    if drawn.noise > 0:
        seen = seen.add_(white_noise(image, chance), alpha=drawn.noise)
        seen = torch.hypot(seen, white_noise(image, chance).mul_(drawn.noise))
    return seen.clamp_(min=0).pow_(drawn.gamma)


def white_noise(like: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Independent normal numbers of an image's shape, on its device."""
    return torch.empty_like(like).normal_(generator=chance)
